//! Frames and what may be wrong with them: padding, CONTINUATION, lengths, streams that they must not stand on.

use super::Step::{C, S};
use super::*;

#[rustfmt::skip]
fn blocks() -> Vec<Case> {
    let ask = block(&ASK);
    let (first, second) = ask.split_at(ask.len() / 2);
    let bare = |flags, payload: &[u8]| frame(HEADERS, flags, 1, payload);
    let go_on = |flags, payload: &[u8]| frame(CONTINUATION, flags, 1, payload);
    let dependency = [0u8, 0, 0, 0, 15];
    let padded = |length: u8, payload: &[u8]| [&[length][..], payload, &vec![0; usize::from(length)]].concat();
    let promise_in = |flags, payload: &[u8]| frame(PUSH_PROMISE, flags, 1, &[&[0, 0, 0, 2][..], payload].concat());
    vec![
        case("HEADERS and CONTINUATION", vec![C([bare(ES, first), go_on(EH, second)].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("a CONTINUATION for each byte", vec![C([bare(ES, b""), ask.iter().flat_map(|byte| go_on(0, &[*byte])).collect(), go_on(EH, b"")].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("empty CONTINUATION frames", vec![C([bare(ES, &ask), go_on(0, b"").repeat(5), go_on(EH, b"")].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("END_STREAM on CONTINUATION means nothing", vec![C([bare(0, first), go_on(EH | ES, second), last(1, b"hello")].concat()), S(respond_ok(1))], &[ok(1, 200, 5, 2)], WHOLE),
        case("a response in CONTINUATION", vec![C(get(1)), S([bare(0, b""), go_on(EH, &block(&[(":status", "200")])), last(1, b"ok")].concat())], &[ok(1, 200, 0, 2)], WHOLE),
        case("trailers in CONTINUATION", vec![C(get(1)), S([respond(1, "200"), bare(ES, &block(&[("a", "b")])), go_on(EH, &block(&[("c", "d")]))].concat())], &[ok(1, 200, 0, 0)], WHOLE),
        case("a promise in CONTINUATION", vec![C(get(1)), S([promise_in(0, first), go_on(EH, second), respond_ok(2), respond_ok(1)].concat())], &[said(2, 200, 0, 2, "pushed"), ok(1, 200, 0, 2)], WHOLE),
        case("padded HEADERS", vec![C(bare(EH | ES | PADDED, &padded(7, &ask))), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("HEADERS padded by nothing", vec![C(bare(EH | ES | PADDED, &padded(0, &ask))), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("padded HEADERS with a priority and CONTINUATION", vec![C([bare(ES | PADDED | WEIGHED, &padded(3, &[&dependency[..], first].concat())), go_on(EH, second)].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("HEADERS with a priority", vec![C(bare(EH | ES | WEIGHED, &[&dependency[..], &ask].concat())), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("a padded promise", vec![C(get(1)), S([frame(PUSH_PROMISE, EH | PADDED, 1, &padded(2, &[&[0, 0, 0, 2][..], &ask].concat())), respond_ok(2), respond_ok(1)].concat())], &[said(2, 200, 0, 2, "pushed"), ok(1, 200, 0, 2)], WHOLE),
        case("unknown flags", vec![C(bare(EH | ES | 0x42, &ask)), S([respond(1, "200"), frame(DATA, ES | 0xd6, 1, b"ok")].concat())], &[ok(1, 200, 0, 2)], WHOLE),
        case("HEADERS with more padding than bytes", vec![C(bare(EH | ES | PADDED, &[200, 0x82])), S(go_away(0, 1))], &[], wrong("client sent a header block that does not fit")),
        case("HEADERS too short for its padding", vec![C([get(1), frame(HEADERS, EH | PADDED, 3, b"")].concat()), S(go_away(0, 1))], &[passed(1, 0, 0, 0, "not understood any more")], wrong("does not fit")),
        case("HEADERS too short for its priority", vec![C(bare(EH | WEIGHED, b"abc")), S(go_away(0, 1))], &[], wrong("does not fit")),
        case("a promise too short for its stream", vec![C(get(1)), S(frame(PUSH_PROMISE, EH, 1, b"\0\0"))], &[passed(1, 0, 0, 0, "not understood")], wrong("server sent a header block that does not fit")),
        case("DATA within a header block", vec![C([bare(0, first), data(1, b"x"), go_on(EH, second)].concat()), S(go_away(0, 1))], &[malformed(1, 0, 0, 0, "another frame within a header block")], wrong("another frame within a header block")),
        case("a PING within a header block", vec![C([bare(0, first), frame(PING, 0, 0, &[0; 8]), go_on(EH, second)].concat()), S(go_away(0, 1))], &[malformed(1, 0, 0, 0, "another frame within")], wrong("within a header block")),
        case("an unknown frame within a header block", vec![C([bare(0, first), frame(0xbb, 0, 1, b"x"), go_on(EH, second)].concat()), S(go_away(0, 1))], &[malformed(1, 0, 0, 0, "another frame within")], wrong("within a header block")),
        case("CONTINUATION on another stream", vec![C([bare(0, first), frame(CONTINUATION, EH, 3, second)].concat()), S(go_away(0, 1))], &[malformed(1, 0, 0, 0, "another frame within")], wrong("within a header block")),
        case("CONTINUATION of nothing", vec![C(go_on(EH, second)), S(go_away(0, 1))], &[], wrong("continues nothing")),
        case("CONTINUATION behind END_HEADERS", vec![C([get(1), go_on(EH, b"")].concat()), S(go_away(0, 1))], &[passed(1, 0, 0, 0, "not understood")], wrong("continues nothing")),
        case("HEADERS that end within a block", vec![C(bare(ES, first))], &[client_aborted(1, 0, 0, 0, "client closed")], WHOLE),
        case("a frame header that ends", vec![C([get(1), b"\0\0\x10\x01".to_vec()].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
    ]
}

#[rustfmt::skip]
fn contents() -> Vec<Case> {
    let padded = |flags, length: u8, content: &[u8]| frame(DATA, PADDED | flags, 1, &[&[length][..], content, &vec![0; usize::from(length)]].concat());
    vec![
        case("padded DATA", vec![C([post(1), padded(0, 3, b"he"), padded(ES, 255, b"llo")].concat()), S(respond_ok(1))], &[ok(1, 200, 5, 2)], WHOLE),
        case("DATA of padding only", vec![C([post(1), padded(0, 9, b""), padded(ES, 0, b"")].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], WHOLE),
        case("padding counts for no Content-Length", vec![C([headers(1, 0, &request("POST", &[("content-length", "5")])), padded(ES, 4, b"hello")].concat()), S(respond_ok(1))], &[ok(1, 200, 5, 2)], WHOLE),
        case("DATA with more padding than bytes", vec![C([post(1), frame(DATA, PADDED | ES, 1, b"\x05he")].concat()), S(respond_ok(1))], &[malformed(1, 200, 0, 2, "more padding than bytes")], WHOLE),
        case("DATA too short for its padding", vec![C([post(1), frame(DATA, PADDED | ES, 1, b"")].concat()), S(respond_ok(1))], &[malformed(1, 200, 0, 2, "more padding than bytes")], WHOLE),
        case("DATA on no stream", vec![C([get(1), data(0, b"x")].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], wrong("client sent a frame on a stream that it must not")),
        case("DATA on an idle stream", vec![C([get(1), data(5, b"x")].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], wrong("client sent a frame on a stream that was not opened")),
        case("DATA of the server on an idle stream", vec![C(get(1)), S([data(3, b"x"), respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], wrong("server sent a frame on a stream that was not opened")),
        case("HEADERS of the server on an idle stream", vec![C(get(1)), S([respond_only(3, "200"), respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], wrong("server sent a frame on a stream that was not opened")),
        case("HEADERS of the server on an idle stream of its own", vec![C(get(1)), S([respond_only(2, "200"), respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], wrong("was not opened")),
        case("HEADERS on no stream", vec![C([frame(HEADERS, EH, 0, &block(&ASK)), get(1)].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], wrong("must not be sent on")),
        case("a request on an even stream", vec![C([get(2), get(1)].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], wrong("with a number that it must not have")),
        case("frames on a stream that is over", vec![C(get(1)), S(respond_ok(1)), C([window(1), data(1, b"x"), reset(1, 5), headers(1, ES, &[("a", "b")]), get(3)].concat()), S([data(1, b"y"), respond_ok(3)].concat())], &[ok(1, 200, 0, 2), ok(3, 200, 0, 2)], WHOLE),
        case("a lower number after a higher one", vec![C([get(5), get(3)].concat()), S(respond_ok(5))], &[ok(5, 200, 0, 2)], WHOLE),
        case("a promise by the client", vec![C([get(1), promise(1, 2, &ASK)].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], wrong("client sent a frame on a stream that it must not")),
        case("a promise of an odd stream", vec![C(get(1)), S([promise(1, 3, &ASK), respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], wrong("server opened a stream with a number")),
        case("a promise of no stream", vec![C(get(1)), S([promise(1, 0, &ASK), respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], wrong("server opened a stream with a number")),
        case("the same promise twice", vec![C(get(1)), S([promise(1, 2, &ASK), promise(1, 2, &ASK), respond_ok(2), respond_ok(1)].concat())], &[said(2, 200, 0, 2, "pushed"), ok(1, 200, 0, 2)], wrong("with a number that it must not have")),
        case("a promise on an idle stream", vec![C(get(1)), S([promise(7, 2, &ASK), respond_ok(2), respond_ok(1)].concat())], &[said(2, 200, 0, 2, "pushed"), ok(1, 200, 0, 2)], wrong("was not opened")),
        case("a promise on a stream that was reset", vec![C([get(1), reset(1, 8)].concat()), S([promise(1, 2, &ASK), respond_ok(2)].concat())], &[client_aborted(1, 0, 0, 0, "CANCEL"), said(2, 200, 0, 2, "pushed")], WHOLE),
        case("DATA of the client on a promised stream", vec![C(get(1)), S([promise(1, 2, &ASK), respond_ok(1)].concat()), C(data(2, b"x")), S(respond_ok(2))], &[ok(1, 200, 0, 2), malformed(2, 200, 0, 2, "goes on behind its end")], WHOLE),
        case("unknown frames", vec![C([frame(0x0a, 0xff, 0, b"origin"), get(1), frame(0xf0, 0xff, 1, b""), frame(0xf1, 0xff, 99, b"x")].concat()), S([frame(0x10, 0, 0, b"\0\0\0\x01u=1"), respond_ok(1)].concat())], &[ok(1, 200, 0, 2)], WHOLE),
        case("unknown frames on an open stream", vec![C([post(1), frame(0xf0, 0x8, 1, b"grease"), last(1, b"hello")].concat()), S(respond_ok(1))], &[ok(1, 200, 5, 2)], WHOLE),
    ]
}

#[rustfmt::skip]
fn controls() -> Vec<Case> {
    let one = |name: &str, bytes: Vec<u8>, detail| case(name, vec![C([get(1), bytes].concat()), S(respond_ok(1))], &[ok(1, 200, 0, 2)], detail);
    vec![
        one("a PING", frame(PING, 0, 0, &[7; 8]), WHOLE),
        one("a PING of nine bytes", frame(PING, 0, 0, &[7; 9]), wrong("impossible length")),
        one("a PING on a stream", frame(PING, 0, 1, &[7; 8]), wrong("must not be sent on")),
        one("PRIORITY on an open stream", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), WHOLE),
        one("PRIORITY on an idle stream", frame(PRIORITY, 0, 9, &[0, 0, 0, 0, 1]), WHOLE),
        one("PRIORITY on no stream", frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1]), wrong("must not be sent on")),
        one("PRIORITY of four bytes", frame(PRIORITY, 0, 1, &[0; 4]), wrong("impossible length")),
        one("WINDOW_UPDATE of the connection", window(0), WHOLE),
        one("WINDOW_UPDATE of a stream", window(1), WHOLE),
        one("WINDOW_UPDATE of an idle stream", window(7), wrong("was not opened")),
        one("WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 1, &[0; 3]), wrong("impossible length")),
        one("RST_STREAM of three bytes", frame(RST_STREAM, 0, 1, &[0; 3]), wrong("impossible length")),
        one("RST_STREAM of five bytes", frame(RST_STREAM, 0, 1, &[0; 5]), wrong("impossible length")),
        one("RST_STREAM on no stream", reset(0, 8), wrong("must not be sent on")),
        one("RST_STREAM on an idle stream", reset(9, 8), wrong("was not opened")),
        one("GOAWAY of seven bytes", frame(GOAWAY, 0, 0, &[0; 7]), wrong("impossible length")),
        one("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), wrong("must not be sent on")),
        one("SETTINGS in between", settings(&[(1, 8192), (3, 100), (4, 1 << 20), (99, 1)]), WHOLE),
        one("an acknowledgement of SETTINGS", frame(SETTINGS, ES, 0, b""), WHOLE),
        one("an acknowledgement with content", frame(SETTINGS, ES, 0, &[0; 6]), wrong("impossible length")),
        one("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[0; 6]), wrong("must not be sent on")),
        case("SETTINGS that do not add up", vec![C([get(1), frame(SETTINGS, 0, 0, &[0; 7])].concat()), S(go_away(1, 6))], &[passed(1, 0, 0, 0, "not understood")], wrong("SETTINGS frame of an impossible length")),
        case("a frame longer than is allowed", vec![C([post(1), cut_frame(16_385, DATA, 0, 1, b"x")].concat()), S(go_away(1, 6))], &[passed(1, 0, 0, 0, "not understood")], wrong("longer than its receiver allows")),
        case("a frame as long as the server allowed", vec![S(settings(&[(5, 20_000)])), C([post(1), cut_frame(20_000, DATA, 0, 1, b"x")].concat())], &[client_aborted(1, 0, 1, 0, "client closed")], WHOLE),
        case("a frame as long as the client allowed itself", vec![C([settings(&[(5, 20_000)]), post(1), cut_frame(20_000, DATA, 0, 1, b"x")].concat())], &[passed(1, 0, 0, 0, "not understood")], wrong("longer than its receiver allows")),
        case("a large frame after the limit was taken back", vec![S([settings(&[(5, 20_000)]), settings(&[(5, 16_384)])].concat()), C([post(1), cut_frame(20_000, DATA, 0, 1, b"x")].concat())], &[client_aborted(1, 0, 1, 0, "client closed")], WHOLE),
        case("bytes that are no frames", vec![C([get(1), b"GET / HTTP/1.1\r\n\r\n".to_vec()].concat()), S(go_away(1, 1))], &[passed(1, 0, 0, 0, "not understood")], wrong("longer than its receiver allows")),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    [blocks(), contents(), controls()].concat()
}
