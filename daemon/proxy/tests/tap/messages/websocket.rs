//! WebSocket messages: what is whole, what is wrong, and how it ends.

use super::frames::{Cut, REQUEST, client, frame, play, server, upgraded};
use super::*;
use nodetap_core::exchange::{Messages, Protocol};

use crate::drive::timeless;

use MessageKind::{Binary, Close, Ping, Pong, Text};
use Outcome::{ClientAborted, Complete, Malformed, Passthrough, ServerAborted};
use Sender::{Client as C, Server as S};

type Row = (&'static str, Vec<(Side, Vec<u8>)>, Vec<(Sender, MessageKind, &'static [u8], Outcome, &'static str)>);

/// Frames, and the messages that they are: sender, kind, body, outcome, part of the detail.
fn rows() -> Vec<Row> {
    let long_ping: &'static [u8] = &[b'p'; 126];
    let minimal = |bytes: &[u8]| (Side::Server, bytes.to_vec());
    vec![
        (
            "a text and its echo",
            vec![client(0x81, b"hello"), server(0x81, b"hello")],
            vec![(C, Text, b"hello", Complete, ""), (S, Text, b"hello", Complete, "")],
        ),
        (
            "empty messages",
            vec![client(0x81, b""), client(0x82, b""), server(0x89, b"")],
            vec![(C, Text, b"", Complete, ""), (C, Binary, b"", Complete, ""), (S, Ping, b"", Complete, "")],
        ),
        (
            "fragments with control frames in between",
            vec![
                client(0x01, b"fr"),
                client(0x89, b"p"),
                client(0x00, b"agm"),
                client(0x8a, b""),
                client(0x80, b"ents"),
            ],
            vec![(C, Ping, b"p", Complete, ""), (C, Pong, b"", Complete, ""), (C, Text, b"fragments", Complete, "")],
        ),
        (
            "a fragment that is empty",
            vec![server(0x02, b""), server(0x00, b""), server(0x80, b"x")],
            vec![(S, Binary, b"x", Complete, "")],
        ),
        (
            "a character across fragments",
            vec![server(0x01, b"\xce"), server(0x80, b"\xba")],
            vec![(S, Text, "κ".as_bytes(), Complete, "")],
        ),
        (
            "close with a code and a reason",
            vec![client(0x88, b"\x03\xe8bye"), server(0x88, b"\x03\xe8")],
            vec![(C, Close, b"\x03\xe8bye", Complete, ""), (S, Close, b"\x03\xe8", Complete, "")],
        ),
        ("text that is not UTF-8", vec![client(0x81, b"\xff")], vec![(C, Text, b"\xff", Malformed, "UTF-8")]),
        (
            "text that ends within a character",
            vec![client(0x81, b"a\xce")],
            vec![(C, Text, b"a\xce", Malformed, "UTF-8")],
        ),
        ("a surrogate", vec![client(0x81, b"\xed\xa0\x80")], vec![(C, Text, b"\xed\xa0\x80", Malformed, "UTF-8")]),
        (
            "reserved bits",
            vec![server(0xc1, b"a"), server(0xa1, b"b"), server(0x99, b"c")],
            vec![
                (S, Text, b"a", Malformed, "reserved bit"),
                (S, Text, b"b", Malformed, "reserved bit"),
                (S, Ping, b"c", Malformed, "reserved bit"),
            ],
        ),
        (
            "reserved opcodes",
            vec![server(0x83, b"a"), server(0x07, b""), server(0x8b, b"b"), server(0x8f, b"")],
            vec![
                (S, Binary, b"a", Malformed, "reserved opcode"),
                (S, Binary, b"", Malformed, "reserved opcode"),
                (S, Binary, b"b", Malformed, "reserved opcode"),
                (S, Binary, b"", Malformed, "reserved opcode"),
            ],
        ),
        (
            "a client that does not mask",
            vec![(Side::Client, frame(Side::Server, 0x81, b"a")), client(0x81, b"b")],
            vec![(C, Text, b"a", Malformed, "not masked"), (C, Text, b"b", Complete, "")],
        ),
        (
            "a server that masks",
            vec![(Side::Server, frame(Side::Client, 0x81, b"a"))],
            vec![(S, Text, b"a", Malformed, "masked")],
        ),
        (
            "a ping that is too long",
            vec![server(0x89, long_ping)],
            vec![(S, Ping, long_ping, Malformed, "more than 125")],
        ),
        (
            "a ping in fragments",
            vec![server(0x09, b"a"), server(0x80, b"b")],
            vec![(S, Ping, b"a", Malformed, "fragmented"), (S, Binary, b"b", Malformed, "never begun")],
        ),
        (
            "a continuation of nothing",
            vec![server(0x80, b"a"), server(0x81, b"b")],
            vec![(S, Binary, b"a", Malformed, "never begun"), (S, Text, b"b", Complete, "")],
        ),
        (
            "a continuation of nothing that goes on",
            vec![server(0x00, b"a"), server(0x80, b"b")],
            vec![(S, Binary, b"ab", Malformed, "never begun")],
        ),
        (
            "a message within a message",
            vec![server(0x01, b"a"), server(0x81, b"b")],
            vec![(S, Text, b"a", Malformed, "Another message"), (S, Text, b"b", Complete, "")],
        ),
        ("half a close code", vec![server(0x88, b"\x03")], vec![(S, Close, b"\x03", Malformed, "half a code")]),
        (
            "a close code that may not be sent",
            vec![server(0x88, b"\x03\xed")],
            vec![(S, Close, b"\x03\xed", Malformed, "code")],
        ),
        (
            "a close reason that is not UTF-8",
            vec![server(0x88, b"\x03\xe8\xff")],
            vec![(S, Close, b"\x03\xe8\xff", Malformed, "reason")],
        ),
        (
            "data behind a close",
            vec![server(0x88, b""), server(0x8a, b""), server(0x81, b"x")],
            vec![
                (S, Close, b"", Complete, ""),
                (S, Pong, b"", Complete, ""),
                (S, Text, b"x", Malformed, "behind a Close"),
            ],
        ),
        (
            "a length of one byte in two",
            vec![minimal(b"\x82\x7e\x00\x01a")],
            vec![(S, Binary, b"a", Malformed, "as few bytes")],
        ),
        (
            "a length of two bytes in eight",
            vec![minimal(b"\x82\x7f\0\0\0\0\0\0\0\x01a")],
            vec![(S, Binary, b"a", Malformed, "as few bytes")],
        ),
        (
            "what came before a length that cannot be",
            vec![server(0x81, b"a"), minimal(b"\x82\x7f\x80\0\0\0\0\0\0\x01a"), server(0x81, b"b")],
            vec![(S, Text, b"a", Complete, "")],
        ),
    ]
}

#[test]
fn frames_become_the_messages_of_their_row() {
    for (name, steps, expected) in rows() {
        let events = play(Limits::default(), "", &steps, &[], Cut::Whole);
        agree(&events);
        let messages = messages(&events);
        assert_eq!(messages.len(), expected.len(), "{name}: {messages:?}");
        for (message, (sender, kind, body, outcome, detail)) in messages.iter().zip(expected) {
            assert_eq!((message.sender, message.kind, message.outcome), (sender, kind, outcome), "{name}: {message:?}");
            assert_eq!(
                message.body,
                Body { size: body.len() as u64, kept: body.to_vec(), in_messages: false },
                "{name}"
            );
            assert!(message.detail.as_deref().unwrap_or_default().contains(detail), "{name}: {message:?}");
            assert_eq!((message.protocol, message.compressed), (Protocol::WebSocket, false), "{name}");
        }
    }
}

#[test]
fn messages_do_not_depend_on_how_bytes_are_cut() {
    for (name, steps, _) in rows() {
        let play = |cut| timeless(play(Limits::default(), "", &steps, &[], cut));
        let whole = play(Cut::Whole);
        for at in 1..steps.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or_default() {
            assert_eq!(play(Cut::At(at)), whole, "{name} cut at {at}");
        }
        assert_eq!(play(Cut::EachByte), whole, "{name}, each byte");
    }
}

#[test]
fn the_exchange_counts_messages_bytes_and_sizes() {
    let steps =
        [client(0x01, b"ab"), client(0x80, b"c"), server(0x82, &[7; 300]), client(0x88, b""), server(0x88, b"")];
    let events = play(Limits::default(), "Sec-WebSocket-Accept: x\r\n", &steps, &[], Cut::Whole);
    let exchange = exchange(&events);
    assert_eq!((exchange.protocol, exchange.outcome), (Protocol::WebSocket, Complete));
    assert_eq!(exchange.messages, Some(Messages { client: 2, server: 2 }));
    assert_eq!(exchange.request.body, Body { size: 3, kept: Vec::new(), in_messages: true });
    assert_eq!(*response_body(exchange), Body { size: 300, kept: Vec::new(), in_messages: true });
    let sent = |side| steps.iter().filter(|(from, _)| *from == side).map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    assert_eq!(exchange.bytes.received, REQUEST.len() as u64 + sent(Side::Client));
    let wire = |sender| messages(&events).iter().filter(|one| one.sender == sender).map(|one| one.wire).sum::<u64>();
    assert_eq!((wire(C), wire(S)), (sent(Side::Client), sent(Side::Server)));
    assert_eq!(messages(&events)[0].seq, 0);
    assert!(crate::drive::summaries(&events).is_empty());
}

#[test]
fn messages_are_written_when_they_are_whole_and_say_when_they_came() {
    let mut player = upgraded(Limits::default(), "");
    let bytes = frame(Side::Server, 0x81, b"slow");
    player.show(Side::Server, &bytes[..1]);
    let began = player.now;
    player.wait(2_000_000);
    assert!(player.events.is_empty());
    player.show(Side::Server, &bytes[1..]);
    let events = std::mem::take(&mut player.events);
    let [message] = messages(&events)[..] else { panic!("{events:?}") };
    assert_eq!((message.time, message.until()), (began, player.now));
}

#[test]
fn frames_that_came_with_or_before_the_switch_are_read() {
    let mut player = Player::new(Direction::Inbound, Limits::default());
    player.show(Side::Client, REQUEST.as_bytes());
    player.show(Side::Client, &frame(Side::Client, 0x81, b"early"));
    let mut answer = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n".to_vec();
    answer.extend(frame(Side::Server, 0x81, b"at once"));
    player.show(Side::Server, &answer);
    let events = player.finish();
    let bodies: Vec<_> = messages(&events).iter().map(|message| &message.body.kept[..]).collect();
    assert_eq!(bodies, [&b"early"[..], b"at once"]);
}

#[test]
fn who_left_is_blamed_unless_both_had_closed() {
    let (hello, part) = (server(0x81, b"hello"), (Side::Server, vec![0x81, 9, b'a']));
    let both = [client(0x88, b""), server(0x88, b"")];
    let reset = |side| vec![(side, End::Reset)];
    for (name, steps, ends, outcome, detail) in [
        ("FIN between messages", vec![hello.clone()], vec![], Complete, ""),
        (
            "FIN within a message",
            vec![hello.clone(), part.clone()],
            vec![],
            ServerAborted,
            "middle of a message of the server",
        ),
        ("FIN between fragments", vec![client(0x01, b"a")], vec![], ClientAborted, "middle of a message of the client"),
        ("reset by the client", vec![hello.clone()], reset(Side::Client), ClientAborted, "client reset"),
        ("reset by the server", vec![client(0x88, b"")], reset(Side::Server), ServerAborted, "server reset"),
        ("reset behind both closes", both.to_vec(), reset(Side::Client), Complete, ""),
        ("cut by us", vec![hello], vec![(Side::Server, End::Cut)], Passthrough, "by nodetap"),
    ] {
        let events = play(Limits::default(), "", &steps, &ends, Cut::Whole);
        agree(&events);
        let exchange = exchange(&events);
        assert_eq!(exchange.outcome, outcome, "{name}");
        assert!(exchange.detail.as_deref().unwrap_or_default().contains(detail), "{name}: {:?}", exchange.detail);
        if steps.contains(&part) {
            let cut = *messages(&events).last().unwrap();
            assert_eq!((cut.outcome, &cut.body.kept[..]), (ServerAborted, &b"a"[..]));
        }
    }
}

#[test]
fn a_side_that_is_no_websocket_is_not_read_and_the_exchange_says_so() {
    let mut player = upgraded(Limits::default(), "");
    player.show(Side::Server, b"\x82\x7f\xff\0\0\0\0\0\0\0");
    assert_eq!(player.tap.skippable(Side::Server), u64::MAX);
    player.show(Side::Client, &frame(Side::Client, 0x81, b"still read"));
    let events = player.finish();
    assert_eq!(messages(&events).len(), 1);
    assert_eq!(exchange(&events).outcome, Malformed);
    assert!(exchange(&events).detail.as_deref().unwrap().contains("server sent a WebSocket frame"));
    // Or noise, which violates something in each of its frames.
    let noise = play(Limits::default(), "", &[(Side::Server, [0xf3, 0x00].repeat(5000))], &[], Cut::Whole);
    assert!(messages(&noise).len() < 20);
    assert!(exchange(&noise).detail.as_deref().unwrap().contains("malformed WebSocket messages"));
}

#[test]
fn bodies_beyond_the_cap_are_counted_and_may_be_skipped() {
    let limits = Limits { body: 10, ..Limits::default() };
    let text = "κόσμε".repeat(100);
    let steps = [server(0x81, text.as_bytes()), client(0x02, &[1; 300]), client(0x80, &[2; 300]), server(0x89, b"p")];
    let whole = play(limits, "", &steps, &[], Cut::Whole);
    agree(&whole);
    let first = messages(&whole)[0];
    assert_eq!((first.outcome, first.body.size, &first.body.kept[..]), (Complete, 1000, &text.as_bytes()[..10]));
    let mut player = upgraded(limits, "");
    player.skips = true;
    steps.iter().for_each(|(from, bytes)| player.show(*from, bytes));
    player.end(Side::Client, End::Fin);
    assert_eq!(timeless(player.finish()), timeless(whole));
}

#[test]
fn an_extension_that_is_not_known_leaves_messages_as_sent() {
    let steps = [server(0xc1, b"\xff\xff"), server(0x81, b"plain")];
    let events = play(Limits::default(), "Sec-WebSocket-Extensions: x-other\r\n", &steps, &[], Cut::Whole);
    let rows: Vec<_> = messages(&events).iter().map(|one| (one.outcome, one.detail.is_some())).collect();
    assert_eq!(rows, [(Passthrough, true), (Complete, false)]);
}

#[test]
fn an_upgrade_to_something_else_is_not_read() {
    let mut player = Player::new(Direction::Inbound, Limits::default());
    player.show(Side::Client, REQUEST.as_bytes());
    player.show(Side::Server, b"HTTP/1.1 101 x\r\nUpgrade: other\r\n\r\n\x81\x00");
    let events = player.finish();
    assert!(messages(&events).is_empty() && crate::drive::summaries(&events).len() == 1);
}
