//! The two threads that keep the hooks current while a command runs: the heartbeat without which they step aside, and
//! the routes and names that they decide by.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nodetap_proxy::engine::Liveness;

use super::ignored::{Ignored, prefixes};
use crate::netlink::routes::{self, Changes, Prefix, Table};
use crate::probes::Maps;

/// Twice a second, as the hooks expect.
const BEAT: Duration = Duration::from_millis(500);
/// A data plane that has not moved for so long is not given connections.
const HUNG: Duration = Duration::from_millis(1500);
/// How soon a thread notices that it should end.
const STOP_POLL: Duration = Duration::from_millis(100);
/// How often names are looked up again.
const RESOLVE: Duration = Duration::from_secs(30);

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Upkeep {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Upkeep {
    /// Fills the maps once, gives the first heartbeat, and keeps both up.
    ///
    /// # Errors
    /// When the routes cannot be read, a map does not take them, or a thread cannot be made.
    pub(super) fn start(maps: &Arc<Maps>, liveness: Liveness, ignored: Vec<Ignored>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let changes = Changes::subscribe()?;
        let mut current = Current { maps: Arc::clone(maps), table: Table::new(), ignored, networks: BTreeSet::new() };
        current.read_routes()?;
        current.resolve();
        maps.beat()?;
        let beat = {
            let (maps, stop) = (Arc::clone(maps), Arc::clone(&stop));
            std::thread::Builder::new().name("nodetap-beat".into()).spawn(move || beat(&maps, &liveness, &stop))?
        };
        let follow = {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new().name("nodetap-routes".into()).spawn(move || current.follow(&changes, &stop))?
        };
        Ok(Self { stop, threads: vec![beat, follow] })
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn beat(maps: &Maps, liveness: &Liveness, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if liveness.silence() < HUNG {
            if let Err(error) = maps.beat() {
                tracing::error!(%error, "cannot write the heartbeat: the hooks will step aside");
            }
        } else {
            tracing::error!("the data plane hangs: new connections go past it");
        }
        std::thread::park_timeout(BEAT);
    }
}

/// What the hooks' maps hold.
struct Current {
    maps: Arc<Maps>,
    table: Table,
    ignored: Vec<Ignored>,
    networks: BTreeSet<Prefix>,
}

impl Current {
    fn read_routes(&mut self) -> io::Result<()> {
        let table = routes::read()?;
        self.maps.set_routes(&self.table, &table)?;
        self.table = table;
        Ok(())
    }

    fn resolve(&mut self) {
        let networks = prefixes(&self.ignored);
        let gone = self.networks.difference(&networks).map(|prefix| (*prefix, false));
        let new = networks.difference(&self.networks).map(|prefix| (*prefix, true));
        for (prefix, ignored) in gone.chain(new) {
            if let Err(error) = self.maps.ignore(prefix, ignored) {
                tracing::warn!(%error, ?prefix, "--ignore-host: the kernel's list is full");
            }
        }
        self.networks = networks;
    }

    fn follow(mut self, changes: &Changes, stop: &AtomicBool) {
        let mut resolved = Instant::now();
        let has_names = self.ignored.iter().any(|ignored| matches!(ignored, Ignored::Name(_)));
        while !stop.load(Ordering::Relaxed) {
            if changes.wait(STOP_POLL)
                && let Err(error) = self.read_routes()
            {
                tracing::warn!(%error, "cannot follow the routes: the hooks go by older ones");
            }
            if has_names && resolved.elapsed() >= RESOLVE {
                self.resolve();
                resolved = Instant::now();
            }
        }
    }
}
