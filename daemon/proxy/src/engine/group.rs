//! A group: listeners that come and go together, and the connections that arrived there. What a target is to the engine
//! — it refuses to know more of one.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Liveness, Shared};
use crate::dial;
use crate::sink::Sink;
use crate::steering::Steering;
use crate::tap::{Limits, Thrift};

/// Connections of one group that wait for the workers before its listeners wait too (the rest waits in the kernel's
/// queue).
const QUEUE: u64 = 1024;
/// How often [`Served::drain`] and [`Served::cut`] look.
const POLL: Duration = Duration::from_millis(2);
/// Without a tunnel for so long, nothing waits in a listener's queue either.
const DRAIN_QUIET: Duration = Duration::from_millis(20);
/// How long connections that were told to end may take to write their last record.
const CUT_WAIT: Duration = Duration::from_secs(2);

/// One part in so many beyond [`GroupLimits::kept`] is still no reason to give up heads.
const OVERSPENT: usize = 4;

/// A connection beyond [`GroupLimits::connections`] was reset; the word that the sink is told.
pub const TOO_MANY_CONNECTIONS: &str = "too_many_connections";

/// Who is asked and who is told about the connections of one group.
pub struct Group {
    pub steering: Arc<dyn Steering>,
    pub sink: Arc<dyn Sink>,
    pub limits: GroupLimits,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What one group may take from the others.
#[derive(Debug, Clone, Copy)]
pub struct GroupLimits {
    /// Connections that are open at a time; what arrives beyond is reset and counted as [`TOO_MANY_CONNECTIONS`].
    pub connections: u64,
    /// Bytes that all its taps keep together of what is open. When they are spent, next to nothing is kept of bodies, and
    /// the records say so; when they are overspent by a quarter, large heads are not followed either.
    pub kept: usize,
}

impl Default for GroupLimits {
    /// As much as there is.
    fn default() -> Self {
        Self { connections: u64::MAX, kept: usize::MAX }
    }
}

/// A group that is being served. Dropping it closes its listeners and resets what is open.
#[derive(Debug)]
pub struct Served {
    shared: Arc<Shared>,
    state: Arc<State>,
    doors: Vec<u64>,
}

impl Served {
    pub(super) fn start(shared: &Arc<Shared>, listeners: Vec<TcpListener>, group: Group) -> io::Result<Self> {
        let state = Arc::new(State::new(shared.next_group(), group));
        let mut served = Self { shared: Arc::clone(shared), state, doors: Vec::with_capacity(listeners.len()) };
        for (index, listener) in listeners.into_iter().enumerate() {
            // What a listener is fit for, the sockets that it accepts are (Linux copies these options to them).
            dial::prepare(&listener);
            listener.set_nonblocking(true)?;
            served.doors.push(shared.doors.open(listener, index, &served.state)?);
        }
        Ok(served)
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.state.open.load(Ordering::Relaxed)
    }

    /// Connections that arrived without a known destination and were reset.
    pub fn strays(&self) -> u64 {
        self.state.strays.load(Ordering::Relaxed)
    }

    /// Connections beyond [`GroupLimits::connections`], which were reset.
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// Bytes that its taps keep now.
    pub fn kept(&self) -> usize {
        self.state.kept.load(Ordering::Relaxed)
    }

    /// Exchanges whose bodies are cut because of [`GroupLimits::kept`].
    pub fn curtailed(&self) -> u64 {
        self.state.curtailed.load(Ordering::Relaxed)
    }

    /// To ask from elsewhere whether the data plane runs.
    pub fn liveness(&self) -> Liveness {
        Liveness { shared: Arc::clone(&self.shared) }
    }

    /// Closes its listeners: nothing is accepted any more when this returns, what is open goes on.
    pub fn close(&mut self) {
        for door in self.doors.drain(..) {
            self.shared.doors.close(door);
        }
    }

    /// Serves what is queued already, waits until all its tunnels have ended or `grace` is over, then closes its
    /// listeners and resets the rest. Whatever brings connections here must have been switched off. `hurry` ends the
    /// wait.
    pub fn drain(mut self, grace: Duration, mut hurry: impl FnMut() -> bool) -> Drained {
        let start = Instant::now();
        let mut quiet_since = start;
        while start.elapsed() < grace && quiet_since.elapsed() < DRAIN_QUIET && !hurry() {
            std::thread::sleep(POLL);
            if self.open() > 0 {
                quiet_since = Instant::now();
            }
        }
        self.end()
    }

    /// Closes its listeners and resets what is open.
    pub fn cut(mut self) -> Drained {
        self.end()
    }

    fn end(&mut self) -> Drained {
        self.close();
        let cut = self.open();
        self.state.cut();
        let told = Instant::now();
        while self.open() > 0 && told.elapsed() < CUT_WAIT {
            std::thread::sleep(POLL);
        }
        Drained { cut, strays: self.strays(), refused: self.refused() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.close();
        self.state.cut();
    }
}

/// What a group came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Tunnels that had not ended in time and were reset.
    pub cut: u64,
    /// See [`Served::strays`].
    pub strays: u64,
    /// See [`Served::refused`].
    pub refused: u64,
}

/// What the threads share of one group. Counters only: no lock is on the path of a byte.
pub(super) struct State {
    /// Unique within the engine.
    pub(super) id: u64,
    pub(super) steering: Arc<dyn Steering>,
    pub(super) sink: Arc<dyn Sink>,
    limits: GroupLimits,
    open: AtomicU64,
    kept: AtomicUsize,
    curtailed: AtomicU64,
    /// Those of `open` that no worker has looked at.
    waiting: AtomicU64,
    strays: AtomicU64,
    refused: AtomicU64,
    /// group --true: reset what is open--> its connections on every worker
    pub(super) cut: watch::Sender<bool>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("id", &self.id).field("open", &self.open).finish_non_exhaustive()
    }
}

impl State {
    fn new(id: u64, Group { steering, sink, limits }: Group) -> Self {
        Self {
            id,
            steering,
            sink,
            limits,
            open: AtomicU64::new(0),
            kept: AtomicUsize::new(0),
            curtailed: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            strays: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            cut: watch::Sender::new(false),
        }
    }

    fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Are there so many connections of it that no worker has looked at yet that the next ones should wait?
    pub(super) fn is_backed_up(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= QUEUE
    }

    /// The limits of the tap of one more connection.
    pub(super) fn share(&self, limits: &Limits) -> Limits {
        limits.share(usize::try_from(self.open.load(Ordering::Relaxed)).unwrap_or(usize::MAX), self.limits.kept)
    }

    /// How much its taps should keep of what comes.
    pub(super) fn thrift(&self) -> Thrift {
        let (kept, limit) = (self.kept.load(Ordering::Relaxed), self.limits.kept);
        if kept <= limit {
            Thrift::None
        } else if kept - limit <= limit / OVERSPENT {
            Thrift::Bodies
        } else {
            Thrift::Heads
        }
    }

    /// An exchange is cut because of that.
    pub(super) fn curtail(&self) {
        self.curtailed.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection without a known destination was reset.
    pub(super) fn stray(&self) {
        self.strays.fetch_add(1, Ordering::Relaxed);
    }

    /// May there be one more? Only the acceptor asks, so that nobody comes between the answer and [`Seat::take`].
    pub(super) fn has_room(&self) -> bool {
        self.open.load(Ordering::Relaxed) < self.limits.connections
    }

    /// A connection for which there was no room was reset.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.sink.lost(TOO_MANY_CONNECTIONS, 1, 0);
    }
}

/// What one tap is charged with, until it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    group: Arc<State>,
    bytes: usize,
}

impl Charge {
    pub(super) fn none(group: &Arc<State>) -> Self {
        Self { group: Arc::clone(group), bytes: 0 }
    }

    /// It keeps so much now.
    pub(super) fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes > before {
            self.group.kept.fetch_add(bytes - before, Ordering::Relaxed);
        } else if bytes < before {
            self.group.kept.fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// One connection's place among those that are counted as open, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    shared: Arc<Shared>,
    pub(super) group: Arc<State>,
    waiting: bool,
}

impl Seat {
    /// Takes one, as a connection that no worker has looked at.
    pub(super) fn take(shared: &Arc<Shared>, group: &Arc<State>) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        group.open.fetch_add(1, Ordering::Relaxed);
        group.waiting.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared), group: Arc::clone(group), waiting: true }
    }

    /// A worker looks at it.
    pub(super) fn begin(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.group.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.begin();
        self.group.open.fetch_sub(1, Ordering::Relaxed);
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}
