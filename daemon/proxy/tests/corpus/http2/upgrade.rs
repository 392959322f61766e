//! HTTP/1.1 that becomes HTTP/2 (RFC 7540 §3.2): the request that asked for it is stream 1.

use super::Step::{C, S};
use super::*;

const ASK_UPGRADE: &str = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    let ask = |line: &str, body: &str| C(format!("{line} HTTP/1.1\r\nHost: x\r\n{ASK_UPGRADE}{body}").into_bytes());
    let hello = || C([PREFACE, &settings(&[])].concat());
    let switch = |more: &[u8]| S([SWITCH, &settings(&[]), more].concat());
    vec![
        raw("an upgrade", vec![ask("GET /", "\r\n"), switch(b""), hello(), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        raw("an upgrade that is answered at once", vec![ask("GET /", "\r\n"), switch(&respond_ok(1)), hello()], &[ok(1, 200, 0, 2)], WHOLE),
        raw("an upgrade by a POST", vec![ask("POST /", "Content-Length: 5\r\n\r\nhello"), switch(b""), hello(), S(respond_ok(1))], &[ok(1, 200, 5, 2)], WHOLE),
        raw("an upgrade by a HEAD", vec![ask("HEAD /", "\r\n"), switch(&headers(1, ES, &[(":status", "200"), ("content-length", "9")])), hello()], &[ok(1, 200, 0, 0)], WHOLE),
        raw("further requests behind an upgrade", vec![ask("GET /", "\r\n"), switch(b""), C([PREFACE, &settings(&[]), &get(3)].concat()), S([respond_ok(3), respond_ok(1)].concat())], &[ok(3, 200, 0, 2), ok(1, 200, 0, 2)], WHOLE),
        raw("a preface that comes before the 101", vec![ask("GET /", "\r\n"), C([PREFACE, &settings(&[]), &get(3)].concat()), switch(&[respond_ok(1), respond_ok(3)].concat())], &[ok(1, 200, 0, 2), ok(3, 200, 0, 2)], WHOLE),
        raw("an upgrade that is reset", vec![ask("GET /", "\r\n"), switch(b""), hello(), S(reset(1, 7))], &[server_aborted(1, 0, 0, 0, "REFUSED_STREAM")], WHOLE),
        raw("an upgrade, and the server closes", vec![ask("GET /", "\r\n"), switch(b""), Step::ServerFin], &[server_aborted(1, 0, 0, 0, "without a response")], opaque("h2", "within the preface")),
        raw("an upgrade, and the client half-closes before the 101", vec![ask("GET /", "\r\n"), Step::ClientFin, switch(&respond_ok(1)), Step::ServerFin], &[ok(1, 200, 0, 2)], opaque("h2", "within the preface")),
        raw("an upgrade, and no HTTP/2 of the server", vec![ask("GET /", "\r\n"), S([SWITCH, b"HTTP/1.1 200 OK\r\n\r\n"].concat())], &[passed(1, 0, 0, 0, "not understood")], wrong("server did not begin with a SETTINGS")),
        raw("an upgrade, and no HTTP/2 of the client", vec![ask("GET /", "\r\n"), switch(b""), C(b"GET / HTTP/1.1\r\n\r\n".to_vec())], &[passed(1, 0, 0, 0, "not understood")], wrong("did not send the whole preface")),
        raw("an upgrade that is refused", vec![ask("GET /", "\r\n"), S(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())], &[Exchange { stream: 0, ..ok(0, 200, 0, 2) }], WHOLE),
        raw("an interim response before the 101", vec![ask("GET /", "\r\n"), S([b"HTTP/1.1 103 Early Hints\r\n\r\n", SWITCH, &settings(&[])].concat()), hello(), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        raw("a large table from the start: HTTP2-Settings may have allowed it", vec![ask("GET /", "\r\n"), switch(&frame(HEADERS, EH | ES, 1, &[0x3f, 0xe1, 0x3f, 0x88])), hello()], &[ok(1, 200, 0, 0)], WHOLE),
    ]
}
