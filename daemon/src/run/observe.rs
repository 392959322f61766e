//! Listens to the hooks: keeps what they know of foreign listeners current, finds the processes behind the target's
//! own, and writes records of the connections that were not steered.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nodetap_core::exchange::{
    Bytes, Connection, ConnectionSummary, Direction, Event, Outcome, Process, Protocol, Timing, UnixMicros, Via,
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

/// Everything that it needs.
#[derive(Debug)]
pub(super) struct Observer<S> {
    pub maps: Arc<Maps>,
    pub ring: Ring,
    pub cgroup: Arc<Cgroup>,
    pub processes: Arc<Processes>,
    pub sink: S,
    pub target: String,
    pub ids: UlidSource,
    /// Readable when it is time to end.
    pub stop: Arc<OwnedFd>,
    /// Foreign endpoints as the hooks know them.
    pub foreign: BTreeSet<SocketAddr>,
    /// Open connections beside us.
    pub direct: HashMap<u64, Pending>,
}

/// A connection that is not steered, and has not ended.
#[derive(Debug)]
pub(super) struct Pending {
    connection: Connection,
    why: WhyDirect,
    since_ns: u64,
}

impl<S: Sink> Observer<S> {
    /// Brings the hooks' picture of foreign listeners up to date. Called once before the target starts.
    pub(super) fn sync(&mut self) {
        let all = match listeners() {
            Ok(all) => all,
            Err(error) => return tracing::warn!(%error, "cannot list listening sockets"),
        };
        let own: HashMap<u64, SocketAddr> = self.maps.listeners().into_iter().collect();
        let (ours, others): (Vec<Listener>, Vec<Listener>) =
            all.into_values().partition(|listener| own.contains_key(&listener.cookie));
        let foreign: BTreeSet<_> =
            others.iter().map(|other| other.address).filter(|address| !address.ip().is_unspecified()).collect();
        for (endpoint, now) in changes(&self.foreign, &foreign) {
            if let Err(error) = self.maps.set_foreign(endpoint, now) {
                tracing::debug!(%error, %endpoint, "foreign listener");
            }
        }
        self.foreign = foreign;
        for listener in ours.iter().filter(|listener| listener.v6only) {
            // It may have been closed since.
            let _ = self.maps.set_v6only(listener.address);
        }
        let unknown: Vec<_> = ours
            .iter()
            .filter(|listener| !self.processes.knows(listener.address))
            .map(|listener| (listener.address, listener.inode))
            .collect();
        if !unknown.is_empty() {
            self.processes.learn(&unknown, &self.cgroup.processes());
        }
    }

    /// Runs until told to stop, then writes what is still pending.
    pub(super) fn run(mut self) {
        loop {
            let stopping = is_readable(&self.stop);
            while let Some(observation) = self.ring.take_one() {
                self.observe(observation);
            }
            self.ring.flush_log();
            if stopping {
                break;
            }
            if let Err(error) = self.ring.wait(self.stop.as_fd(), SYNC) {
                return tracing::error!(%error, "cannot wait for the kernel's events");
            }
            self.sync();
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
                    target: self.target.clone(),
                    process: Some(Process { pid, name }),
                    client: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
                    server: destination,
                    accepted,
                };
                let pending = Pending { connection, why, since_ns: time_ns };
                if why == WhyDirect::NoRoute {
                    let detail = "the kernel has no route to it; it was not steered".into();
                    self.write(pending, Some(time_ns), Bytes::default(), Outcome::Refused, detail);
                } else if self.direct.len() < DIRECT {
                    self.direct.insert(cookie, pending);
                } else {
                    self.sink.lost("direct_table_full", 1, 0);
                }
            }
            Observed::DirectFailed { retransmits } => {
                if let Some(pending) = self.direct.remove(&cookie) {
                    let (outcome, how) = match retransmits {
                        0 => (Outcome::Refused, "the kernel was refused"),
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
