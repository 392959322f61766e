//! Bytes that nobody thought of: conversations of the corpus, damaged by dice that roll the same each time. Whatever
//! comes, the tap does not panic, keeps within its limits, and loses no byte from its counts.

use nodetap_core::exchange::{Bytes, Direction, Event, Message};
use nodetap_proxy::tap::{End, Limits, Side};

use crate::corpus::{Step, cases};
use crate::drive::{Dice, Player, timeless};

const ROUNDS: u64 = 50_000;
const LIMITS: Limits = Limits { body: 32, head: 512, fields: 20, pipeline: 4, waiting: 2048 };
/// What upsets parsers.
const PIECES: [&[u8]; 16] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b":",
    b" ",
    b"\t",
    b";",
    b"0\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"ffffffffffffffff",
    b"\xff",
    b"\x16\x03\x01\x00\x05",
];

/// Both sides' pieces, in order, then how it ends.
struct Conversation {
    pieces: Vec<(Side, Vec<u8>)>,
    ends: Vec<(Side, End)>,
}

fn conversation(dice: &mut Dice, all: &[Vec<Step>]) -> Conversation {
    let (mut pieces, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..=dice.roll(2) {
        for step in &all[dice.roll(all.len())] {
            match step {
                Step::C(bytes) => pieces.push((Side::Client, bytes.to_vec())),
                Step::S(bytes) => pieces.push((Side::Server, bytes.to_vec())),
                Step::ClientFin => ends.push((Side::Client, End::Fin)),
                Step::ServerFin => ends.push((Side::Server, End::Fin)),
                Step::ClientReset => ends.push((Side::Client, End::Reset)),
                Step::ServerReset => ends.push((Side::Server, End::Reset)),
            }
        }
    }
    for _ in 0..=dice.roll(3) {
        if !pieces.is_empty() {
            damage(dice, &mut pieces);
        }
    }
    if dice.roll(4) == 0 {
        ends.push((Side::Server, End::Cut));
    }
    Conversation { pieces, ends }
}

fn damage(dice: &mut Dice, pieces: &mut Vec<(Side, Vec<u8>)>) {
    let which = dice.roll(pieces.len());
    let other = dice.roll(pieces.len());
    let bytes = &mut pieces[which].1;
    let at = dice.roll(bytes.len() + 1);
    match dice.roll(8) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(..at)),
        2 | 3 => drop(bytes.splice(at..at, PIECES[dice.roll(PIECES.len())].iter().copied())),
        4 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
        5 if at < bytes.len() => drop(bytes.remove(at)),
        6 => pieces.swap(which, other),
        _ => {
            let again = pieces[which].clone();
            pieces.insert(other, again);
        }
    }
}

/// Plays it in pieces of random length (`None`: whole), some of them skipped when the tap allows it.
fn play(conversation: &Conversation, mut cut: Option<&mut Dice>) -> Vec<Event> {
    let mut player = Player::new(Direction::Outbound, LIMITS);
    for (from, bytes) in &conversation.pieces {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let count = cut.as_mut().map_or(rest.len(), |dice| (dice.roll(20) + 1).min(rest.len()));
            player.skips = cut.as_mut().is_some_and(|dice| dice.roll(3) == 0);
            player.show(*from, &rest[..count]);
            rest = &rest[count..];
        }
    }
    conversation.ends.iter().for_each(|(from, end)| player.end(*from, *end));
    player.finish()
}

fn within_limits(message: &Message) -> bool {
    message.head.len() <= LIMITS.head && message.trailers.len() <= LIMITS.head && message.body.kept.len() <= LIMITS.body
}

#[test]
fn damaged_conversations_neither_panic_nor_overflow_nor_lose_bytes() {
    let all: Vec<Vec<Step>> = cases().map(|case| case.all_steps()).collect();
    for round in 1..=ROUNDS {
        let mut dice = Dice(round);
        let conversation = conversation(&mut dice, &all);
        let sent = |side| -> u64 {
            conversation.pieces.iter().filter(|(from, _)| *from == side).map(|(_, bytes)| bytes.len() as u64).sum()
        };
        let totals = Bytes { sent: sent(Side::Client), received: sent(Side::Server) };
        let events = play(&conversation, None);
        let mut sum = Bytes::default();
        let mut summed_up = None;
        for event in &events {
            match event {
                Event::Exchange(exchange) => {
                    sum.sent += exchange.bytes.sent;
                    sum.received += exchange.bytes.received;
                    let bounded = within_limits(&exchange.request) && exchange.response.iter().all(within_limits);
                    assert!(bounded && exchange.interim.len() <= LIMITS.head, "round {round}: {exchange:?}");
                }
                Event::Connection(summary) => assert_eq!(summed_up.replace(summary.bytes), None, "round {round}"),
                Event::Loss(_) | Event::Message(_) => {}
            }
        }
        if let Some(bytes) = summed_up {
            assert_eq!(bytes, totals, "round {round}");
            assert!(sum.sent <= totals.sent && sum.received <= totals.received, "round {round}");
        } else {
            // Empty lines behind the last request belong to no exchange.
            assert_eq!(sum.received, totals.received, "round {round}");
            assert!(totals.sent - sum.sent <= trailing_line_ends(&conversation), "round {round}");
        }
        assert_eq!(timeless(play(&conversation, Some(&mut dice))), timeless(events), "round {round}, in pieces");
    }
}

fn trailing_line_ends(conversation: &Conversation) -> u64 {
    let client = conversation.pieces.iter().filter(|(from, _)| *from == Side::Client);
    let bytes: Vec<u8> = client.flat_map(|(_, bytes)| bytes).copied().collect();
    bytes.iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n')).count() as u64
}
