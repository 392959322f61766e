//! What was seen of one pod, in numbers. Written by the data plane's threads, read by whoever serves metrics. Every label
//! is one of a fixed set of words; tables have a bound.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use nodetap_core::exchange::{Direction, Event, Exchange, FALLBACK, Loss, Target};
use nodetap_core::row::protocol;
use nodetap_proxy::sink::Sink;

use crate::capture::{self, BeforeAttach, Bypass, Bypassed, Counts, monotonic_ns};
use crate::store::Recorder;

/// Reasons that are told apart of what was lost or passed through; what comes on top is counted as `other`.
const REASONS: usize = 32;
const OTHER: &str = "other";
/// Kinds of requests (direction, protocol, method, class of status) that are told apart.
const REQUESTS: usize = 256;
/// Upper bounds of the durations that are told apart, in microseconds.
pub(super) const BOUNDS: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];
/// Methods that are told apart.
const METHODS: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"];

/// Direction, protocol, method, class of status.
pub(super) type Kind = (&'static str, &'static str, &'static str, &'static str);

/// How long exchanges took.
#[derive(Debug, Clone, Default)]
pub(super) struct Durations {
    /// By upper bound; the last one is for what took longer.
    pub buckets: [u64; BOUNDS.len() + 1],
    pub sum_us: u64,
}

/// Everything that is counted of a pod.
#[derive(Debug, Default)]
pub(super) struct Stats {
    hooks: Mutex<Weak<capture::Target>>,
    /// What hooks counted that are gone.
    before: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    explicit_in: AtomicU64,
    explicit_out: AtomicU64,
    ignored_in: AtomicU64,
    ignored_out: AtomicU64,
    fallback_in: AtomicU64,
    open: AtomicU64,
    requests: Mutex<BTreeMap<Kind, u64>>,
    durations: Mutex<BTreeMap<&'static str, Durations>>,
    lost: Mutex<BTreeMap<&'static str, u64>>,
    passed: Mutex<BTreeMap<&'static str, u64>>,
    exchanges: AtomicU64,
    messages: AtomicU64,
    /// Microseconds from the last time the pod was found to when it was captured.
    attach_us: AtomicU64,
}

pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "in",
        Direction::Outbound => "out",
    }
}

impl Stats {
    /// These hooks count from now on.
    pub(super) fn follow(&self, hooks: &Arc<capture::Target>) {
        *locked(&self.hooks) = Arc::downgrade(hooks);
    }

    /// The hooks go: what they counted stays.
    pub(super) fn keep(&self, hooks: &capture::Target) {
        let counts = routes(&hooks.counts(), hooks.before_attach());
        *locked(&self.hooks) = Weak::new();
        let mut before = locked(&self.before);
        counts.into_iter().for_each(|(key, count)| *before.entry(key).or_default() += count);
    }

    /// A connection came to a listener that the pod was told of; `ignored`: nothing of it is recorded, as was asked.
    pub(super) fn explicit(&self, direction: Direction, ignored: bool) {
        let count = match (direction, ignored) {
            (Direction::Inbound, false) => &self.explicit_in,
            (Direction::Outbound, false) => &self.explicit_out,
            (Direction::Inbound, true) => &self.ignored_in,
            (Direction::Outbound, true) => &self.ignored_out,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The application answered so many connections in our place.
    pub(super) fn went_past(&self, connections: u64) {
        self.fallback_in.fetch_add(connections, Ordering::Relaxed);
    }

    pub(super) fn set_open(&self, open: u64) {
        self.open.store(open, Ordering::Relaxed);
    }

    pub(super) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn set_attach_us(&self, micros: u64) {
        self.attach_us.store(micros, Ordering::Relaxed);
    }

    pub(super) fn attach_us(&self) -> u64 {
        self.attach_us.load(Ordering::Relaxed)
    }

    /// Connections by direction and route.
    pub(super) fn connections(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut sums = locked(&self.before).clone();
        if let Some(hooks) = locked(&self.hooks).upgrade() {
            for (key, count) in routes(&hooks.counts(), hooks.before_attach()) {
                *sums.entry(key).or_default() += count;
            }
        }
        for (key, count) in [
            (("in", "proxy"), &self.explicit_in),
            (("out", "proxy"), &self.explicit_out),
            (("in", "ignored"), &self.ignored_in),
            (("out", "ignored"), &self.ignored_out),
            (("in", "fallback"), &self.fallback_in),
        ] {
            *sums.entry(key).or_default() += count.load(Ordering::Relaxed);
        }
        sums
    }

    /// Where traffic goes past us while the hooks are there, and how many connections that list has no room for.
    pub(super) fn bypasses(&self) -> (Vec<Bypass>, u64) {
        locked(&self.hooks).upgrade().map(|hooks| hooks.bypasses()).unwrap_or_default()
    }

    /// Events and map entries for which the kernel had no room.
    pub(super) fn kernel_full(&self) -> (u64, u64) {
        let hooks = locked(&self.hooks).upgrade();
        hooks.map_or((0, 0), |hooks| {
            let counts = hooks.counts();
            (counts.ring_full, counts.map_full)
        })
    }

    pub(super) fn requests(&self) -> BTreeMap<Kind, u64> {
        locked(&self.requests).clone()
    }

    pub(super) fn durations(&self) -> BTreeMap<&'static str, Durations> {
        locked(&self.durations).clone()
    }

    pub(super) fn lost(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.lost).clone()
    }

    pub(super) fn passed(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.passed).clone()
    }

    /// Exchanges and messages that were recorded.
    pub(super) fn recorded(&self) -> (u64, u64) {
        (self.exchanges.load(Ordering::Relaxed), self.messages.load(Ordering::Relaxed))
    }

    fn count(&self, event: &Event) {
        match event {
            Event::Exchange(exchange) => self.exchange(exchange),
            Event::Message(_) => _ = self.messages.fetch_add(1, Ordering::Relaxed),
            Event::Connection(_) | Event::Loss(_) => {}
        }
    }

    fn exchange(&self, exchange: &Exchange) {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        let direction = direction(exchange.connection.direction);
        let kind = (direction, protocol(exchange.protocol), method(&exchange.request.head), class(exchange));
        let mut requests = locked(&self.requests);
        if requests.contains_key(&kind) || requests.len() < REQUESTS {
            *requests.entry(kind).or_default() += 1;
        }
        drop(requests);
        if let Some(took) = exchange.timing.end {
            let mut durations = locked(&self.durations);
            let durations = durations.entry(direction).or_default();
            let place = BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(BOUNDS.len());
            if let Some(bucket) = durations.buckets.get_mut(place) {
                *bucket += 1;
            }
            durations.sum_us = durations.sum_us.saturating_add(took);
        }
    }
}

/// What the hooks count, by direction and route.
fn routes(counts: &Counts, before: BeforeAttach) -> Vec<((&'static str, &'static str), u64)> {
    let mut all = vec![
        (("out", "redirected"), counts.steered_outbound),
        (("in", "redirected"), counts.steered_inbound),
        (("in", "fallback"), counts.away_inbound),
        (("in", "ignored"), counts.ignored_inbound),
        (("in", "loopback"), counts.loopback_inbound),
        (("out", "datagram"), counts.datagram),
        (("out", "failed"), counts.steered_failed),
        (("in", "before_attach"), before.inbound),
        (("out", "before_attach"), before.outbound),
    ];
    // `away` is what `fallback` is to the other direction.
    let word = |name| if name == "away" { "fallback" } else { name };
    let bypass =
        |name| if matches!(name, "off" | "refused" | "no_route" | "scoped" | "chosen") { "bypass" } else { word(name) };
    all.extend(counts.direct.by_name().into_iter().map(|(name, count)| (("out", bypass(name)), count)));
    all
}

/// The first word of the request's head, if it is one that is told apart.
fn method(head: &[u8]) -> &'static str {
    let word = head.split(|byte| *byte == b' ').next().unwrap_or_default();
    METHODS.into_iter().find(|method| method.as_bytes() == word).unwrap_or("other")
}

fn class(exchange: &Exchange) -> &'static str {
    let head = exchange.response.as_ref().map(|response| response.head.as_slice()).unwrap_or_default();
    // `HTTP/1.1 200 OK`, `HTTP/2 200`
    let status = head.split(|byte| *byte == b' ').nth(1).and_then(|status| status.first().copied());
    match status {
        Some(b'1') => "1xx",
        Some(b'2') => "2xx",
        Some(b'3') => "3xx",
        Some(b'4') => "4xx",
        Some(b'5') => "5xx",
        _ => "none",
    }
}

/// Where one pod's records go: counted, and on to the recorder of all.
#[derive(Debug)]
pub(super) struct TargetSink {
    pub recorder: Recorder,
    pub target: Arc<Target>,
    pub stats: Arc<Stats>,
}

impl TargetSink {
    /// Writes down that the application answered connections in our place.
    pub(super) fn went_past(&self, past: Bypassed) {
        let (now, ago) = (super::unix_micros(), monotonic_ns());
        let at = |ns: u64| now.saturating_sub(ago.saturating_sub(ns) / 1_000);
        self.recorder.record(Event::Loss(Loss {
            time: at(past.first_ns),
            until: at(past.last_ns),
            target: Arc::clone(&self.target),
            reason: FALLBACK.into(),
            exchanges: past.connections,
            bytes: 0,
        }));
    }
}

impl Sink for TargetSink {
    fn record(&self, event: Event) {
        self.stats.count(&event);
        if !self.recorder.record(event) {
            add(&self.stats.lost, "queue_full", 1);
        }
    }

    fn lost(&self, reason: &'static str, exchanges: u64, bytes: u64) {
        add(&self.stats.lost, reason, exchanges);
        let now = super::unix_micros();
        let target = Arc::clone(&self.target);
        self.recorder.record(Event::Loss(Loss {
            time: now,
            until: now,
            target,
            reason: reason.into(),
            exchanges,
            bytes,
        }));
    }

    fn passed_through(&self, reason: &'static str) {
        add(&self.stats.passed, reason, 1);
    }
}

fn add(counts: &Mutex<BTreeMap<&'static str, u64>>, reason: &'static str, number: u64) {
    let mut counts = locked(counts);
    let known = counts.contains_key(reason) || counts.len() < REASONS - 1;
    *counts.entry(if known { reason } else { OTHER }).or_default() += number;
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_one_word_each_and_what_went_past_us_is_a_bypass() {
        let mut counts = Counts { steered_outbound: 7, steered_inbound: 5, ..Counts::default() };
        counts.direct.no_route = 1;
        counts.direct.off = 2;
        counts.direct.away = 3;
        counts.direct.ignored = 4;
        let mut sums: BTreeMap<_, u64> = BTreeMap::new();
        for (key, count) in routes(&counts, BeforeAttach { inbound: 9, outbound: 8 }) {
            *sums.entry(key).or_default() += count;
        }
        for (key, expected) in [
            (("out", "redirected"), 7),
            (("in", "redirected"), 5),
            (("out", "bypass"), 3),
            (("out", "fallback"), 3),
            (("out", "ignored"), 4),
            (("in", "before_attach"), 9),
        ] {
            assert_eq!(sums[&key], expected, "{key:?}");
        }
    }

    #[test]
    fn a_method_is_a_word_of_ours() {
        assert_eq!(method(b"GET /x HTTP/1.1\r\n"), "GET");
        assert_eq!(method(b"BREW /x HTTP/1.1\r\n"), "other");
        assert_eq!(method(b""), "other");
    }

    #[test]
    fn reasons_are_bounded() {
        let counts = Mutex::default();
        for number in 0..100 {
            add(&counts, Box::leak(format!("{number}").into_boxed_str()), 1);
        }
        let counts = locked(&counts);
        assert_eq!((counts.len(), counts[OTHER]), (REASONS, 100 - REASONS as u64 + 1));
    }
}
