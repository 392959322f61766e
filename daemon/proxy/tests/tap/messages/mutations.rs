//! Bytes that nobody thought of, in WebSockets, gRPC calls and endless bodies.

use super::frames::{frame, upgraded};
use super::*;
use crate::drive::{Dice, timeless};

const ROUNDS: u64 = 40_000;
const LIMITS: Limits = Limits { body: 40, head: 512, fields: 20, pipeline: 4, waiting: 2048 };
const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n";
const GRPC: &str = "Content-Type: application/grpc\r\ngrpc-encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
const SSE: &str = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const PIECES: [&[u8]; 10] = [
    b"\xf2\x48\xcd\xc9\xc9\x07\x00",
    b"Hello",
    b"\0\0\0\0\x03abc",
    b"\x01\0\0\0\x02\x1f\x8b",
    b"5\r\nhello\r\n",
    b"8\r\n\0\0\0\0\x03abc\r\n",
    b"0\r\n\r\n",
    b"\x03\xe8",
    b"\xff\xff\xff\xff",
    b"\x88\x00",
];

fn begin(dice: &mut Dice) -> Player {
    let fields = match dice.roll(4) {
        0 => return upgraded(LIMITS, ""),
        1 => return upgraded(LIMITS, DEFLATE),
        2 => GRPC,
        _ => SSE,
    };
    let mut player = Player::new(Direction::Inbound, LIMITS);
    player.show(Side::Client, format!("POST / HTTP/1.1\r\n{fields}").as_bytes());
    player.show(Side::Server, format!("HTTP/1.1 200 OK\r\n{fields}").as_bytes());
    player
}

fn byte(dice: &mut Dice) -> u8 {
    u8::try_from(dice.roll(256)).unwrap_or_default()
}

fn steps(dice: &mut Dice) -> Vec<(Side, Vec<u8>)> {
    (0..=dice.roll(8))
        .map(|_| {
            let from = if dice.roll(2) == 0 { Side::Client } else { Side::Server };
            let piece = PIECES[dice.roll(PIECES.len())];
            let first = [0x81, 0xc1, 0x01, 0x41, 0x00, 0x80, 0x88, 0x89, 0x8a, byte(dice)][dice.roll(10)];
            let mut bytes = if dice.roll(3) == 0 { piece.to_vec() } else { frame(from, first, piece) };
            match dice.roll(5) {
                0 => bytes.truncate(dice.roll(bytes.len() + 1)),
                1 => {
                    let at = dice.roll(bytes.len());
                    bytes[at] ^= 1 << dice.roll(8);
                }
                2 => bytes.extend(PIECES[dice.roll(PIECES.len())]),
                _ => {}
            }
            (from, bytes)
        })
        .collect()
}

/// Plays it whole, or in pieces of which some are skipped where the tap allows it.
fn play(mut player: Player, steps: &[(Side, Vec<u8>)], mut cut: Option<&mut Dice>) -> Vec<Event> {
    for (from, bytes) in steps {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let count = cut.as_mut().map_or(rest.len(), |dice| (dice.roll(9) + 1).min(rest.len()));
            player.skips = cut.as_mut().is_some_and(|dice| dice.roll(3) == 0);
            player.show(*from, &rest[..count]);
            rest = &rest[count..];
        }
    }
    player.end(Side::Server, End::Fin);
    player.finish()
}

#[test]
fn damaged_messages_neither_panic_nor_overflow_nor_depend_on_cuts() {
    for round in 1..=ROUNDS {
        let mut dice = Dice(round);
        let seed = dice.roll(1 << 20) as u64 + 1;
        let steps = steps(&mut dice);
        let events = play(begin(&mut Dice(seed)), &steps, None);
        let mut wire = 0;
        for message in messages(&events) {
            let most = if message.kind == MessageKind::Piece { 1024 } else { LIMITS.body };
            assert!(message.body.kept.len() <= most, "round {round}: {message:?}");
            assert!(message.body.size >= message.body.kept.len() as u64, "round {round}: {message:?}");
            assert_eq!(message.outcome == Outcome::Complete, message.detail.is_none(), "round {round}: {message:?}");
            wire += message.wire;
        }
        assert!(wire <= steps.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>(), "round {round}");
        let again = play(begin(&mut Dice(seed)), &steps, Some(&mut dice));
        assert_eq!(timeless(again), timeless(events), "round {round}, in pieces");
    }
}

#[test]
fn time_that_passes_anywhere_changes_no_body() {
    for round in 1..=2000 {
        let mut dice = Dice(round);
        let mut player = Player::new(Direction::Inbound, LIMITS);
        player.show(Side::Client, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
        player.show(Side::Server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut sent = [Vec::new(), Vec::new()];
        for _ in 0..dice.roll(12) {
            let which = dice.roll(2);
            let data: Vec<u8> = (0..=dice.roll(9)).map(|_| byte(&mut dice)).collect();
            let from = [Side::Client, Side::Server][which];
            player.show(from, &[format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat());
            sent[which].extend(data);
            player.wait(dice.roll(700_000) as u64);
        }
        if dice.roll(2) == 0 {
            player.show(Side::Client, b"0\r\n\r\n");
            player.show(Side::Server, b"0\r\n\r\n");
        }
        let events = player.finish();
        let exchange = exchange(&events);
        let sides = [(Sender::Client, &exchange.request.body), (Sender::Server, response_body(exchange))];
        for ((sender, body), sent) in sides.into_iter().zip(sent) {
            let pieces = messages(&events).into_iter().filter(|message| message.sender == sender);
            let written: Vec<u8> = pieces.flat_map(|message| message.body.kept.clone()).collect();
            assert_eq!(body.size, sent.len() as u64, "round {round}");
            let kept = if body.in_messages { &written } else { &body.kept };
            assert_eq!(kept[..], sent[..sent.len().min(LIMITS.body)], "round {round}");
        }
    }
}
