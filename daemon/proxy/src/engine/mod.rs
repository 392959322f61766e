//! Accepts connections and deals them out to worker threads, each with a runtime of its own: a connection lives on one
//! thread from its first byte to its last, so nothing on its path is shared or locked. User traffic has these threads
//! to itself; everything else of the daemon runs elsewhere.
//!
//! One engine serves many targets. The listeners of each are a [`Group`], which comes and goes while the engine runs,
//! has its own steering and sink, and cannot starve another.

mod accept;
mod connection;
mod desk;
mod doors;
mod forward;
mod group;
mod opened;
mod tapped;
mod terminated;
mod turns;
mod worker;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nodetap_core::ulid::UlidSource;
use tokio::sync::watch;

use self::doors::Doors;
use self::worker::Worker;
use crate::tap::Limits;

pub use group::{Drained, Group, GroupLimits, Served, TOO_MANY_CONNECTIONS};

/// How often each worker shows that it runs.
const PULSE: Duration = Duration::from_millis(200);

/// What the engine is built from.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Worker threads, at least one.
    pub workers: usize,
    pub limits: Limits,
}

/// The running data plane. Dropping it cuts what is open in all groups.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts without a listener. `seed` gives 80 random bits a call, for identifiers.
    ///
    /// # Errors
    /// When a thread or a runtime cannot be made.
    pub fn start(settings: Settings, mut seed: impl FnMut() -> u128) -> io::Result<Self> {
        let count = settings.workers.max(1);
        let shared = Arc::new(Shared {
            limits: settings.limits,
            started: Instant::now(),
            pulses: (0..=count).map(|_| AtomicU64::new(0)).collect(),
            open: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            doors: Doors::new()?,
            cut: watch::Sender::new(false),
        });
        // From here on, what was started is ended by dropping it.
        let mut engine = Self { shared, workers: Vec::with_capacity(count) };
        let (queues, workers): (Vec<_>, Vec<_>) =
            (0..count).map(Worker::new).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
        let mut queues = Some(queues);
        for worker in workers {
            let acceptor = match queues.take() {
                Some(queues) => Some(worker.acceptor(queues, &engine.shared, UlidSource::new(seed()))?),
                None => None,
            };
            let thread = worker.spawn(acceptor, Arc::clone(&engine.shared), UlidSource::new(seed()))?;
            engine.workers.push(thread);
        }
        Ok(engine)
    }

    /// Serves these listeners (bound and listening) from now on, until what is given back is drained, cut or dropped.
    ///
    /// # Errors
    /// When the kernel does not let a listener be waited for: none of them is served then.
    pub fn serve(&self, listeners: Vec<TcpListener>, group: Group) -> io::Result<Served> {
        Served::start(&self.shared, listeners, group)
    }

    /// To ask from elsewhere whether the data plane runs.
    pub fn liveness(&self) -> Liveness {
        Liveness { shared: Arc::clone(&self.shared) }
    }

    /// Tunnels of all groups that are open now.
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Relaxed)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.doors.close_all();
        self.shared.cut.send_replace(true);
        self.shared.doors.stop();
        // A panic of a thread was printed by the panic hook; there is nothing to add here.
        for thread in self.workers.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Says how well the threads of an engine are.
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

/// What the threads of one engine share. No lock is on the path of a byte.
#[derive(Debug)]
struct Shared {
    limits: Limits,
    started: Instant,
    /// Milliseconds after `started` at which each worker, and last the acceptor, last ran.
    pulses: Vec<AtomicU64>,
    open: AtomicU64,
    /// Groups that were served so far.
    groups: AtomicU64,
    doors: Doors,
    /// engine --true: reset what is open--> desks
    cut: watch::Sender<bool>,
}

impl Shared {
    fn next_group(&self) -> u64 {
        self.groups.fetch_add(1, Ordering::Relaxed)
    }

    /// What has this number runs: a worker, or after the last of them the acceptor.
    fn pulse(&self, thread: usize) {
        if let Some(pulse) = self.pulses.get(thread) {
            pulse.store(self.elapsed_ms(), Ordering::Relaxed);
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
