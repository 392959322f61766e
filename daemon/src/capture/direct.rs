//! Connections of a target that go beside us: followed from their first packet to their end, and recorded then. Where
//! they went, and on whose account, is kept in a table of limited size.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nodetap_core::exchange::{
    Bytes, Connection, ConnectionSummary, Direction, Event, Outcome, Process, Protocol, Target, Timing, UnixMicros, Via,
};
use nodetap_core::ulid::UlidSource;
use nodetap_proxy::sink::Sink;

use crate::probes::{WhyDirect, monotonic_ns};

/// Connections that are followed at a time, of all targets together; as many as the kernel's map holds.
const ALL: usize = 16_384;
/// After this time a connect of which no packet left is called refused by the kernel.
pub(super) const UNBORN: Duration = Duration::from_secs(1);

/// What is followed of one target.
#[derive(Debug)]
pub(super) struct Direct {
    target: Arc<Target>,
    ids: UlidSource,
    open: HashMap<u64, Pending>,
    /// How many of `open` have not begun.
    unborn: usize,
    /// Of all targets.
    all: Arc<AtomicUsize>,
}

/// A connection that is not steered, and has not ended.
#[derive(Debug)]
struct Pending {
    connection: Connection,
    why: WhyDirect,
    since_ns: u64,
    /// Its first packet has left.
    began: bool,
}

impl Direct {
    pub(super) fn new(target: Arc<Target>, seed: u128, all: Arc<AtomicUsize>) -> Self {
        Self { target, ids: UlidSource::new(seed), open: HashMap::new(), unborn: 0, all }
    }

    /// A connect that is not steered.
    pub(super) fn connect(
        &mut self,
        cookie: u64,
        time_ns: u64,
        destination: SocketAddr,
        why: WhyDirect,
        process: Process,
        sink: &dyn Sink,
    ) {
        if self.all.load(Ordering::Relaxed) >= ALL {
            return sink.lost("direct_table_full", 1, 0);
        }
        let accepted = unix_micros(time_ns);
        let connection = Connection {
            id: self.ids.next(accepted),
            direction: Direction::Outbound,
            via: Via::Direct,
            target: Arc::clone(&self.target),
            container: None,
            process: Some(process),
            client: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            client_name: None,
            server: destination,
            server_name: None,
            accepted,
        };
        self.unborn += 1;
        match self.open.insert(cookie, Pending { connection, why, since_ns: time_ns, began: false }) {
            None => _ = self.all.fetch_add(1, Ordering::Relaxed),
            // A socket that connects again, after an attempt of which we heard no end.
            Some(before) => self.unborn -= usize::from(!before.began),
        }
    }

    pub(super) fn began(&mut self, cookie: u64) {
        if let Some(pending) = self.open.get_mut(&cookie)
            && !std::mem::replace(&mut pending.began, true)
        {
            self.unborn -= 1;
        }
    }

    /// It was not established; repeated SYNs tell a time-out from a refusal.
    pub(super) fn failed(&mut self, cookie: u64, time_ns: u64, retransmits: u32, sink: &dyn Sink) {
        let Some(pending) = self.take(cookie) else { return };
        let (outcome, how) = match retransmits {
            0 => (Outcome::Refused, "the server refused the connection, or the program gave up at once"),
            _ => (Outcome::Timeout, "the server did not answer"),
        };
        let detail = format!("{how}; {}", reason(pending.why)).into();
        self.write(pending, Some(time_ns), Bytes::default(), outcome, detail, sink);
    }

    pub(super) fn closed(&mut self, cookie: u64, time_ns: u64, local: SocketAddr, bytes: Bytes, sink: &dyn Sink) {
        let Some(mut pending) = self.take(cookie) else { return };
        pending.connection.client = local;
        let detail = reason(pending.why).into();
        self.write(pending, Some(time_ns), bytes, Outcome::Passthrough, detail, sink);
    }

    /// Is there one of which no packet has left?
    pub(super) fn has_unborn(&self) -> bool {
        self.unborn > 0
    }

    /// Connects of which not even a packet left within `age`: the kernel itself had said no.
    pub(super) fn write_unborn(&mut self, age: Duration, sink: &dyn Sink) {
        let now = monotonic_ns();
        let is_unborn =
            |pending: &Pending| !pending.began && u128::from(now.saturating_sub(pending.since_ns)) >= age.as_nanos();
        let unborn: Vec<u64> =
            self.open.iter().filter(|(_, pending)| is_unborn(pending)).map(|(cookie, _)| *cookie).collect();
        for pending in unborn.iter().filter_map(|cookie| self.take(*cookie)).collect::<Vec<_>>() {
            let detail = format!("the kernel of this machine refused it at once; {}", reason(pending.why)).into();
            let since = pending.since_ns;
            self.write(pending, Some(since), Bytes::default(), Outcome::Refused, detail, sink);
        }
    }

    /// Those whose end was not told: the ring was full, or the kernel's map was. `is_open`: does the kernel know it still?
    pub(super) fn prune(&mut self, is_open: impl Fn(u64) -> bool, sink: &dyn Sink) {
        let lost: Vec<u64> = self.open.keys().copied().filter(|cookie| !is_open(*cookie)).collect();
        for pending in lost.iter().filter_map(|cookie| self.take(*cookie)).collect::<Vec<_>>() {
            self.write(pending, None, Bytes::default(), Outcome::Passthrough, "its end was not seen".into(), sink);
        }
    }

    /// Nothing more will be seen of any of them.
    pub(super) fn end(&mut self, sink: &dyn Sink) {
        self.write_unborn(Duration::ZERO, sink);
        let cookies: Vec<u64> = self.open.keys().copied().collect();
        for pending in cookies.iter().filter_map(|cookie| self.take(*cookie)).collect::<Vec<_>>() {
            let end = "it was still open, or nothing more was seen of it, when nodetap ended";
            self.write(pending, None, Bytes::default(), Outcome::Passthrough, end.into(), sink);
        }
    }

    fn take(&mut self, cookie: u64) -> Option<Pending> {
        let pending = self.open.remove(&cookie)?;
        self.unborn -= usize::from(!pending.began);
        self.all.fetch_sub(1, Ordering::Relaxed);
        Some(pending)
    }

    fn write(
        &mut self,
        pending: Pending,
        end_ns: Option<u64>,
        bytes: Bytes,
        outcome: Outcome,
        detail: std::borrow::Cow<'static, str>,
        sink: &dyn Sink,
    ) {
        let end = end_ns.map(|end| end.saturating_sub(pending.since_ns) / 1000);
        sink.record(Event::Connection(Box::new(ConnectionSummary {
            id: self.ids.next(pending.connection.accepted),
            connection: Arc::new(pending.connection),
            protocol: Protocol::Tcp,
            tls: None,
            timing: Timing { end, ..Timing::default() },
            bytes,
            outcome,
            detail: Some(detail),
        })));
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.all.fetch_sub(self.open.len(), Ordering::Relaxed);
    }
}

fn reason(why: WhyDirect) -> &'static str {
    match why {
        WhyDirect::Off => "not steered: this direction or family is switched off",
        WhyDirect::Away => "not steered: nodetap did not answer in time",
        WhyDirect::Refused => "not steered: the destination had just refused",
        WhyDirect::NoRoute => "not steered: no route",
        WhyDirect::Scoped => "not steered: link-local, multicast or bound to a device",
        WhyDirect::Chosen => "not steered: the program chose its own port or marked the socket",
    }
}

/// From the hooks' clock to the records'.
pub(super) fn unix_micros(time_ns: u64) -> UnixMicros {
    let ago = Duration::from_nanos(monotonic_ns().saturating_sub(time_ns));
    let at = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}
