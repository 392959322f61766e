//! Messages inside streams of HTTP/2: gRPC calls, WebSockets by extended CONNECT, bodies that do not end soon.

use nodetap_core::exchange::{Messages, Protocol};

use super::frames::frame as websocket;
use super::*;
use crate::drive::{exchanges, timeless};

const SECOND: u64 = 1_000_000;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literal fields without indexing (RFC 7541 §6.2.2).
fn head(stream: u32, end: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap_or_default());
            block.extend(text.bytes());
        }
    }
    frame(HEADERS, END_HEADERS | end, stream, &block)
}

fn data(stream: u32, end: u8, payload: &[u8]) -> Vec<u8> {
    frame(0, end, stream, payload)
}

const CALL: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "x"),
    (":path", "/s.S/M"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];
const ANSWER: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/grpc+proto")];
const OVER: [(&str, &str); 1] = [("grpc-status", "0")];

fn begin(limits: Limits) -> Player {
    let mut player = Player::new(Direction::Outbound, limits);
    player.show(Side::Client, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    player.show(Side::Client, &frame(4, 0, 0, b""));
    player.show(Side::Server, &frame(4, 0, 0, b""));
    player
}

fn message(flag: u8, body: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(body.len()).unwrap_or_default().to_be_bytes(), body].concat()
}

type Steps = Vec<(Side, Vec<u8>)>;

/// A call with so many messages in each direction; each is cut over two DATA frames.
fn call(stream: u32, up: usize, down: usize) -> Steps {
    let mut steps = vec![(Side::Client, head(stream, 0, &CALL))];
    let send = |steps: &mut Steps, side, count, fill| {
        for at in 0..count {
            let bytes = message(0, &vec![fill; at * 7]);
            let (begin, rest) = bytes.split_at(3);
            steps.extend([(side, data(stream, 0, begin)), (side, data(stream, 0, rest))]);
        }
    };
    send(&mut steps, Side::Client, up, b'u');
    steps.extend([(Side::Client, data(stream, END_STREAM, b"")), (Side::Server, head(stream, 0, &ANSWER))]);
    send(&mut steps, Side::Server, down, b'd');
    steps.push((Side::Server, head(stream, END_STREAM, &OVER)));
    steps
}

fn play(steps: &Steps, size: usize) -> Vec<Event> {
    let mut player = begin(Limits::default());
    for (from, bytes) in steps {
        bytes.chunks(size).for_each(|part| player.show(*from, part));
    }
    player.finish()
}

#[test]
fn all_four_kinds_of_calls_are_split_into_their_messages() {
    for (up, down) in [(1, 1), (1, 3), (3, 1), (3, 3), (0, 0)] {
        let steps = call(1, up, down);
        let whole = play(&steps, usize::MAX);
        agree(&whole);
        let exchange = exchange(&whole);
        assert_eq!(
            (exchange.protocol, exchange.outcome, exchange.stream),
            (Protocol::Grpc, Outcome::Complete, Some(1))
        );
        assert_eq!(exchange.messages, Some(Messages { client: up as u64, server: down as u64 }));
        assert!(exchange.request.body.in_messages && response_body(exchange).in_messages);
        assert!(messages(&whole).iter().all(|message| message.outcome == Outcome::Complete));
        assert_eq!(exchange.response.as_ref().unwrap().trailers, b"grpc-status: 0\r\n");
        for size in [1, 2, 10] {
            assert_eq!(timeless(play(&steps, size)), timeless(whole.clone()));
        }
    }
}

#[test]
fn calls_on_several_streams_do_not_mix() {
    let (first, second) = (call(1, 2, 2), call(3, 2, 2));
    let steps = first.into_iter().zip(second).flat_map(|(a, b)| [a, b]).collect();
    let events = play(&steps, usize::MAX);
    assert_eq!(exchanges(&events).len(), 2);
    for exchange in exchanges(&events) {
        let own: Vec<_> = messages(&events).into_iter().filter(|message| message.exchange == exchange.id).collect();
        assert_eq!(own.iter().map(|message| message.seq).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(own.iter().all(|message| message.stream == exchange.stream));
    }
}

#[test]
fn a_call_that_fails_at_once_has_no_messages_of_the_server() {
    let steps = vec![
        (Side::Client, head(1, 0, &CALL)),
        (Side::Client, data(1, END_STREAM, &message(0, b"a"))),
        (
            Side::Server,
            head(1, END_STREAM, &[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5")]),
        ),
    ];
    let events = play(&steps, usize::MAX);
    assert_eq!(exchange(&events).messages, Some(Messages { client: 1, server: 0 }));
    assert_eq!(exchange(&events).outcome, Outcome::Complete);
}

#[test]
fn a_message_that_a_reset_cuts_is_the_fault_of_who_reset() {
    let steps = vec![
        (Side::Client, head(1, 0, &CALL)),
        (Side::Client, data(1, 0, &message(0, b"whole"))),
        (Side::Client, data(1, 0, &message(0, b"partly")[..8])),
        (Side::Client, frame(3, 0, 1, &8u32.to_be_bytes())),
    ];
    let events = play(&steps, usize::MAX);
    agree(&events);
    assert_eq!(exchange(&events).outcome, Outcome::ClientAborted);
    let [whole, cut] = messages(&events)[..] else { panic!("{events:?}") };
    assert_eq!(
        (whole.outcome, cut.outcome, &cut.body.kept[..]),
        (Outcome::Complete, Outcome::ClientAborted, &b"par"[..])
    );
}

#[test]
fn events_and_bodies_of_unknown_length_are_written_by_the_clock() {
    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/")];
    let mut player = begin(Limits::default());
    player.show(Side::Client, &[head(1, END_STREAM, &GET), head(3, END_STREAM, &GET)].concat());
    player.show(Side::Server, &head(1, 0, &[(":status", "200"), ("content-type", "text/event-stream")]));
    player.show(Side::Server, &head(3, 0, &[(":status", "200")]));
    player.show(Side::Server, &[data(1, 0, b"data: 1\n\n"), data(3, 0, b"slow")].concat());
    assert!(player.tap.due().is_some());
    player.wait(2 * SECOND);
    let bodies: Vec<_> = messages(&player.events).iter().map(|one| (one.stream, &one.body.kept[..])).collect();
    assert_eq!(bodies.len(), 2);
    assert!(bodies.contains(&(Some(1), b"data: 1\n\n")) && bodies.contains(&(Some(3), b"slow")));
    assert_eq!(player.tap.due(), None);
    player.show(Side::Server, &[data(1, END_STREAM, b"data: 2\n\n"), data(3, END_STREAM, b"er")].concat());
    let events = player.finish();
    let protocols: Vec<_> = exchanges(&events).iter().map(|one| (one.protocol, response_body(one).clone())).collect();
    assert_eq!(
        protocols,
        [
            (Protocol::EventStream, Body { size: 18, kept: Vec::new(), in_messages: true }),
            (Protocol::Http2, Body { size: 6, kept: Vec::new(), in_messages: true }),
        ]
    );
}

#[test]
fn many_event_streams_hold_no_more_than_a_connection_may() {
    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/")];
    let mut player = begin(Limits { waiting: 100_000, ..Limits::default() });
    for stream in (0..50).map(|at| 2 * at + 1) {
        player.show(Side::Client, &head(stream, END_STREAM, &GET));
        player.show(Side::Server, &head(stream, 0, &[(":status", "200"), ("content-type", "text/event-stream")]));
    }
    for round in 0..20 {
        for stream in (0..50).map(|at| 2 * at + 1) {
            player.show(Side::Server, &data(stream, 0, &[round; 3000]));
        }
    }
    let events = player.finish();
    let written: usize = messages(&events).iter().map(|message| message.body.kept.len()).sum();
    let sent: u64 = exchanges(&events).iter().map(|exchange| response_body(exchange).size).sum();
    assert_eq!(written as u64, sent);
    assert!(messages(&events).iter().all(|message| message.body.kept.len() < 60_000));
}

const CONNECT: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", "x"),
    (":path", "/ws"),
    ("sec-websocket-version", "13"),
];

#[test]
fn an_extended_connect_becomes_a_websocket() {
    let hello = websocket(Side::Client, 0x81, b"hello");
    let (begin, rest) = hello.split_at(4);
    let steps = vec![
        (Side::Client, head(1, 0, &CONNECT)),
        (Side::Server, head(1, 0, &[(":status", "200"), ("sec-websocket-extensions", "permessage-deflate")])),
        (Side::Client, data(1, 0, begin)),
        (Side::Client, data(1, 0, rest)),
        (Side::Server, data(1, 0, &websocket(Side::Server, 0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"))),
        (Side::Client, data(1, END_STREAM, &websocket(Side::Client, 0x88, b"\x03\xe8"))),
        (Side::Server, data(1, END_STREAM, &websocket(Side::Server, 0x88, b"\x03\xe8"))),
    ];
    let whole = play(&steps, usize::MAX);
    agree(&whole);
    let exchange = exchange(&whole);
    assert_eq!((exchange.protocol, exchange.outcome), (Protocol::WebSocket, Outcome::Complete));
    assert_eq!(exchange.messages, Some(Messages { client: 2, server: 2 }));
    assert_eq!((exchange.request.body.size, response_body(exchange).size), (7, 7));
    let bodies: Vec<_> = messages(&whole).iter().map(|one| (one.sender, one.compressed, &one.body.kept[..])).collect();
    assert_eq!(bodies[..2], [(Sender::Client, false, &b"hello"[..]), (Sender::Server, true, b"Hello")]);
    assert_eq!(timeless(play(&steps, 1)), timeless(whole));
}

#[test]
fn a_websocket_that_is_reset_blames_who_reset_it() {
    let steps = vec![
        (Side::Client, head(1, 0, &CONNECT)),
        // Sent too early, and read all the same.
        (Side::Client, data(1, 0, &websocket(Side::Client, 0x81, b"early"))),
        (Side::Server, head(1, 0, &[(":status", "200")])),
        (Side::Server, data(1, 0, &websocket(Side::Server, 0x81, b"partly")[..5])),
        (Side::Server, frame(3, 0, 1, &2u32.to_be_bytes())),
    ];
    let events = play(&steps, usize::MAX);
    agree(&events);
    assert_eq!(exchange(&events).outcome, Outcome::ServerAborted);
    let bodies: Vec<_> = messages(&events).iter().map(|one| (one.outcome, &one.body.kept[..])).collect();
    assert_eq!(bodies, [(Outcome::Complete, &b"early"[..]), (Outcome::ServerAborted, b"par")]);
}

#[test]
fn a_refused_extended_connect_and_a_plain_one_are_no_websockets() {
    let plain = [(":method", "CONNECT"), (":authority", "x:1")];
    for (fields, status) in [(&CONNECT[..], "403"), (&plain[..], "200")] {
        let steps = vec![
            (Side::Client, head(1, 0, fields)),
            (Side::Server, head(1, 0, &[(":status", status)])),
            (Side::Server, data(1, END_STREAM, b"\x81\x00")),
            (Side::Client, data(1, END_STREAM, b"")),
        ];
        let events = play(&steps, usize::MAX);
        assert!(messages(&events).is_empty());
        assert_eq!(response_body(exchange(&events)).kept, b"\x81\x00");
        assert_eq!(exchange(&events).protocol, Protocol::Http2);
    }
}
