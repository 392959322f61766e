//! gRPC's framing, carried by HTTP/1 as some do it; the HTTP/2 of real ones is tested beside its own tap.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use nodetap_core::exchange::{Messages, Protocol};

use super::*;
use crate::drive::timeless;

fn message(flag: u8, body: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(body.len()).unwrap_or_default().to_be_bytes(), body].concat()
}

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

fn call(limits: Limits, encoding: &str) -> Player {
    let mut player = Player::new(Direction::Outbound, limits);
    let fields = format!("Content-Type: application/grpc+proto\r\n{encoding}Transfer-Encoding: chunked\r\n\r\n");
    player.show(Side::Client, format!("POST /s.S/M HTTP/1.1\r\nTE: trailers\r\n{fields}").as_bytes());
    player.show(Side::Server, format!("HTTP/1.1 200 OK\r\n{fields}").as_bytes());
    player
}

fn bodies(events: &[Event]) -> Vec<(Sender, Outcome, &[u8])> {
    messages(events)
        .into_iter()
        .map(|message| {
            assert_eq!((message.kind, message.protocol), (MessageKind::Grpc, Protocol::Grpc));
            (message.sender, message.outcome, &message.body.kept[..])
        })
        .collect()
}

const LAST: &[u8] = b"0\r\ngrpc-status: 0\r\n\r\n";

#[test]
fn all_four_kinds_of_calls_are_split_into_their_messages() {
    for (up, down) in [(1, 1), (1, 3), (3, 1), (3, 3), (0, 2)] {
        let play = |size: usize| {
            let mut player = call(Limits::default(), "");
            let sent: Vec<u8> = (0..up).flat_map(|at| message(0, &vec![b'u'; at * 10])).collect();
            let received: Vec<u8> = (0..down).flat_map(|at| message(0, &vec![b'd'; at * 10])).collect();
            for (side, data) in [(Side::Client, &sent), (Side::Server, &received)] {
                if !data.is_empty() {
                    chunk(data).chunks(size).for_each(|part| player.show(side, part));
                }
            }
            player.show(Side::Client, b"0\r\n\r\n");
            player.show(Side::Server, LAST);
            player.finish()
        };
        let whole = play(1000);
        agree(&whole);
        let count = |sender| {
            bodies(&whole).iter().filter(|(by, outcome, _)| (*by, *outcome) == (sender, Outcome::Complete)).count()
        };
        assert_eq!((count(Sender::Client), count(Sender::Server)), (up, down));
        let exchange = exchange(&whole);
        assert_eq!((exchange.protocol, exchange.outcome), (Protocol::Grpc, Outcome::Complete));
        assert_eq!(exchange.messages, Some(Messages { client: up as u64, server: down as u64 }));
        let wire: u64 = messages(&whole).iter().map(|message| message.wire).sum();
        assert_eq!(exchange.request.body.size + response_body(exchange).size, wire);
        assert!(exchange.request.body.in_messages && response_body(exchange).in_messages);
        assert_eq!(timeless(play(1)), timeless(whole));
    }
}

#[test]
fn messages_are_written_while_the_call_is_open() {
    let mut player = call(Limits::default(), "");
    player.show(Side::Client, &chunk(&message(0, b"a")));
    assert_eq!(bodies(&player.events), [(Sender::Client, Outcome::Complete, &b"a"[..])]);
    player.show(Side::Server, &chunk(&message(0, b"b")));
    assert_eq!(bodies(&player.events).len(), 2);
    assert_eq!(player.tap.due(), None);
}

#[test]
fn compressed_messages_are_decompressed() {
    let plain = b"the same again, the same again, the same again".repeat(9);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&plain).unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&plain).unwrap();
    let (gzip, zlib) = (gzip.finish().unwrap(), zlib.finish().unwrap());
    for (encoding, sent, kept, outcome) in [
        ("grpc-encoding: gzip\r\n", &gzip, &plain, Outcome::Complete),
        ("grpc-encoding: deflate\r\n", &zlib, &plain, Outcome::Complete),
        ("grpc-encoding: zstd\r\n", &gzip, &gzip, Outcome::Passthrough),
        ("grpc-encoding: deflate\r\n", &gzip, &gzip, Outcome::Malformed),
        ("grpc-encoding: identity\r\n", &gzip, &gzip, Outcome::Malformed),
        ("", &gzip, &gzip, Outcome::Malformed),
    ] {
        let mut player = call(Limits::default(), encoding);
        player.show(Side::Client, &chunk(&[message(1, sent), message(0, b"plain")].concat()));
        assert_eq!(
            bodies(&player.events),
            [(Sender::Client, outcome, &kept[..]), (Sender::Client, Outcome::Complete, b"plain")],
            "{encoding}"
        );
        assert_eq!(messages(&player.events)[0].wire, sent.len() as u64 + 5);
    }
    let mut player = call(Limits { body: 60, ..Limits::default() }, "grpc-encoding: gzip\r\n");
    player.show(Side::Client, &chunk(&message(1, &gzip)));
    let first = messages(&player.events)[0];
    if gzip.len() <= 60 {
        assert_eq!((first.body.size, &first.body.kept[..]), (plain.len() as u64, &plain[..60]));
    } else {
        assert_eq!((first.outcome, first.body.size), (Outcome::Passthrough, gzip.len() as u64));
    }
}

#[test]
fn a_bomb_is_not_inflated_whole() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    (0..40).for_each(|_| gzip.write_all(&vec![0; 1 << 20]).unwrap());
    let mut player = call(Limits::default(), "grpc-encoding: gzip\r\n");
    player.show(Side::Client, &chunk(&message(1, &gzip.finish().unwrap())));
    let bomb = messages(&player.events)[0];
    assert_eq!((bomb.outcome, bomb.body.kept.len()), (Outcome::Passthrough, 256 * 1024));
    assert!(bomb.body.size < 40 << 20);
}

#[test]
fn a_message_beyond_the_cap_is_counted() {
    let mut player = call(Limits { body: 10, ..Limits::default() }, "");
    player.show(Side::Client, &chunk(&message(0, &[b'x'; 100])));
    let first = messages(&player.events)[0];
    assert_eq!((first.outcome, first.body.size, first.body.kept.len()), (Outcome::Complete, 100, 10));
}

#[test]
fn a_message_that_is_cut_says_so_and_so_does_its_call() {
    for cut in [1, 5, 8] {
        let mut player = call(Limits::default(), "");
        player.show(Side::Client, b"0\r\n\r\n");
        player.show(Side::Server, &chunk(&message(0, b"whole")));
        player.show(Side::Server, &chunk(&message(0, b"partly")[..cut]));
        player.show(Side::Server, LAST);
        let events = player.finish();
        agree(&events);
        assert_eq!(bodies(&events)[1].1, Outcome::Malformed);
        assert_eq!(messages(&events)[1].wire, cut as u64);
        assert_eq!(exchange(&events).outcome, Outcome::Malformed);
        assert!(exchange(&events).detail.as_deref().unwrap().contains("last message of the response is cut"));
    }
    let mut player = call(Limits::default(), "");
    player.show(Side::Client, &chunk(&message(0, b"partly")[..7]));
    player.end(Side::Client, End::Reset);
    let events = player.finish();
    assert_eq!(bodies(&events), [(Sender::Client, Outcome::ClientAborted, &b"pa"[..])]);
}

#[test]
fn a_flag_that_is_none_ends_the_reading_of_that_side() {
    let mut player = call(Limits::default(), "");
    player.show(Side::Client, &chunk(&[message(0, b"a"), message(7, b"b"), message(0, b"c")].concat()));
    player.show(Side::Client, b"0\r\n\r\n");
    player.show(Side::Server, &chunk(&message(0, b"d")));
    player.show(Side::Server, LAST);
    let events = player.finish();
    assert_eq!(bodies(&events).iter().map(|row| row.2).collect::<Vec<_>>(), [b"a", b"d"]);
    assert_eq!(exchange(&events).outcome, Outcome::Malformed);
    assert!(exchange(&events).detail.as_deref().unwrap().contains("flag 0x07"));
}

#[test]
fn what_is_not_grpc_is_not_split() {
    for kind in ["application/grpc-web", "application/grpc-web-text", "application/grpcx"] {
        let mut player = Player::new(Direction::Outbound, Limits::default());
        let head = format!("POST / HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: 6\r\n\r\n");
        player.show(Side::Client, head.as_bytes());
        player.show(Side::Client, &message(0, b"a"));
        let events = player.finish();
        assert!(messages(&events).is_empty());
        assert_eq!(exchange(&events).request.body.kept.len(), 6);
    }
    let mut player = Player::new(Direction::Outbound, Limits::default());
    player.show(
        Side::Client,
        b"POST / HTTP/1.1\r\nContent-Type: application/grpc\r\nContent-Length: 6\r\n\r\n\0\0\0\0\x01a",
    );
    player.show(Side::Server, b"HTTP/1.1 503 No\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno");
    let events = player.finish();
    assert_eq!(response_body(exchange(&events)).kept, b"no");
    assert_eq!(exchange(&events).messages, Some(Messages { client: 1, server: 0 }));
}
