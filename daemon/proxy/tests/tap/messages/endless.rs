//! Bodies that do not end soon, over HTTP/1.

use nodetap_core::exchange::Protocol;

use super::*;
use crate::drive::timeless;

const SECOND: u64 = 1_000_000;

fn asked(limits: Limits, response: &[u8]) -> Player {
    let mut player = Player::new(Direction::Outbound, limits);
    player.show(Side::Client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    player.show(Side::Server, response);
    player
}

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

fn pieces(events: &[Event]) -> Vec<(Sender, &[u8])> {
    messages(events)
        .into_iter()
        .map(|message| {
            assert_eq!((message.kind, message.outcome), (MessageKind::Piece, Outcome::Complete));
            (message.sender, &message.body.kept[..])
        })
        .collect()
}

const SSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn events_reach_the_record_a_second_after_they_came() {
    let mut player = asked(Limits::default(), SSE);
    assert_eq!(player.tap.due(), None);
    player.show(Side::Server, &chunk(b"data: 1\n\n"));
    let came = player.now;
    assert_eq!(player.tap.due(), Some(came + SECOND));
    player.wait(SECOND / 2);
    player.show(Side::Server, &chunk(b"data: 2\n\n"));
    assert!(player.events.is_empty());
    player.wait(SECOND);
    assert_eq!(pieces(&player.events), [(Sender::Server, &b"data: 1\n\ndata: 2\n\n"[..])]);
    assert_eq!(messages(&player.events)[0].time, came);
    assert_eq!(player.tap.due(), None);
    player.wait(60 * SECOND);
    player.show(Side::Server, &chunk(b"data: 3\n\n"));
    player.show(Side::Server, b"0\r\n\r\n");
    let events = player.finish();
    agree(&events);
    assert_eq!(pieces(&events)[1].1, b"data: 3\n\n");
    let exchange = exchange(&events);
    assert_eq!(
        (exchange.protocol, exchange.outcome, exchange.messages),
        (Protocol::EventStream, Outcome::Complete, None)
    );
    assert_eq!(*response_body(exchange), Body { size: 27, kept: Vec::new(), in_messages: true });
}

#[test]
fn an_event_stream_is_written_whole_whatever_the_cap() {
    for skips in [false, true] {
        let mut player = asked(Limits { body: 100, ..Limits::default() }, SSE);
        player.skips = skips;
        (0..50).for_each(|_| player.show(Side::Server, &chunk(&[b'x'; 1000])));
        player.end(Side::Server, End::Reset);
        let events = player.finish();
        agree(&events);
        assert_eq!(pieces(&events).iter().map(|(_, body)| body.len()).sum::<usize>(), 50_000);
        assert!(pieces(&events).iter().all(|(_, body)| body.len() <= 1024));
        assert_eq!(exchange(&events).outcome, Outcome::ServerAborted);
    }
}

#[test]
fn pieces_are_cut_at_64_kib_however_the_bytes_came() {
    let body = chunk(&vec![b'x'; 200_000]).into_iter().chain(chunk(&vec![b'y'; 5000])).chain(*b"0\r\n\r\n");
    let body: Vec<u8> = body.collect();
    let play = |size| {
        let mut player = asked(Limits::default(), SSE);
        body.chunks(size).for_each(|part| player.show(Side::Server, part));
        timeless(player.finish())
    };
    let whole = play(body.len());
    let sizes: Vec<_> = pieces(&whole).iter().map(|(_, body)| body.len()).collect();
    assert_eq!(sizes, [65536, 65536, 65536, 8392]);
    assert_eq!(messages(&whole).iter().map(|message| message.wire).sum::<u64>(), body.len() as u64);
    for size in [1, 3, 4096, 65536, 70_000] {
        assert_eq!(play(size), whole, "in parts of {size}");
    }
}

#[test]
fn a_body_of_unknown_length_is_written_in_pieces_once_a_second_has_passed() {
    let mut player = asked(Limits { body: 10, ..Limits::default() }, b"HTTP/1.1 200 OK\r\n\r\n");
    player.show(Side::Server, b"abc");
    let came = player.now;
    player.wait(SECOND);
    assert_eq!(pieces(&player.events), [(Sender::Server, &b"abc"[..])]);
    assert_eq!((messages(&player.events)[0].time, messages(&player.events)[0].end), (came, 0));
    player.show(Side::Server, b"defg");
    player.wait(SECOND);
    assert_eq!(pieces(&player.events)[1].1, b"defg");
    player.show(Side::Server, b"hijklmnop");
    assert_eq!(pieces(&player.events)[2].1, b"hij");
    assert_eq!((player.tap.skippable(Side::Server), player.tap.due()), (u64::MAX, None));
    player.skips = true;
    player.show(Side::Server, b"more");
    player.end(Side::Server, End::Fin);
    let events = player.finish();
    agree(&events);
    assert_eq!(*response_body(exchange(&events)), Body { size: 20, kept: Vec::new(), in_messages: true });
    assert_eq!((exchange(&events).protocol, exchange(&events).outcome), (Protocol::Http11, Outcome::Complete));
}

#[test]
fn a_request_that_does_not_end_is_written_in_pieces_too() {
    let mut player = Player::new(Direction::Outbound, Limits::default());
    player.show(Side::Client, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    player.show(Side::Client, &chunk(b"up"));
    player.show(Side::Server, SSE);
    player.show(Side::Server, &chunk(b"down"));
    player.wait(2 * SECOND);
    assert_eq!(pieces(&player.events), [(Sender::Client, &b"up"[..]), (Sender::Server, b"down")]);
    player.show(Side::Client, &chunk(b"UP"));
    player.show(Side::Client, b"0\r\n\r\n");
    player.show(Side::Server, b"0\r\n\r\n");
    let events = player.finish();
    agree(&events);
    assert_eq!(pieces(&events)[2], (Sender::Client, &b"UP"[..]));
    assert!(exchange(&events).request.body.in_messages);
}

#[test]
fn short_bodies_and_sized_ones_stay_in_their_exchange() {
    for (response, body, rest) in [
        (&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &b"3\r\nabc\r\n"[..], &b"0\r\n\r\n"[..]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"ab", b"c"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 3\r\n\r\n", b"ab", b"c"),
    ] {
        let mut player = asked(Limits::default(), response);
        player.show(Side::Server, body);
        player.wait(if response.ends_with(b"chunked\r\n\r\n") { SECOND / 2 } else { 9 * SECOND });
        player.show(Side::Server, rest);
        assert_eq!(player.tap.due(), None);
        let events = player.finish();
        assert!(messages(&events).is_empty());
        assert_eq!(*response_body(exchange(&events)), Body { size: 3, kept: b"abc".to_vec(), in_messages: false });
    }
}

#[test]
fn nothing_is_written_in_pieces_when_no_bodies_are_kept() {
    let mut player = asked(Limits { body: 0, ..Limits::default() }, SSE);
    player.show(Side::Server, &chunk(b"secret"));
    player.wait(9 * SECOND);
    let events = player.finish();
    assert!(messages(&events).is_empty());
    assert_eq!(*response_body(exchange(&events)), Body { size: 6, kept: Vec::new(), in_messages: false });
}

#[test]
fn types_that_are_made_for_endless_bodies_are_known() {
    for kind in ["application/x-ndjson", "Application/Stream+JSON; x=y", "multipart/x-mixed-replace;boundary=b"] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n");
        let mut player = asked(Limits::default(), head.as_bytes());
        player.show(Side::Server, b"x");
        player.wait(SECOND);
        assert_eq!(pieces(&player.events).len(), 1, "{kind}");
        let events = player.finish();
        assert_eq!(exchange(&events).protocol, Protocol::Http11);
    }
}
