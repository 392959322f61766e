//! Messages as they should be: methods, content, trailers, interim responses, pushes, tunnels, streams side by side.

use super::Step::{C, S};
use super::*;

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    let connect = headers(1, 0, &[(":method", "CONNECT"), (":authority", "x:443")]);
    let extended = headers(1, 0, &request("CONNECT", &[(":protocol", "websocket"), ("sec-websocket-version", "13")]));
    let other = headers(1, 0, &request("CONNECT", &[(":protocol", "connect-udp")]));
    let hints = headers(1, 0, &[(":status", "103"), ("link", "</a>")]);
    let pushed = [("push", "1")];
    let promised = promise(1, 2, &request("GET", &pushed));
    vec![
        case("a GET", vec![C(get(1)), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("a GET, and nothing in the response", vec![C(get(1)), S(respond_only(1, "204"))], &[ok(1, 204, 0, 0)], WHOLE),
        case("a POST", vec![C([post(1), last(1, b"hello")].concat()), S(respond_ok(1))], &[ok(1, 200, 5, 2)], WHOLE),
        case("a POST in many frames", vec![C([post(1), data(1, b"he"), data(1, b""), data(1, b"l"), last(1, b"lo")].concat()), S(respond_ok(1))], &[ok(1, 200, 5, 2)], WHOLE),
        case("an empty last DATA frame", vec![C([post(1), data(1, b"hello"), last(1, b"")].concat()), S([respond(1, "200"), data(1, b"ok"), last(1, b"")].concat())], &[ok(1, 200, 5, 2)], WHOLE),
        case("a POST without content", vec![C([post(1), last(1, b"")].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("a right Content-Length", vec![C([headers(1, 0, &request("POST", &[("content-length", "5")])), last(1, b"hello")].concat()), S([headers(1, 0, &[(":status", "200"), ("content-length", "2")]), last(1, b"ok")].concat())], &[ok(1, 200, 5, 2)], WHOLE),
        case("the same Content-Length twice", vec![C([headers(1, 0, &request("POST", &[("content-length", "5"), ("content-length", "5")])), last(1, b"hello")].concat()), S(respond_ok(1))], &[ok(1, 200, 5, 2)], WHOLE),
        case("a HEAD", vec![C(headers(1, ES, &request("HEAD", &[]))), S(headers(1, ES, &[(":status", "200"), ("content-length", "1000")]))], &[ok(1, 200, 0, 0)], WHOLE),
        case("a HEAD answered with an empty DATA frame", vec![C(headers(1, ES, &request("HEAD", &[]))), S([headers(1, 0, &[(":status", "200"), ("content-length", "9")]), last(1, b"")].concat())], &[ok(1, 200, 0, 0)], WHOLE),
        case("304 with a Content-Length", vec![C(get(1)), S(headers(1, ES, &[(":status", "304"), ("content-length", "9")]))], &[ok(1, 304, 0, 0)], WHOLE),
        case("OPTIONS of the server", vec![C(headers(1, ES, &[(":method", "OPTIONS"), (":scheme", "http"), (":authority", "x"), (":path", "*")])), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("an unknown method", vec![C(headers(1, ES, &request("BREW", &[]))), S(respond_only(1, "418"))], &[ok(1, 418, 0, 0)], WHOLE),
        case("Host and no authority", vec![C(headers(1, ES, &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "x")])), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("neither Host nor authority", vec![C(headers(1, ES, &[(":method", "GET"), (":scheme", "http"), (":path", "/")])), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("Host that differs from the authority", vec![C(headers(1, ES, &request("GET", &[("host", "y")]))), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("pseudo-headers in another order", vec![C(headers(1, ES, &[(":path", "/"), (":authority", "x"), (":method", "GET"), (":scheme", "https")])), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("Cookie in crumbs", vec![C(headers(1, ES, &request("GET", &[("cookie", "a=b"), ("cookie", "c=d")]))), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("TE: trailers", vec![C(headers(1, ES, &request("GET", &[("te", "trailers")]))), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("an empty value, and blanks around one", vec![C(headers(1, ES, &request("GET", &[("a", ""), ("b", " c\t")]))), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("a value that is no text", vec![C(frame(HEADERS, EH | ES, 1, &[block(&ASK), literal(b"a", b"\xff\x80\x01")].concat())), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("trailers of the response", vec![C(get(1)), S([respond(1, "200"), data(1, b"ok"), headers(1, ES, &[("grpc-status", "0")])].concat())], &[ok(1, 200, 0, 2)], WHOLE),
        case("trailers of the request", vec![C([post(1), data(1, b"hello"), headers(1, ES, &[("sum", "9")])].concat()), S(respond_ok(1))], &[ok(1, 200, 5, 2)], WHOLE),
        case("trailers without content", vec![C(get(1)), S([respond(1, "200"), headers(1, ES, &[("a", "b")])].concat())], &[ok(1, 200, 0, 0)], WHOLE),
        case("empty trailers", vec![C(get(1)), S([respond(1, "200"), frame(HEADERS, EH | ES, 1, b"")].concat())], &[ok(1, 200, 0, 0)], WHOLE),
        case("100 before the content", vec![C(post(1)), S(headers(1, 0, &[(":status", "100")])), C(last(1, b"hello")), S(respond_ok(1))], &[ok(1, 200, 5, 2)], WHOLE),
        case("103 twice", vec![C(get(1)), S([hints.clone(), hints.clone(), respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], WHOLE),
        case("an answer before the content", vec![C(post(1)), S(respond_ok(1)), C(last(1, b"hello"))], &[ok(1, 200, 5, 2)], WHOLE),
        case("content both ways at once", vec![C([post(1), data(1, b"he")].concat()), S([respond(1, "200"), data(1, b"o")].concat()), C(data(1, b"llo")), S(last(1, b"k")), C(last(1, b""))], &[ok(1, 200, 5, 2)], WHOLE),
        case("two requests, one after the other", vec![C(get(1)), S(respond_ok(1)), C(get(3)), S(respond_ok(3))], &[ok(1, 200, 0, 2), ok(3, 200, 0, 2)], WHOLE),
        case("two requests at once, answered the other way round", vec![C([get(1), get(3)].concat()), S([respond_ok(3), respond_ok(1)].concat())], &[ok(3, 200, 0, 2), ok(1, 200, 0, 2)], WHOLE),
        case("three streams interleaved", vec![C([post(1), post(3), post(5), data(3, b"a"), data(1, b"b"), last(5, b"c"), last(3, b"d"), last(1, b"e")].concat()), S([respond(5, "200"), respond(1, "201"), data(5, b"1"), respond(3, "202"), data(1, b"2"), last(3, b"3"), last(5, b"4"), last(1, b"")].concat())], &[ok(3, 202, 2, 1), ok(5, 200, 1, 2), ok(1, 201, 2, 1)], WHOLE),
        case("numbers of streams with gaps", vec![C([get(5), get(101)].concat()), S([respond_ok(101), respond_ok(5)].concat())], &[ok(101, 200, 0, 2), ok(5, 200, 0, 2)], WHOLE),
        case("the highest number of a stream", vec![C(get(0x7fff_ffff)), S(respond_ok(0x7fff_ffff))], &[ok(0x7fff_ffff, 200, 0, 2)], WHOLE),
        case("the reserved bit of a stream's number", vec![C(get(0x8000_0001)), S(respond_ok(0x8000_0001))], &[ok(1, 200, 0, 2)], WHOLE),
        case("CONNECT, a tunnel", vec![C(connect.clone()), S(respond(1, "200")), C(data(1, b"hello")), S(data(1, b"ok")), C(last(1, b"")), S(last(1, b""))], &[ok(1, 200, 5, 2)], WHOLE),
        case("CONNECT, refused", vec![C(connect.clone()), S(respond_only(1, "502")), C(reset(1, 8))], &[said(1, 502, 0, 0, "response was whole")], WHOLE),
        case("CONNECT, the tunnel is reset by the client", vec![C(connect), S(respond(1, "200")), C([data(1, b"hello"), reset(1, 8)].concat())], &[client_aborted(1, 200, 5, 0, "CANCEL")], WHOLE),
        case("extended CONNECT, a WebSocket: its bytes are in messages", vec![C(extended.clone()), S(respond(1, "200")), C(data(1, b"\x81\x80abcd")), S(last(1, b"\x81\x00")), C(last(1, b""))], &[ok(1, 200, 0, 0)], WHOLE),
        case("extended CONNECT, a protocol that is not looked into", vec![C(other), S(respond(1, "200")), C(data(1, b"\x81\x80abcd")), S(last(1, b"\x81\x00")), C(last(1, b""))], &[ok(1, 200, 6, 2)], WHOLE),
        case("extended CONNECT, refused", vec![C(extended), S(respond_only(1, "403")), C(last(1, b""))], &[ok(1, 403, 0, 0)], WHOLE),
        case("a push", vec![C(get(1)), S([promised.clone(), respond_ok(1), respond(2, "200"), last(2, b"css")].concat())], &[ok(1, 200, 0, 2), said(2, 200, 0, 3, "pushed")], WHOLE),
        case("a push that is whole first", vec![C(get(1)), S([respond(1, "200"), promised.clone(), respond(2, "200"), last(2, b"css"), last(1, b"ok")].concat())], &[said(2, 200, 0, 3, "pushed"), ok(1, 200, 0, 2)], WHOLE),
        case("a push that the client does not want", vec![C(get(1)), S([promised.clone(), respond_ok(1)].concat()), C(reset(2, 8)), S(respond_ok(2))], &[ok(1, 200, 0, 2), client_aborted(2, 0, 0, 0, "CANCEL")], WHOLE),
        case("a promise that is not kept", vec![C(get(1)), S([promised, respond_ok(1)].concat()), Step::ServerFin], &[ok(1, 200, 0, 2), server_aborted(2, 0, 0, 0, "without a response")], WHOLE),
        case("a large frame", vec![C([post(1), last(1, &[b'x'; 400])].concat()), S([respond(1, "200"), last(1, &[b'y'; 300])].concat())], &[ok(1, 200, 400, 300)], WHOLE),
        case("a long value", vec![C(headers(1, ES, &request("GET", &[("a", &"x".repeat(300))]))), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
    ]
}
