//! Listens to the hooks: keeps what they know of foreign listeners current, finds the processes behind the target's
//! own, and writes records of the connections that were not steered.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nodetap_core::exchange::{
    Bytes, Connection, ConnectionSummary, Direction, Event, Outcome, Process, Protocol, Target, Timing, UnixMicros, Via,
};
use nodetap_core::ulid::UlidSource;
use nodetap_proxy::sink::Sink;

use super::processes::Processes;
use crate::cgroup::Cgroup;
use crate::netlink::listeners::{Listener, listeners};
use crate::probes::{Maps, Observation, Observed, Ring, WhyDirect, monotonic_ns};

/// How stale the picture of other programs' listeners may be.
const SYNC: Duration = Duration::from_millis(250);
/// Connections beside us that are followed at a time; as many as the kernel's map holds.
const DIRECT: usize = 16_384;

/// After this time a connect of which no packet left is called refused by the kernel.
const UNBORN: Duration = Duration::from_secs(1);
/// Looks for the process behind a socket before it is given up: it may have handed the socket on to another group.
const LOOKS: u32 = 16;

/// Everything that it needs.
#[derive(Debug)]
pub(super) struct Observer<S> {
    pub maps: Arc<Maps>,
    pub ring: Ring,
    pub cgroup: Arc<Cgroup>,
    pub processes: Arc<Processes>,
    pub sink: S,
    pub target: Arc<Target>,
    pub ids: UlidSource,
    /// Readable when it is time to end.
    pub stop: Arc<OwnedFd>,
    /// Foreign endpoints as the hooks know them.
    pub foreign: BTreeSet<SocketAddr>,
    /// Cookies of everybody else's listening sockets at the last look.
    pub others: Option<BTreeSet<u64>>,
    /// Endpoints of the target that take no IPv4, as the hooks know them.
    pub v6only: BTreeSet<SocketAddr>,
    /// How often the process behind a listening socket was looked for.
    pub(super) looks: HashMap<u64, u32>,
    /// Open connections beside us.
    pub direct: HashMap<u64, Pending>,
}

/// A connection that is not steered, and has not ended.
#[derive(Debug)]
pub(super) struct Pending {
    connection: Connection,
    why: WhyDirect,
    since_ns: u64,
    /// Its first packet has left.
    began: bool,
}

impl<S: Sink> Observer<S> {
    /// Brings the hooks' picture of foreign listeners up to date. Called once before the target starts.
    pub(super) fn sync(&mut self) {
        // Asked before and after: a socket that begins or ends meanwhile must not look like somebody else's.
        let mut own: HashMap<u64, SocketAddr> = self.maps.listeners().into_iter().collect();
        let all = match listeners() {
            Ok(all) => all,
            Err(error) => return tracing::debug!(%error, "cannot list listening sockets"),
        };
        own.extend(self.maps.listeners());
        let (ours, others): (Vec<Listener>, Vec<Listener>) =
            all.into_values().partition(|listener| own.contains_key(&listener.cookie));
        let others_now: BTreeSet<u64> = others.iter().map(|other| other.cookie).collect();
        let foreign: BTreeSet<_> = others
            .iter()
            // A socket of the target that came and went during the look is in neither list of its own. Somebody else's
            // is still there at the next look; before the target starts, all are somebody else's.
            .filter(|other| self.others.as_ref().is_none_or(|seen| seen.contains(&other.cookie)))
            .map(|other| other.address)
            .filter(|address| !address.ip().is_unspecified())
            .collect();
        self.others = Some(others_now);
        for (endpoint, now) in changes(&self.foreign, &foreign) {
            match self.maps.set_foreign(endpoint, now) {
                Ok(()) if now => _ = self.foreign.insert(endpoint),
                Ok(()) => _ = self.foreign.remove(&endpoint),
                // Tried again at the next look.
                Err(error) => tracing::debug!(%error, %endpoint, "foreign listener"),
            }
        }
        let v6only: BTreeSet<_> =
            ours.iter().filter(|listener| listener.v6only).map(|listener| listener.address).collect();
        for (endpoint, now) in changes(&self.v6only, &v6only) {
            if let Err(error) = self.maps.set_v6only(endpoint, now) {
                tracing::warn!(%error, %endpoint, "cannot note that a listener takes no IPv4");
            }
        }
        self.v6only = v6only;
        self.looks.retain(|cookie, _| own.contains_key(cookie));
        let unknown: Vec<_> = ours
            .iter()
            .filter(|listener| !self.processes.knows(listener.address))
            .filter(|listener| *self.looks.entry(listener.cookie).and_modify(|looks| *looks += 1).or_insert(1) <= LOOKS)
            .map(|listener| (listener.address, listener.inode))
            .collect();
        if !unknown.is_empty() {
            self.processes.learn(&unknown, &self.cgroup.processes());
        }
    }

    /// Runs until told to stop, then writes what is still pending.
    pub(super) fn run(mut self) {
        let mut synced = Instant::now();
        loop {
            let stopping = is_readable(&self.stop);
            let mut due = synced.elapsed() >= SYNC;
            while let Some(observation) = self.ring.take_one() {
                due |= matches!(observation.what, Observed::Listen { .. } | Observed::ListenClosed { .. });
                self.observe(observation);
            }
            self.ring.flush_log();
            self.write_unborn(if stopping { Duration::ZERO } else { UNBORN });
            if stopping {
                break;
            }
            if due {
                self.sync();
                synced = Instant::now();
            }
            if let Err(error) = self.ring.wait(self.stop.as_fd(), SYNC) {
                return tracing::error!(%error, "cannot wait for the kernel's events");
            }
        }
        for (_, pending) in std::mem::take(&mut self.direct) {
            let end = "it was still open, or nothing more was seen of it, when nodetap ended";
            self.write(pending, None, Bytes::default(), Outcome::Passthrough, end.into());
        }
    }

    fn observe(&mut self, Observation { cookie, time_ns, what }: Observation) {
        match what {
            Observed::Direct { destination, why, pid, name } => {
                let accepted = unix_micros(time_ns);
                let connection = Connection {
                    id: self.ids.next(accepted),
                    direction: Direction::Outbound,
                    via: Via::Direct,
                    target: Arc::clone(&self.target),
                    container: None,
                    process: Some(Process { pid, name }),
                    client: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
                    client_name: None,
                    server: destination,
                    server_name: None,
                    accepted,
                };
                let pending = Pending { connection, why, since_ns: time_ns, began: false };
                if self.direct.len() < DIRECT {
                    self.direct.insert(cookie, pending);
                } else {
                    self.sink.lost("direct_table_full", 1, 0);
                }
            }
            Observed::DirectBegan => {
                if let Some(pending) = self.direct.get_mut(&cookie) {
                    pending.began = true;
                }
            }
            Observed::DirectFailed { retransmits } => {
                if let Some(pending) = self.direct.remove(&cookie) {
                    let (outcome, how) = match retransmits {
                        0 => (Outcome::Refused, "the kernel was refused, or the program gave up at once"),
                        _ => (Outcome::Timeout, "the server did not answer the kernel"),
                    };
                    let detail = format!("{how}; {}", reason(pending.why)).into();
                    self.write(pending, Some(time_ns), Bytes::default(), outcome, detail);
                }
            }
            Observed::DirectClosed { local, sent, received } => {
                if let Some(mut pending) = self.direct.remove(&cookie) {
                    pending.connection.client = local;
                    let detail = reason(pending.why).into();
                    self.write(pending, Some(time_ns), Bytes { sent, received }, Outcome::Passthrough, detail);
                }
            }
            Observed::Listen { .. } => {}
            Observed::ListenClosed { local } => {
                if !self.maps.is_listening(local) {
                    self.processes.forget(local);
                }
            }
        }
    }

    /// Connects of which not even a packet left: the kernel itself had said no.
    fn write_unborn(&mut self, age: Duration) {
        let now = monotonic_ns();
        let is_unborn =
            |pending: &Pending| !pending.began && u128::from(now.saturating_sub(pending.since_ns)) >= age.as_nanos();
        let unborn: Vec<u64> =
            self.direct.iter().filter(|(_, pending)| is_unborn(pending)).map(|(cookie, _)| *cookie).collect();
        for pending in unborn.iter().filter_map(|cookie| self.direct.remove(cookie)).collect::<Vec<_>>() {
            let detail = format!("the kernel refused it at once; {}", reason(pending.why)).into();
            let since = pending.since_ns;
            self.write(pending, Some(since), Bytes::default(), Outcome::Refused, detail);
        }
    }

    fn write(
        &mut self,
        pending: Pending,
        end_ns: Option<u64>,
        bytes: Bytes,
        outcome: Outcome,
        detail: std::borrow::Cow<'static, str>,
    ) {
        let end = end_ns.map(|end| end.saturating_sub(pending.since_ns) / 1000);
        self.sink.record(Event::Connection(Box::new(ConnectionSummary {
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

/// What has to be set (true) or cleared (false) to get from `before` to `after`.
fn changes(before: &BTreeSet<SocketAddr>, after: &BTreeSet<SocketAddr>) -> Vec<(SocketAddr, bool)> {
    let gone = before.difference(after).map(|endpoint| (*endpoint, false));
    let new = after.difference(before).map(|endpoint| (*endpoint, true));
    gone.chain(new).collect()
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

fn is_readable(fd: &OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

/// From the hooks' clock to the records'.
fn unix_micros(time_ns: u64) -> UnixMicros {
    let ago = Duration::from_nanos(monotonic_ns().saturating_sub(time_ns));
    let at = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}
