//! What is observed of one target: the hooks' events decide, looks at the namespace complete them. It has no thread; the
//! observer's steps it, and is the only one to hold its lock for long.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nodetap_core::exchange::{Bytes, Process, Target};
use nodetap_proxy::sink::{NoSink, Sink};

use super::bypass::{Bypass, Bypasses};
use super::census::Census;
use super::direct::{self, Direct};
use super::look::{self, Listening, Picture};
use super::namespace::{Namespace, within};
use super::older::{Older, Reset};
use super::processes::Processes;
use super::random;
use crate::netlink::connections::Connection;
use crate::netlink::listeners::listeners;
use crate::netlink::routes::{self, Changes, Table};
use crate::probes::{Maps, Observation, Observed, WhyDirect};

/// Connections that were open before the hooks were there; they go on untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BeforeAttach {
    pub inbound: u64,
    pub outbound: u64,
}

/// What follows from an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consequence {
    /// A look at the namespace is due.
    pub(super) look: bool,
    /// There are connects of which no packet has left.
    pub(super) unborn: bool,
}

/// One target, as the observer sees it.
pub(super) struct Watched {
    pub(super) maps: Arc<Maps>,
    pub(super) processes: Arc<Processes>,
    /// How stale the picture of other programs' listeners may be.
    pub(super) pace: Duration,
    /// Readable when routes or addresses have changed.
    pub(super) changes: Changes,
    namespace: Arc<dyn Namespace>,
    /// Our own listeners.
    ours: BTreeSet<SocketAddr>,
    sink: OnceLock<Arc<dyn Sink>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    groups: Vec<PathBuf>,
    picture: Picture,
    direct: Direct,
    bypasses: Bypasses,
    before: BeforeAttach,
    /// Control groups whose older connections are not counted yet.
    uncounted: Vec<PathBuf>,
    older: Older,
    routes: Table,
    ended: bool,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("namespace", &self.namespace).field("ours", &self.ours).finish_non_exhaustive()
    }
}

impl Watched {
    /// Reads the routes of the namespace.
    pub(super) fn begin(
        namespace: Arc<dyn Namespace>,
        maps: Arc<Maps>,
        ours: BTreeSet<SocketAddr>,
        target: Arc<Target>,
        pace: Duration,
        all: Arc<AtomicUsize>,
    ) -> io::Result<Self> {
        // Before the routes are read: what changes afterwards is told.
        let changes = within(&*namespace, Changes::subscribe)?;
        let state = State {
            groups: Vec::new(),
            picture: Picture::default(),
            direct: Direct::new(target, random(), all),
            bypasses: Bypasses::default(),
            before: BeforeAttach::default(),
            uncounted: Vec::new(),
            older: Older::default(),
            routes: Table::new(),
            ended: false,
        };
        let processes = Arc::new(Processes::default());
        let (sink, state) = (OnceLock::new(), Mutex::new(state));
        let watched = Self { maps, processes, pace, changes, namespace, ours, sink, state };
        watched.read_routes()?;
        // Who listens is looked up when there is a control group: a look goes through all listening sockets of the machine.
        Ok(watched)
    }

    /// From here on somebody hears what is observed.
    pub(super) fn record_to(&self, sink: Arc<dyn Sink>) {
        let _ = self.sink.set(sink);
    }

    /// A control group whose sockets the hooks see from now on. What it had before is yet to be counted.
    pub(super) fn add(&self, group: &Path) {
        let mut state = self.state();
        state.groups.push(group.to_owned());
        state.uncounted.push(group.to_owned());
        drop(state);
        self.sync();
    }

    /// Counts the connections of new control groups that were open before the hooks were there. A census goes through all
    /// connections of the machine.
    pub(super) fn count_older(&self) {
        let mut state = self.state();
        if state.uncounted.is_empty() {
            return;
        }
        let groups = std::mem::take(&mut state.uncounted);
        let census = match Census::take(&*self.namespace) {
            Ok(census) => census,
            Err(error) => return tracing::debug!(%error, "cannot count the connections that were open before"),
        };
        // What was opened since the hooks are there is known to them, and what comes from us to us.
        let seen = |one: &Connection| self.maps.has_seen(one.cookie) || self.maps.is_announced(one.remote);
        let inside: Vec<u64> = look::ids(&groups).into_iter().collect();
        let older = Older::of(&census, &inside, seen);
        let inbound = older.within(&census).filter(|one| census.is_inbound(one)).count();
        state.before.inbound += inbound as u64;
        state.before.outbound += older.count().saturating_sub(inbound) as u64;
        state.older.extend(older);
    }

    /// Closes those of them that are idle.
    pub(super) fn close_older(&self, idle: Duration) -> io::Result<Reset> {
        self.count_older();
        let mut state = self.state();
        if state.older.count() == 0 {
            return Ok(Reset::default());
        }
        let census = Census::take(&*self.namespace)?;
        state.older.retain(&census);
        state.older.reset(&*self.namespace, &census, idle)
    }

    pub(super) fn remove(&self, group: &Path) {
        let mut state = self.state();
        if let Some(at) = state.groups.iter().position(|known| known == group) {
            state.groups.swap_remove(at);
        }
        drop(state);
        // What began to listen until now is known then.
        self.sync();
        let mut state = self.state();
        let State { picture, groups, .. } = &mut *state;
        picture.forget_group(&self.maps, groups);
        drop(state);
        self.sync();
    }

    /// Brings the hooks' picture of listeners up to date.
    pub(super) fn sync(&self) {
        let mut state = self.state();
        let State { picture, groups, ended, .. } = &mut *state;
        if *ended {
            return;
        }
        let look = || within(&*self.namespace, listeners);
        if let Err(error) = picture.update(look, &self.maps, groups, &self.ours, &self.processes) {
            tracing::debug!(%error, "cannot list listening sockets");
        }
    }

    /// Brings the hooks' picture of the routes up to date.
    pub(super) fn read_routes(&self) -> io::Result<()> {
        let table = within(&*self.namespace, routes::read)?;
        let mut state = self.state();
        if !state.ended {
            self.maps.set_routes(&state.routes, &table)?;
            state.routes = table;
        }
        Ok(())
    }

    /// Something that a socket of the target did.
    pub(super) fn step(&self, Observation { cookie, time_ns, what, .. }: Observation) -> Consequence {
        let mut look = false;
        let sink = self.sink();
        let mut state = self.state();
        match what {
            Observed::Direct { destination, why, pid, name } => {
                let process = Process { pid, name };
                state.bypasses.add(&process, destination, word(why), direct::unix_micros(time_ns));
                state.direct.connect(cookie, time_ns, destination, why, process, sink);
            }
            Observed::DirectBegan => state.direct.began(cookie),
            Observed::DirectFailed { retransmits } => state.direct.failed(cookie, time_ns, retransmits, sink),
            Observed::DirectClosed { local, sent, received } => {
                state.direct.closed(cookie, time_ns, local, Bytes { sent, received }, sink);
            }
            // No record: nothing of it is captured.
            Observed::Datagram { destination, pid, name } => {
                state.bypasses.add(&Process { pid, name }, destination, DATAGRAM, direct::unix_micros(time_ns));
            }
            Observed::Listen { .. } => look = true,
            Observed::ListenClosed { local } => {
                if !self.maps.is_listening(local) {
                    self.processes.forget(local);
                }
                look = true;
            }
        }
        Consequence { look, unborn: state.direct.has_unborn() }
    }

    /// Takes out what is only followed because its end was never told.
    pub(super) fn prune(&self) {
        let sink = self.sink();
        self.state().direct.prune(|cookie| self.maps.has_seen(cookie), sink);
    }

    /// Writes connects that the kernel refused at once; are there more that might be?
    pub(super) fn write_unborn(&self) -> bool {
        let mut state = self.state();
        if state.direct.has_unborn() {
            state.direct.write_unborn(direct::UNBORN, self.sink());
        }
        state.direct.has_unborn()
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.direct.end(self.sink());
    }

    pub(super) fn listening(&self) -> Vec<Listening> {
        self.state().picture.listening().to_vec()
    }

    pub(super) fn bypasses(&self) -> (Vec<Bypass>, u64) {
        self.state().bypasses.list()
    }

    pub(super) fn before_attach(&self) -> BeforeAttach {
        self.count_older();
        self.state().before
    }

    fn sink(&self) -> &dyn Sink {
        self.sink.get().map_or(&NoSink, |sink| &**sink)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const DATAGRAM: &str = "datagram";

fn word(why: WhyDirect) -> &'static str {
    match why {
        WhyDirect::Off => "off",
        WhyDirect::Away => "away",
        WhyDirect::Refused => "refused",
        WhyDirect::NoRoute => "no_route",
        WhyDirect::Scoped => "scoped",
        WhyDirect::Chosen => "chosen",
    }
}
