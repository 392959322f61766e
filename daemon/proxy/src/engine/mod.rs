//! Accepts connections and deals them out to worker threads, each with a runtime of its own: a connection lives on one
//! thread from its first byte to its last, so nothing on its path is shared or locked. User traffic has these threads
//! to itself; everything else of the daemon runs elsewhere.

mod accept;
mod connection;
mod desk;
mod forward;
mod opened;
mod tapped;
mod terminated;
mod worker;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nodetap_core::ulid::UlidSource;
use tokio::sync::watch;

use crate::dial;
use crate::sink::Sink;
use crate::steering::Steering;
use crate::tap::Limits;

/// Connections that wait for one worker before the acceptor waits too (the rest waits in the kernel's queue).
const QUEUE: usize = 1024;
/// How often each worker shows that it runs.
const PULSE: Duration = Duration::from_millis(200);
/// How often [`Engine::drain`] looks.
const DRAIN_POLL: Duration = Duration::from_millis(2);
/// Without a tunnel for so long, nothing waits in a listener's queue either.
const DRAIN_QUIET: Duration = Duration::from_millis(20);

/// What the engine is built from.
pub struct Settings {
    /// Worker threads, at least one.
    pub workers: usize,
    pub limits: Limits,
    pub steering: Arc<dyn Steering>,
    pub sink: Arc<dyn Sink>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("workers", &self.workers).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The running data plane. Dropping it without [`Engine::drain`] cuts what is open.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    acceptor: Option<accept::Handle>,
    workers: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts to serve `listeners` (bound and listening). `seed` gives 80 random bits a call, for identifiers.
    ///
    /// # Errors
    /// When a thread or a runtime cannot be made.
    pub fn start(listeners: Vec<TcpListener>, settings: Settings, mut seed: impl FnMut() -> u128) -> io::Result<Self> {
        // What a listener is fit for, the sockets that it accepts are (Linux copies these options to them).
        listeners.iter().for_each(dial::prepare);
        let count = settings.workers.max(1);
        let shared = Arc::new(Shared {
            settings,
            started: Instant::now(),
            pulses: (0..=count).map(|_| AtomicU64::new(0)).collect(),
            open: AtomicU64::new(0),
            strays: AtomicU64::new(0),
            cut: watch::Sender::new(false),
        });
        let mut queues = Vec::with_capacity(count);
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let (queue, thread) = worker::spawn(index, Arc::clone(&shared), UlidSource::new(seed()))?;
            queues.push(queue);
            workers.push(thread);
        }
        let acceptor = accept::spawn(listeners, queues, Arc::clone(&shared), UlidSource::new(seed()))?;
        Ok(Self { shared, acceptor: Some(acceptor), workers })
    }

    /// To ask from elsewhere whether the data plane runs.
    pub fn liveness(&self) -> Liveness {
        Liveness { shared: Arc::clone(&self.shared) }
    }

    /// Tunnels that are open now.
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Serves what is queued already, waits until all tunnels have ended or `grace` is over, then closes the listeners
    /// and resets the rest. Whatever brings connections here must have been switched off.
    /// `hurry` ends the wait.
    pub fn drain(mut self, grace: Duration, mut hurry: impl FnMut() -> bool) -> Drained {
        let start = Instant::now();
        let mut quiet_since = start;
        while start.elapsed() < grace && quiet_since.elapsed() < DRAIN_QUIET && !hurry() {
            std::thread::sleep(DRAIN_POLL);
            if self.open() > 0 {
                quiet_since = Instant::now();
            }
        }
        self.stop_accepting();
        let cut = self.open();
        self.finish();
        Drained { cut, strays: self.shared.strays.load(Ordering::Relaxed) }
    }

    fn stop_accepting(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.stop();
        }
    }

    fn finish(&mut self) {
        self.stop_accepting();
        self.shared.cut.send_replace(true);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // After a drain there is nothing left to do here.
        self.finish();
    }
}

/// What an engine came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Tunnels that had not ended in time and were reset.
    pub cut: u64,
    /// Connections that arrived without a known destination and were reset.
    pub strays: u64,
}

/// Says how well the workers of an engine are.
#[derive(Debug, Clone)]
pub struct Liveness {
    shared: Arc<Shared>,
}

impl Liveness {
    /// How long ago the slowest thread showed that it runs. A data plane that is stuck must not be given connections.
    pub fn silence(&self) -> Duration {
        let now = self.shared.elapsed_ms();
        let oldest = self.shared.pulses.iter().map(|pulse| pulse.load(Ordering::Relaxed)).min().unwrap_or(0);
        Duration::from_millis(now.saturating_sub(oldest))
    }
}

/// What the threads of one engine share. Counters only: no lock is on the path of a byte.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    started: Instant,
    /// Milliseconds after `started` at which each worker, and last the acceptor, last ran.
    pulses: Vec<AtomicU64>,
    open: AtomicU64,
    strays: AtomicU64,
    /// engine --true: reset what is open--> connections
    cut: watch::Sender<bool>,
}

impl Shared {
    /// The thread with this number runs: a worker, or after the last of them the acceptor.
    fn pulse(&self, thread: usize) {
        if let Some(pulse) = self.pulses.get(thread) {
            pulse.store(self.elapsed_ms(), Ordering::Relaxed);
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
