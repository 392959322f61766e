//! hyper's client and hyper's server hold conversations that dice have made, in HTTP/1.1 and in HTTP/2: with and without
//! bodies, sized and chunked, with trailers, one after the other and all at once, given up by either. What passed between
//! them is shown to a tap, cut anywhere. The exchanges must be what both peers sent, which is what both of them saw.
//!
//! A conversation is a connection with one to eight exchanges. `NODETAP_CONVERSATIONS` says how many (10,000),
//! `NODETAP_SEED` that it is to be only the one of that number: a failure names it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

mod plan;
mod speak;
mod wire;

use std::collections::HashMap;
use std::fmt::{Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use nodetap_core::exchange::{Event, Exchange, Message, Outcome, Protocol};
use nodetap_core::head::{Fields, Head};
use nodetap_core::url;
use tokio::task::LocalSet;

use self::plan::{Content, Conversation, Fate, Turn, Wire};
use crate::drive::{Dice, exchanges, summaries};

/// Bytes kept of each body.
const KEPT: usize = 20_000;
/// How long a conversation may take: it is over in milliseconds, or never.
const DEADLINE: Duration = Duration::from_secs(20);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Says which conversation it was when a thread falls over one.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the conversation of NODETAP_SEED={}", self.0);
        }
    }
}

#[test]
fn exchanges_equal_what_two_peers_of_another_make_saw() {
    let seeds = match number("NODETAP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("NODETAP_CONVERSATIONS").unwrap_or(10_000),
    };
    let (next, turns) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let one_after_the_other = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let _named = Named(seed);
            turns.fetch_add(converse(&runtime, seed), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(one_after_the_other);
        }
    });
    eprintln!("{} conversations, {} exchanges", seeds.end - seeds.start, turns.into_inner());
}

/// Holds a conversation, and looks at what two taps make of it that were shown it in different pieces. Returns how many
/// exchanges it had.
fn converse(runtime: &tokio::runtime::Runtime, seed: u64) -> u64 {
    let conversation = Arc::new(Conversation::of(seed));
    let talk = async { tokio::time::timeout(DEADLINE, speak::held(&conversation)).await };
    let log = LocalSet::new().block_on(runtime, talk).unwrap_or_else(|_| panic!("it hangs: {conversation:?}"));
    let dice = &mut Dice(seed + 1);
    assert_recorded(&conversation, &wire::replay(&log, dice, false));
    // In HTTP/2, unlike here, what a client sends may depend on all that it was sent before.
    assert_recorded(&conversation, &wire::replay(&log, dice, conversation.wire == Wire::Http1));
    conversation.turns.len() as u64
}

fn assert_recorded(conversation: &Conversation, events: &[Event]) {
    assert!(summaries(events).is_empty(), "{:?}", summaries(events));
    let by_number: HashMap<usize, &Exchange> = exchanges(events)
        .into_iter()
        .map(|exchange| (url::path(&url::of(exchange).text)[1..].parse().unwrap(), exchange))
        .collect();
    assert_eq!((by_number.len(), exchanges(events).len()), (conversation.turns.len(), conversation.turns.len()));
    for (number, turn) in conversation.turns.iter().enumerate() {
        let exchange = by_number[&number];
        let protocol = if conversation.wire == Wire::Http1 { Protocol::Http11 } else { Protocol::Http2 };
        let what = What { number, turn, exchange };
        assert!(exchange.protocol == protocol || turn.version == http::Version::HTTP_10, "{what}");
        assert_whole(&what);
    }
}

/// What an assertion is about.
struct What<'a> {
    number: usize,
    turn: &'a Turn,
    exchange: &'a Exchange,
}

impl Display for What<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "request {}: {:?}\nrecorded: {:?}", self.number, self.turn, self.exchange)
    }
}

fn assert_whole(what: &What<'_>) {
    let What { turn, exchange, .. } = what;
    let outcomes: &[Outcome] = match turn.fate {
        Fate::Answered | Fate::Early => &[Outcome::Complete],
        Fate::Left => &[Outcome::ClientAborted],
        Fate::Failed | Fate::Broken => &[Outcome::ServerAborted],
        // All of it may have come before the client could say so.
        Fate::Enough => &[Outcome::Complete, Outcome::ClientAborted, Outcome::ServerAborted],
    };
    assert!(outcomes.contains(&exchange.outcome), "{what}");
    let response = exchange.response.as_ref();
    assert_eq!(
        response.is_some_and(|response| !response.head.is_empty()),
        !matches!(turn.fate, Fate::Left | Fate::Failed),
        "{what}"
    );
    if turn.fate == Fate::Answered {
        assert_eq!(exchange.detail, None, "{what}");
        let interim: &[u8] = if turn.expects { b"HTTP/1.1 100 Continue\r\n\r\n" } else { b"" };
        assert_eq!(exchange.interim, interim, "{what}");
    }
    let whole = matches!(turn.fate, Fate::Answered | Fate::Broken | Fate::Enough);
    assert_message(&exchange.request, &turn.request, whole, what);
    if let Some(response) = response {
        let whole = exchange.outcome == Outcome::Complete;
        assert_message(response, &turn.response, whole, what);
    }
}

/// The message is what was sent; the beginning of it when it is not `whole`.
fn assert_message(message: &Message, sent: &Content, whole: bool, what: &What<'_>) {
    assert_eq!(pairs_of(Head::parse(&message.head).fields(), 'x'), pairs(&sent.fields, 'x'), "{what}");
    let body = sent.bytes();
    if whole {
        assert_eq!(pairs_of(Fields::of(&message.trailers), 't'), pairs(&sent.trailers, 't'), "{what}");
        assert_eq!(message.body.size, body.len() as u64, "{what}");
    } else {
        assert!(message.body.size <= body.len() as u64, "{what}");
    }
    let size = usize::try_from(message.body.size).unwrap();
    assert_eq!(message.body.kept, body[..size.min(KEPT)], "{what}");
}

fn pairs(map: &HeaderMap, prefix: char) -> Vec<(String, Vec<u8>)> {
    let all = map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    all.filter(|(name, _)| name.starts_with(&format!("{prefix}-"))).collect()
}

fn pairs_of(fields: Fields<'_>, prefix: char) -> Vec<(String, Vec<u8>)> {
    fields
        .map(|field| (String::from_utf8(field.name.to_ascii_lowercase()).unwrap(), field.value.to_vec()))
        .filter(|(name, _)| name.starts_with(&format!("{prefix}-")))
        .collect()
}
