//! Counts what was lost, by target and reason: law 2 says that nothing is lost without a count.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nodetap_core::exchange::{Event, Loss, Target};

/// (Target, reason) pairs that are told apart; what comes on top is counted as `other`.
const KINDS: usize = 1024;

/// Losses merged by target and reason.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<(Arc<Target>, Cow<'static, str>), Loss>);

impl Losses {
    pub(super) fn add(&mut self, loss: Loss) {
        // Of a time in which nobody captured it is not known what was lost: it is told all the same.
        if loss.exchanges == 0 && !loss.is_of_time() {
            return;
        }
        let mut key = (Arc::clone(&loss.target), loss.reason.clone());
        if !self.0.contains_key(&key) && self.0.len() >= KINDS {
            key = (Target::command(""), Cow::Borrowed("other"));
        }
        let (target, reason) = key.clone();
        let empty = Loss { target, reason, exchanges: 0, bytes: 0, ..loss };
        let sum = self.0.entry(key).or_insert(empty);
        sum.time = sum.time.min(loss.time);
        sum.until = sum.until.max(loss.until);
        sum.exchanges += loss.exchanges;
        sum.bytes += loss.bytes;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.0.values()
    }
}

impl IntoIterator for Losses {
    type Item = Loss;
    type IntoIter = std::collections::btree_map::IntoValues<(Arc<Target>, Cow<'static, str>), Loss>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_values()
    }
}

/// What an event is when it is lost. A loss that is lost itself stays what it was.
pub(super) fn loss_of(event: &Event, reason: &'static str) -> Loss {
    let (time, until) = span(event);
    let bytes = weight(event) as u64;
    match event {
        Event::Loss(loss) => loss.clone(),
        Event::Exchange(exchange) => {
            let target = Arc::clone(&exchange.connection.target);
            Loss { time, until, target, reason: reason.into(), exchanges: 1, bytes }
        }
        Event::Connection(summary) => {
            let target = Arc::clone(&summary.connection.target);
            Loss { time, until, target, reason: reason.into(), exchanges: 1, bytes }
        }
        Event::Message(message) => {
            let target = Arc::clone(&message.connection.target);
            Loss { time, until, target, reason: reason.into(), exchanges: 1, bytes }
        }
    }
}

/// From when to when an event went on, in microseconds since 1970.
pub(super) fn span(event: &Event) -> (u64, u64) {
    match event {
        Event::Exchange(exchange) => (exchange.time, exchange.time + exchange.timing.end.unwrap_or(0)),
        Event::Connection(summary) => {
            let time = summary.connection.accepted;
            (time, time + summary.timing.end.unwrap_or(0))
        }
        Event::Message(message) => (message.time, message.until()),
        Event::Loss(loss) => (loss.time, loss.until),
    }
}

/// Bytes of heads, bodies and trailers.
pub(super) fn weight(event: &Event) -> usize {
    match event {
        Event::Exchange(exchange) => {
            let message = |message: &nodetap_core::exchange::Message| {
                message.head.len() + message.body.kept.len() + message.trailers.len()
            };
            message(&exchange.request) + exchange.interim.len() + exchange.response.as_ref().map_or(0, message)
        }
        Event::Message(message) => message.body.kept.len(),
        Event::Connection(_) | Event::Loss(_) => 0,
    }
}

/// Losses of one reason that traffic threads count without waiting for anybody.
#[derive(Debug)]
pub(super) struct Missed {
    reason: &'static str,
    exchanges: AtomicU64,
    bytes: AtomicU64,
    time: AtomicU64,
    until: AtomicU64,
}

impl Missed {
    pub(super) fn new(reason: &'static str) -> Self {
        let zero = || AtomicU64::new(0);
        Self { reason, exchanges: zero(), bytes: zero(), time: AtomicU64::new(u64::MAX), until: zero() }
    }

    pub(super) fn add(&self, event: &Event) {
        let (time, until) = span(event);
        // A loss that is lost keeps its number at least, if not its reason.
        let (exchanges, bytes) = match event {
            Event::Loss(loss) => (loss.exchanges, loss.bytes),
            Event::Exchange(_) | Event::Connection(_) | Event::Message(_) => (1, weight(event) as u64),
        };
        self.time.fetch_min(time, Ordering::Relaxed);
        self.until.fetch_max(until, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.exchanges.fetch_add(exchanges, Ordering::Release);
    }

    /// What was counted since the last call.
    pub(super) fn take(&self, target: &Arc<Target>) -> Loss {
        let exchanges = self.exchanges.swap(0, Ordering::Acquire);
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        let (time, until) = if exchanges == 0 {
            (0, 0)
        } else {
            (self.time.swap(u64::MAX, Ordering::Relaxed), self.until.swap(0, Ordering::Relaxed))
        };
        // A count may be taken between two of its parts: then the time is not there yet, and `until` stands for it.
        let time = time.min(until);
        Loss { time, until, target: Arc::clone(target), reason: self.reason.into(), exchanges, bytes }
    }
}
