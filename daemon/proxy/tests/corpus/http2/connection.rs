//! How connections begin, and connections without a request.

use super::Step::{C, S};
use super::*;

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    let hello = [PREFACE, &settings(&[])].concat();
    let greeting = settings(&[(3, 100), (4, 65_535)]);
    vec![
        case("no request", vec![], &[], idle()),
        case("PING and GOAWAY only", vec![C(frame(PING, 0, 0, &[0; 8])), S([frame(PING, ES, 0, &[0; 8]), go_away(0, 0)].concat())], &[], idle()),
        case("no request, and a reset", vec![Step::ServerReset], &[], Some(Summary { detail: "The server reset the connection", ..idle().unwrap() })),
        raw("a request right behind the preface", vec![C([hello.clone(), get(1)].concat()), S([greeting.clone(), respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], WHOLE),
        raw("the server speaks first", vec![S(greeting.clone()), C([hello.clone(), get(1)].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        raw("the server speaks first, at length", vec![S([greeting.clone(), window(0), frame(PING, 0, 0, &[0; 8])].concat()), C([hello.clone(), get(1)].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        raw("the server speaks within the preface", vec![C(hello[..10].to_vec()), S(greeting.clone()), C([&hello[10..], &get(1)].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        raw("the server speaks first, and nobody answers", vec![S(greeting.clone())], &[], opaque("tcp", "ended before it could be told")),
        raw("the server speaks first, and the client speaks HTTP/1", vec![S(greeting.clone()), C(b"GET / HTTP/1.1\r\n\r\n".to_vec())], &[], opaque("tcp", "server answered before")),
        raw("the server never speaks", vec![C([hello.clone(), get(1)].concat())], &[client_aborted(1, 0, 0, 0, "client closed")], WHOLE),
        raw("the server answers in HTTP/1", vec![C([hello.clone(), get(1)].concat()), S(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec())], &[passed(1, 0, 0, 0, "not understood")], wrong("server sent a frame longer")),
        raw("the server answers with a PING", vec![C([hello.clone(), get(1)].concat()), S(frame(PING, 0, 0, &[0; 8]))], &[passed(1, 0, 0, 0, "not understood")], wrong("server did not begin with a SETTINGS")),
        raw("the server answers with an acknowledgement", vec![C([hello.clone(), get(1)].concat()), S(frame(SETTINGS, ES, 0, b""))], &[passed(1, 0, 0, 0, "not understood")], wrong("server did not begin with a SETTINGS")),
        raw("the server answers with GOAWAY", vec![C([hello.clone(), get(1)].concat()), S(go_away(0, 1))], &[passed(1, 0, 0, 0, "not understood")], wrong("did not begin with a SETTINGS")),
        raw("the client begins with HEADERS", vec![C([PREFACE, &get(1)].concat()), S(greeting.clone())], &[], wrong("client did not begin with a SETTINGS")),
        raw("a preface that goes wrong", vec![C(b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n".to_vec()), S(greeting.clone())], &[], wrong("client did not send the whole preface")),
        raw("a preface of HTTP/2.1", vec![C(b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n".to_vec())], &[], opaque("tcp", "begins like no protocol")),
        raw("a preface that ends early", vec![C(PREFACE[..20].to_vec())], &[], opaque("h2", "within the preface")),
        raw("a preface that ends within its first line", vec![C(PREFACE[..9].to_vec())], &[], opaque("tcp", "ended before it could be told")),
        raw("a preface and nothing else", vec![C(PREFACE.to_vec())], &[], idle()),
        raw("SETTINGS in pieces of settings", vec![C([PREFACE, &settings(&[(1, 0), (2, 0), (3, 1), (4, 5), (5, 16_384), (6, 99), (8, 1)]), &get(1)].concat()), S([greeting, respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], WHOLE),
    ]
}
