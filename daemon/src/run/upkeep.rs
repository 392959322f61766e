//! The two threads that keep the hooks current while a command runs: the heartbeat without which they step aside, and
//! the routes and names that they decide by.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nodetap_core::exchange::Direction;
use nodetap_proxy::engine::Liveness;

use super::ignored::IgnoredHosts;
use crate::netlink::routes::{self, Changes, Prefix, Table};
use crate::probes::{Heartbeat, Maps};

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
    pub(super) fn start(
        maps: &Arc<Maps>,
        heartbeat: Heartbeat,
        liveness: Liveness,
        ignored: IgnoredHosts,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let changes = Changes::subscribe()?;
        let mut routes = Routes { maps: Arc::clone(maps), table: Table::new() };
        routes.read()?;
        leave_alone(maps, &BTreeSet::new(), &ignored.prefixes())?;
        heartbeat.beat().map_err(io::Error::other)?;
        let beat = {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new().name("nodetap-beat".into()).spawn(move || beat(&heartbeat, &liveness, &stop))?
        };
        let follow = {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new().name("nodetap-routes".into()).spawn(move || routes.follow(&changes, &stop))?
        };
        if ignored.has_names() {
            let (maps, stop) = (Arc::clone(maps), Arc::clone(&stop));
            let names = std::thread::Builder::new().name("nodetap-names".into());
            names.spawn(move || follow_names(&maps, ignored, &stop))?;
        }
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

fn beat(heartbeat: &Heartbeat, liveness: &Liveness, stop: &AtomicBool) {
    let mut hung = false;
    while !stop.load(Ordering::Relaxed) {
        let now_hung = liveness.silence() >= HUNG;
        let told = if now_hung { heartbeat.stop() } else { heartbeat.beat() };
        if let Err(error) = told {
            tracing::error!(%error, "cannot write the heartbeat: the hooks will step aside");
        }
        if now_hung && !hung {
            tracing::error!("the data plane hangs: new connections go past it until it runs again");
        }
        hung = now_hung;
        std::thread::park_timeout(BEAT);
    }
}

/// Reads the routes, and keeps the hooks' picture of them current.
struct Routes {
    maps: Arc<Maps>,
    table: Table,
}

impl Routes {
    fn read(&mut self) -> io::Result<()> {
        let table = routes::read()?;
        self.maps.set_routes(&self.table, &table)?;
        self.table = table;
        Ok(())
    }

    fn follow(mut self, changes: &Changes, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if changes.wait(STOP_POLL)
                && let Err(error) = self.read()
            {
                tracing::warn!(%error, "cannot follow the routes: the hooks go by older ones");
            }
        }
    }
}

/// Brings the kernel's list of what is left alone from `before` to `after`.
fn leave_alone(maps: &Maps, before: &BTreeSet<Prefix>, after: &BTreeSet<Prefix>) -> io::Result<()> {
    let new = after.difference(before).map(|prefix| (*prefix, true));
    let gone = before.difference(after).map(|prefix| (*prefix, false));
    let both = [Direction::Inbound, Direction::Outbound];
    let mut changes = new.chain(gone).flat_map(|change| both.map(|direction| (direction, change)));
    changes.try_for_each(|(direction, (prefix, ignored))| maps.ignore(direction, prefix, ignored))
}

/// Looks names up again for as long as the process lives: a resolver may take its time, and nobody waits for it.
fn follow_names(maps: &Maps, mut hosts: IgnoredHosts, stop: &AtomicBool) {
    let mut known = hosts.prefixes();
    loop {
        std::thread::sleep(RESOLVE);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        hosts.refresh();
        let now = hosts.prefixes();
        match leave_alone(maps, &known, &now) {
            Ok(()) => known = now,
            Err(error) => tracing::warn!(%error, "--ignore-host: the kernel's list does not take all addresses"),
        }
    }
}
