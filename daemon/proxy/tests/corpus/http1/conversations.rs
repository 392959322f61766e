//! Several messages on one connection, responses that come early or unasked, and what is no HTTP/1 at all.

use super::Step::{C, ClientFin, ClientReset, S, ServerFin, ServerReset};
use super::{
    BAD_REQUEST, Case, GET, HEAD, OK, POST, WHOLE, blind, case, malformed, ok, opaque, passed, server_aborted, spoke,
};

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("three requests, one after the other", &[GET, OK, POST, OK, GET, OK], &[ok(200, 0, 2), ok(200, 5, 2), ok(200, 0, 2)], WHOLE),
    case("three requests at once", &[C(b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /3 HTTP/1.1\r\n\r\n"), OK, OK, OK], &[ok(200, 0, 2), ok(200, 5, 2), ok(200, 0, 2)], WHOLE),
    case("three requests at once, answered at once", &[C(b"GET /1 HTTP/1.1\r\n\r\nHEAD /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n"), S(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")], &[ok(200, 0, 1), ok(200, 0, 0), ok(200, 0, 3)], WHOLE),
    case("the second request while the first is answered", &[GET, S(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"), HEAD, S(b"cdHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")], &[ok(200, 0, 4), ok(200, 0, 0)], WHOLE),
    case("pipelined requests and a body until close", &[GET, GET, answer!("", "rest"), ServerFin, ClientFin], &[ok(200, 0, 4), server_aborted(0, 0, 0)], WHOLE),
    case("a good request before an ambiguous one", &[C(b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), OK, BAD_REQUEST], &[ok(200, 0, 2), malformed(400, 0, 2)], blind("values that differ")),
    case("requests behind an ambiguous one", &[C(b"POST /1 HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"), BAD_REQUEST], &[malformed(400, 0, 2)], blind("both")),
    case("requests behind garbage", &[C(b"GET /1 HTTP/1.1\r\n\r\nwhat?\r\n\r\nGET /3 HTTP/1.1\r\n\r\n"), OK, BAD_REQUEST], &[ok(200, 0, 2), malformed(400, 0, 2)], blind("invalid start line")),
    case("an ambiguous response with requests waiting", &[GET, GET, answer!("Content-Length: 1\r\nContent-Length: 2\r\n", "ab")], &[malformed(200, 0, 0), passed(0, 0, 0)], blind("response has several")),
    case("413 while the body flows", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), S(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"), ServerFin, ClientFin], &[ok(413, 5, 2)], WHOLE),
    case("413, and the server resets", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), S(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"), ServerReset], &[ok(413, 5, 2)], WHOLE),
    case("413, and the client sends on", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), S(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"), C(b"world"), GET, OK], &[ok(413, 10, 2), ok(200, 0, 2)], WHOLE),
    case("an early response until close", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), S(b"HTTP/1.1 500 Oops\r\n\r\nno"), ServerFin, ClientFin], &[ok(500, 5, 2)], WHOLE),
    case("an early response, and the client resets", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), S(b"HTTP/1.1 401 Who\r\nContent-Length: 2\r\n\r\nno"), ClientReset], &[ok(401, 5, 2)], WHOLE),
    case("a response that grows while the body flows", &[C(b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"), S(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"), C(b"2\r\ncd\r\n"), S(b"2\r\ncd\r\n"), C(b"0\r\n\r\n"), S(b"0\r\n\r\n")], &[ok(200, 4, 4)], WHOLE),
    case("408 in the middle of a head", &[C(b"GET / HTTP/1.1\r\nHo"), S(b"HTTP/1.1 408 Timeout\r\nContent-Length: 2\r\n\r\nno"), ServerFin, ClientFin], &[ok(408, 0, 2)], WHOLE),
    case("408 in the middle of a HEAD", &[C(b"HEAD / HTTP/1.1\r\nHo"), S(b"HTTP/1.1 408 Timeout\r\nContent-Length: 2\r\n\r\n"), ServerFin, ClientFin], &[ok(408, 0, 0)], WHOLE),
    case("400 to the first letters", &[C(b"GE"), S(b"HTTP/1.1 400 What\r\nContent-Length: 2\r\n\r\nno"), ServerFin, ClientFin], &[ok(400, 0, 2)], WHOLE),
    case("a head that goes on behind its response", &[C(b"GET / HTTP/1.1\r\nHo"), S(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), C(b"st: x\r\n\r\n"), GET, OK], &[ok(200, 0, 2), ok(200, 0, 2)], WHOLE),
    case("408 to an idle connection", &[GET, OK, S(b"HTTP/1.1 408 Timeout\r\nConnection: close\r\n\r\n")], &[ok(200, 0, 2)], blind("response came although no request")),
    case("a second response to one request", &[GET, S(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), GET, OK], &[ok(200, 0, 0)], blind("response came although no request")),
    case("a second response while the request goes on", &[C(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhi"), OK, OK], &[ok(200, 2, 2)], blind("response came although no request")),
    case("the server speaks first", &[S(b"220 mail ESMTP\r\n"), C(b"EHLO me\r\n"), S(b"250 ok\r\n")], &[], opaque("tcp", "server spoke first")),
    case("the server speaks HTTP first", &[S(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), GET], &[], opaque("tcp", "server spoke first")),
    case("a command that looks like a method", &[C(b"PING\r\n"), S(b"+PONG\r\n")], &[], opaque("tcp", "begins like no protocol")),
    case("a command with an argument", &[C(b"USER joe\r\n"), S(b"331 password\r\n")], &[], opaque("tcp", "begins like no protocol")),
    case("a command answered before its line is whole", &[C(b"USER"), S(b"-ERR\r\n")], &[], opaque("tcp", "server answered before")),
    case("bytes that are no text", &[C(b"\x00\x00\x00\x2f"), S(b"\x00")], &[], opaque("tcp", "begins like no protocol")),
    case("a request line that begins with a space", &[C(b" GET / HTTP/1.1\r\n\r\n"), BAD_REQUEST], &[], opaque("tcp", "begins like no protocol")),
    case("HTTP/2 with prior knowledge", &[C(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"), S(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")], &[], spoke("h2", "No request was made")),
    case("TLS that is cut short", &[C(b"\x16\x03\x01\x00\x30\x01\x00"), ServerFin, ClientFin], &[], opaque("tls", "TLS that was not opened")),
    case("TLS that is refused", &[C(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"), S(b"\x15\x03\x03\x00\x02\x02\x28")], &[], opaque("tls", "alert handshake_failure")),
    case("a record of TLS that is no hello", &[C(b"\x16\x03\x01\x00\x05\x0e\x00\x00\x01\x00"), S(b"x")], &[], opaque("tls", "could not be read")),
    case("nothing at all", &[], &[], opaque("tcp", "No byte was sent")),
    case("empty lines only", &[C(b"\r\n\r\n")], &[], opaque("tcp", "ended before it could be told")),
    case("the first letters only", &[C(b"GE")], &[], opaque("tcp", "ended before it could be told")),
];
