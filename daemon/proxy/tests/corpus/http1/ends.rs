//! Who ends a connection in the middle of what: FIN, half-close, reset.

use super::Step::{C, ClientFin, ClientReset, S, ServerFin, ServerReset};
use super::{
    BAD_REQUEST, Case, GET, OK, POST, WHOLE, blind, case, client_aborted, malformed, ok, opaque, server_aborted,
};

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("the client closes in its request line", &[C(b"GET /long"), ClientFin, ServerFin], &[client_aborted(0, 0, 0)], WHOLE),
    case("the client closes in its head", &[C(b"GET / HTTP/1.1\r\nHost: x\r\n"), ClientFin, ServerFin], &[client_aborted(0, 0, 0)], WHOLE),
    case("the client closes in its body", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), ClientFin, ServerFin], &[client_aborted(0, 5, 0)], WHOLE),
    case("the client closes in its chunks", &[chunks!("5\r\nhello\r\n"), ClientFin, ServerFin], &[client_aborted(0, 5, 0)], WHOLE),
    case("the client closes before its last line end", &[chunks!("5\r\nhello\r\n0\r\n"), ClientFin, ServerFin], &[client_aborted(0, 5, 0)], WHOLE),
    case("the client closes in its body, and is answered", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), ClientFin, BAD_REQUEST, ServerFin], &[client_aborted(400, 5, 2)], WHOLE),
    case("the client resets in its body", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), ClientReset], &[client_aborted(0, 5, 0)], WHOLE),
    case("the client resets before the response", &[POST, ClientReset], &[client_aborted(0, 5, 0)], WHOLE),
    case("the client resets in the response", &[GET, answer!("Content-Length: 10\r\n", "hello"), ClientReset], &[client_aborted(200, 0, 5)], WHOLE),
    case("the client resets in a body until close", &[GET, answer!("", "hello"), ClientReset], &[client_aborted(200, 0, 5)], WHOLE),
    case("the client half-closes and is answered", &[GET, ClientFin, OK, ServerFin], &[ok(200, 0, 2)], WHOLE),
    case("the client half-closes within the response", &[GET, answer!("Content-Length: 10\r\n", "hello"), ClientFin, S(b"world"), ServerFin], &[ok(200, 0, 10)], WHOLE),
    case("the client half-closes and is not answered", &[GET, ClientFin, ServerFin], &[client_aborted(0, 0, 0)], WHOLE),
    case("the client half-closes, the response is cut", &[GET, ClientFin, answer!("Content-Length: 10\r\n", "hello"), ServerFin], &[server_aborted(200, 0, 5)], WHOLE),
    case("the client half-closes, then resets", &[GET, ClientFin, answer!("Content-Length: 10\r\n", "hello"), ClientReset], &[client_aborted(200, 0, 5)], WHOLE),
    case("the server closes without a response", &[GET, ServerFin, ClientFin], &[server_aborted(0, 0, 0)], WHOLE),
    case("the server closes in its status line", &[GET, S(b"HTTP/1.1 20"), ServerFin, ClientFin], &[server_aborted(0, 0, 0)], WHOLE),
    case("the server closes in its head", &[GET, S(b"HTTP/1.1 200 OK\r\nConte"), ServerFin, ClientFin], &[server_aborted(200, 0, 0)], WHOLE),
    case("the server closes in its body", &[GET, answer!("Content-Length: 10\r\n", "hello"), ServerFin, ClientFin], &[server_aborted(200, 0, 5)], WHOLE),
    case("the server closes in its chunks", &[GET, chunked_answer!("a\r\nhello"), ServerFin, ClientFin], &[server_aborted(200, 0, 5)], WHOLE),
    case("the server closes before the last chunk", &[GET, chunked_answer!("5\r\nhello\r\n"), ServerFin, ClientFin], &[server_aborted(200, 0, 5)], WHOLE),
    case("the server closes before the last line end", &[GET, chunked_answer!("5\r\nhello\r\n0\r\n"), ServerFin, ClientFin], &[server_aborted(200, 0, 5)], WHOLE),
    case("the server closes while the request flows", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), ServerFin, ClientFin], &[server_aborted(0, 5, 0)], WHOLE),
    case("the server resets without a response", &[GET, ServerReset], &[server_aborted(0, 0, 0)], WHOLE),
    case("the server resets in its body", &[GET, answer!("Content-Length: 10\r\n", "hello"), ServerReset], &[server_aborted(200, 0, 5)], WHOLE),
    case("the server resets in a body until close", &[GET, answer!("", "hello"), ServerReset], &[server_aborted(200, 0, 5)], WHOLE),
    case("the server resets while the request flows", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), ServerReset], &[server_aborted(0, 5, 0)], WHOLE),
    case("the server closes with requests waiting", &[GET, GET, POST, OK, ServerFin, ClientFin], &[ok(200, 0, 2), server_aborted(0, 0, 0), server_aborted(0, 5, 0)], WHOLE),
    case("the server resets an idle connection", &[GET, OK, ServerReset], &[ok(200, 0, 2)], WHOLE),
    case("the client resets an idle connection", &[GET, OK, ClientReset], &[ok(200, 0, 2)], WHOLE),
    case("the client closes in an interim response", &[GET, S(b"HTTP/1.1 100 Con"), ClientReset], &[client_aborted(0, 0, 0)], WHOLE),
    case("both close in the middle, the server first", &[C(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"), answer!("Content-Length: 10\r\n", "hello"), ServerFin, ClientFin], &[server_aborted(200, 5, 5)], WHOLE),
    case("an opaque connection is reset", &[C(b"\x00\x01"), ServerReset], &[], opaque("tcp", "The server reset the connection")),
    case("an unread connection is reset", &[ClientReset], &[], opaque("tcp", "The client reset the connection")),
    case("an ambiguous request is reset", &[C(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), ServerReset], &[malformed(0, 0, 0)], blind("values that differ")),
];
