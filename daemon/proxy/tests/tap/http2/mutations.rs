//! Bytes that nobody thought of: conversations of the corpus, damaged by dice that roll the same each time. Whatever
//! comes, the tap does not panic, keeps within its limits, and loses no byte from its counts.

use nodetap_core::exchange::{Bytes, Direction, Event, Message};
use nodetap_core::head::{Fields, Head, Oddities};
use nodetap_proxy::tap::{End, Limits, Side};

use super::corpus::{self, Step, cases};
use crate::drive::{Dice, Player, timeless};

const ROUNDS: u64 = 20_000;
const LIMITS: Limits = Limits { body: 32, head: 512, fields: 20, pipeline: 4, waiting: 6 * 1024 };

/// Both sides' pieces, in order, then how it ends.
struct Conversation {
    pieces: Vec<(Side, Vec<u8>)>,
    ends: Vec<(Side, End)>,
}

fn conversation(dice: &mut Dice, all: &[corpus::Case]) -> Conversation {
    let (mut pieces, mut ends) = (Vec::new(), Vec::new());
    for round in 0..=dice.roll(3) {
        for (place, step) in all[dice.roll(all.len())].steps.iter().enumerate() {
            match step {
                // A second conversation has greeted already.
                Step::C(_) | Step::S(_) if round > 0 && place < 2 => {}
                Step::C(bytes) => pieces.push((Side::Client, bytes.clone())),
                Step::S(bytes) => pieces.push((Side::Server, bytes.clone())),
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

/// What upsets parsers: frames out of place.
fn odd_frame(dice: &mut Dice) -> Vec<u8> {
    let byte = |dice: &mut Dice| u8::try_from(dice.roll(256)).unwrap();
    let kind = u8::try_from(dice.roll(11)).unwrap();
    let (flags, stream) = (byte(dice), u32::try_from(dice.roll(8)).unwrap());
    let payload: Vec<u8> = (0..dice.roll(12)).map(|_| byte(dice)).collect();
    corpus::frame(kind, flags, stream, &payload)
}

fn damage(dice: &mut Dice, pieces: &mut Vec<(Side, Vec<u8>)>) {
    let which = dice.roll(pieces.len());
    let other = dice.roll(pieces.len());
    let odd = odd_frame(dice);
    let bytes = &mut pieces[which].1;
    let at = dice.roll(bytes.len() + 1);
    match dice.roll(9) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(..at)),
        2 => drop(bytes.splice(at..at, odd)),
        3 => bytes.extend(odd),
        4 => drop(bytes.splice(0..0, odd)),
        5 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
        6 if at < bytes.len() => drop(bytes.remove(at)),
        7 => pieces.swap(which, other),
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

/// Every head that HTTP/2 made can be read again, line by line.
fn is_plain(message: &Message) -> bool {
    let odd = Oddities::FOLDED.union(Oddities::NUL).union(Oddities::BARE_CR).union(Oddities::BARE_LF);
    let (mut head, mut trailers) = (Head::parse(&message.head).fields(), Fields::of(&message.trailers));
    let made_here = message.head.windows(8).any(|text| text == b" HTTP/2\r") || message.head.starts_with(b"HTTP/2 ");
    head.by_ref().chain(trailers.by_ref()).for_each(drop);
    !made_here || !(head.oddities().intersects(odd) || trailers.oddities().intersects(odd))
}

#[test]
fn damaged_conversations_neither_panic_nor_overflow_nor_lose_bytes() {
    let all = cases();
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
                    let messages = || [&exchange.request].into_iter().chain(&exchange.response);
                    let bounded = messages().all(within_limits) && exchange.interim.len() <= LIMITS.head;
                    assert!(bounded && messages().all(is_plain), "round {round}: {exchange:?}");
                }
                Event::Connection(summary) => assert_eq!(summed_up.replace(summary.bytes), None, "round {round}"),
                Event::Loss(_) | Event::Message(_) => {}
            }
        }
        assert!(summed_up.is_none_or(|bytes| bytes == totals), "round {round}");
        assert!(summed_up.is_some() || !events.is_empty(), "round {round}: nothing was recorded");
        assert!(sum.sent <= totals.sent && sum.received <= totals.received, "round {round}");
        assert_eq!(timeless(play(&conversation, Some(&mut dice))), timeless(events), "round {round}, in pieces");
    }
}
