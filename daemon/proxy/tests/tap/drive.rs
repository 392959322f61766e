//! Plays conversations to a tap, in whatever pieces, and makes what it records comparable.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use nodetap_core::exchange::{Connection, ConnectionSummary, Direction, Event, Exchange, Target, Timing, Via};
use nodetap_core::ulid::UlidSource;
use nodetap_proxy::tap::{End, Limits, Side, Tap};

use crate::corpus::Step;

/// When everything begins, in microseconds after 1970.
pub(crate) const ACCEPTED: u64 = 1_790_000_000_000_000;

/// A tap with a clock that moves on by ten microseconds at each call.
pub(crate) struct Player {
    pub(crate) tap: Tap,
    pub(crate) events: Vec<Event>,
    pub(crate) now: u64,
    ids: UlidSource,
    /// Skips what the tap says it need not be shown.
    pub(crate) skips: bool,
}

impl Player {
    pub(crate) fn new(direction: Direction, limits: Limits) -> Self {
        let mut ids = UlidSource::new(7);
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connection = Connection {
            id: ids.next(ACCEPTED),
            direction,
            via: Via::Transparent,
            target: Target::command("test"),
            container: None,
            process: None,
            client: address(1),
            client_name: None,
            server: address(2),
            server_name: None,
            accepted: ACCEPTED,
        };
        let tap = Tap::new(Arc::new(connection), Some(5), limits);
        Self { tap, events: Vec::new(), now: ACCEPTED, ids, skips: false }
    }

    pub(crate) fn show(&mut self, from: Side, mut bytes: &[u8]) {
        self.now += 10;
        while self.skips && !bytes.is_empty() {
            let count = usize::try_from(self.tap.skippable(from)).map_or(bytes.len(), |count| count.min(bytes.len()));
            if count == 0 {
                // One at a time, so that the tap is asked as often as can be.
                self.tap.observe(from, &bytes[..1], self.now, &mut self.ids, &mut self.events);
            } else {
                self.tap.skip(from, count as u64, self.now, &mut self.ids, &mut self.events);
            }
            bytes = &bytes[count.max(1)..];
        }
        self.tap.observe(from, bytes, self.now, &mut self.ids, &mut self.events);
    }

    pub(crate) fn end(&mut self, from: Side, end: End) {
        self.now += 10;
        self.tap.ended(from, end, self.now, &mut self.ids, &mut self.events);
    }

    pub(crate) fn still_open(&mut self) {
        self.now += 10;
        self.tap.still_open(self.now, &mut self.ids, &mut self.events);
    }

    /// Lets time pass, and wakes the tap each time that it wanted to be woken.
    pub(crate) fn wait(&mut self, micros: u64) {
        let until = self.now + micros;
        while let Some(due) = self.tap.due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.tap.tick(self.now, &mut self.ids, &mut self.events);
        }
        self.now = until;
    }

    pub(crate) fn finish(mut self) -> Vec<Event> {
        self.now += 10;
        self.tap.finish(self.now, &mut self.ids, &mut self.events);
        self.events
    }

    /// Plays one step, its bytes in the pieces that `cut` makes of them.
    pub(crate) fn step(&mut self, step: Step, cut: &mut impl FnMut(&'static [u8]) -> Vec<&'static [u8]>) {
        match step {
            Step::C(bytes) => cut(bytes).into_iter().for_each(|piece| self.show(Side::Client, piece)),
            Step::S(bytes) => cut(bytes).into_iter().for_each(|piece| self.show(Side::Server, piece)),
            Step::ClientFin => self.end(Side::Client, End::Fin),
            Step::ServerFin => self.end(Side::Server, End::Fin),
            Step::ClientReset => self.end(Side::Client, End::Reset),
            Step::ServerReset => self.end(Side::Server, End::Reset),
        }
    }
}

/// The events without what depends on when the pieces came: identifiers and times.
pub(crate) fn timeless(mut events: Vec<Event>) -> Vec<Event> {
    let id = UlidSource::new(0).next(0);
    for event in &mut events {
        match event {
            Event::Exchange(exchange) => {
                (exchange.id, exchange.time, exchange.timing) = (id, 0, Timing::default());
            }
            Event::Connection(summary) => (summary.id, summary.timing) = (id, Timing::default()),
            Event::Message(message) => {
                (message.id, message.exchange, message.time, message.end) = (id, id, 0, 0);
            }
            Event::Loss(_) => {}
        }
    }
    events
}

/// Plays all steps, whole, with default limits.
pub(crate) fn play(steps: &[Step], direction: Direction) -> Vec<Event> {
    let mut player = Player::new(direction, Limits::default());
    steps.iter().for_each(|step| player.step(*step, &mut |bytes| vec![bytes]));
    player.finish()
}

/// The exchanges among the events.
pub(crate) fn exchanges(events: &[Event]) -> Vec<&Exchange> {
    events
        .iter()
        .filter_map(|event| if let Event::Exchange(exchange) = event { Some(&**exchange) } else { None })
        .collect()
}

/// The summaries of the connection among the events.
pub(crate) fn summaries(events: &[Event]) -> Vec<&ConnectionSummary> {
    events
        .iter()
        .filter_map(|event| if let Event::Connection(summary) = event { Some(&**summary) } else { None })
        .collect()
}

/// Numbers that look random and are the same each time (xorshift64*).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Below `sides`, which must not be zero.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap_or_default() % sides
    }
}
