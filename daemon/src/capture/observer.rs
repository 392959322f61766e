//! The one thread that listens to the hooks, for all targets: hands each event to its target, follows the routes of
//! every namespace, and looks at each from time to time, one after the other.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::watched::Watched;
use crate::probes::{Probes, Ring};

/// How soon a connect of which no packet left is looked at again.
const UNBORN_POLL: Duration = Duration::from_millis(250);
/// How often what gone targets have left in the maps is taken out.
const SWEEP: Duration = Duration::from_secs(2);
/// The longest wait.
const IDLE: Duration = Duration::from_secs(60);

/// The targets, and what wakes the thread.
#[derive(Debug)]
pub(super) struct Targets {
    by_netns: Mutex<HashMap<u64, Arc<Watched>>>,
    ring: Mutex<Ring>,
    probes: Arc<Probes>,
    /// Namespaces that should be looked at.
    due: Mutex<HashSet<u64>>,
    wake: OwnedFd,
    stopping: std::sync::atomic::AtomicBool,
}

impl Targets {
    pub(super) fn new(probes: Arc<Probes>, ring: Ring) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (by_netns, ring, stopping) = (Mutex::default(), Mutex::new(ring), false.into());
        Ok(Self { by_netns, ring, probes, due: Mutex::default(), wake, stopping })
    }

    pub(super) fn add(&self, watched: &Arc<Watched>) {
        locked(&self.by_netns).insert(watched.maps.netns(), Arc::clone(watched));
        self.wake();
    }

    /// Hears what there is to be heard of it, and no more after that.
    pub(super) fn remove(&self, netns: u64) {
        self.hear();
        let removed = locked(&self.by_netns).remove(&netns);
        if let Some(watched) = removed {
            watched.end();
        }
        self.wake();
    }

    /// Asks for a look at a namespace.
    pub(super) fn ask(&self, netns: u64) {
        locked(&self.due).insert(netns);
        self.wake();
    }

    /// Hands on everything that the hooks have told so far.
    pub(super) fn hear(&self) {
        // Whoever holds the ring has the events that came before; they reach their targets in order.
        let mut ring = locked(&self.ring);
        while let Some(observation) = ring.take_one() {
            let netns = observation.netns;
            let watched = locked(&self.by_netns).get(&netns).cloned();
            // One that just went needs no observation any more.
            if watched.is_some_and(|watched| watched.step(observation)) {
                locked(&self.due).insert(netns);
            }
        }
        ring.flush_log();
    }

    fn all(&self) -> Vec<Arc<Watched>> {
        locked(&self.by_netns).values().cloned().collect()
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Observer {
    targets: Arc<Targets>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    pub(super) fn start(targets: &Arc<Targets>) -> io::Result<Self> {
        let events = locked(&targets.ring).as_fd().try_clone_to_owned()?;
        let thread = {
            let targets = Arc::clone(targets);
            std::thread::Builder::new().name("nodetap-observe".into()).spawn(move || run(&targets, &events))?
        };
        Ok(Self { targets: Arc::clone(targets), thread: Some(thread) })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.targets.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        self.targets.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(targets: &Targets, events: &OwnedFd) {
    let mut calendar = Calendar::default();
    let mut swept = Instant::now();
    let mut unborn = false;
    while !targets.is_stopping() {
        let all = targets.all();
        calendar.follow(&all);
        let wait = calendar.next().saturating_duration_since(Instant::now());
        let wait = if unborn { wait.min(UNBORN_POLL) } else { wait };
        let wait = if targets.probes.has_to_sweep() { wait.min(SWEEP) } else { wait };
        let changed = match wait_for(targets, events, &all, wait) {
            Ok(changed) => changed,
            Err(error) => return tracing::error!(%error, "cannot wait for the kernel's events"),
        };
        for watched in changed {
            if let Err(error) = watched.read_routes() {
                tracing::warn!(%error, "cannot follow the routes: the hooks go by older ones");
            }
        }
        targets.hear();
        let due = std::mem::take(&mut *locked(&targets.due));
        let now = Instant::now();
        for watched in &all {
            let netns = watched.maps.netns();
            if due.contains(&netns) || calendar.is_due(netns, now) {
                watched.sync();
                calendar.done(netns, Instant::now() + watched.pace);
            }
        }
        unborn = all.iter().filter(|watched| watched.write_unborn()).count() > 0;
        if swept.elapsed() >= SWEEP {
            targets.probes.sweep();
            swept = Instant::now();
        }
    }
}

/// Waits for an event, a change or the time; whose routes have changed.
fn wait_for<'a>(
    targets: &Targets,
    events: &OwnedFd,
    all: &'a [Arc<Watched>],
    wait: Duration,
) -> io::Result<Vec<&'a Arc<Watched>>> {
    let mut fds = vec![PollFd::new(events, PollFlags::IN), PollFd::new(&targets.wake, PollFlags::IN)];
    fds.extend(all.iter().map(|watched| PollFd::from_borrowed_fd(watched.changes.as_fd(), PollFlags::IN)));
    match poll(&mut fds, Timespec::try_from(wait).ok().as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    if ready.get(1).is_some_and(|woken| *woken) {
        let _ = rustix::io::read(&targets.wake, &mut [0; 8]);
    }
    let changed = all.iter().zip(ready.into_iter().skip(2)).filter(|(_, ready)| *ready).map(|(watched, _)| watched);
    // What was told is taken, so that it is told once.
    Ok(changed.filter(|watched| watched.changes.wait(Duration::ZERO)).collect())
}

/// When each namespace is looked at next. Who is new comes at a moment of its own, so that many targets do not come at
/// once.
#[derive(Debug, Default)]
struct Calendar {
    at: HashMap<u64, Instant>,
    order: BTreeSet<(Instant, u64)>,
    newcomers: u32,
}

impl Calendar {
    fn follow(&mut self, all: &[Arc<Watched>]) {
        if self.at.len() != all.len() || all.iter().any(|watched| !self.at.contains_key(&watched.maps.netns())) {
            let present: HashSet<u64> = all.iter().map(|watched| watched.maps.netns()).collect();
            self.at.retain(|netns, _| present.contains(netns));
            let at = &self.at;
            self.order.retain(|(_, netns)| at.contains_key(netns));
            for watched in all.iter().filter(|watched| !at.contains_key(&watched.maps.netns())).collect::<Vec<_>>() {
                // The golden ratio spreads any number of them over the pace.
                self.newcomers = self.newcomers.wrapping_add(0x9e37_79b9);
                let part = f64::from(self.newcomers) / f64::from(u32::MAX);
                self.done(watched.maps.netns(), Instant::now() + watched.pace.mul_f64(part));
            }
        }
    }

    fn next(&self) -> Instant {
        self.order.first().map_or_else(|| Instant::now() + IDLE, |(at, _)| *at)
    }

    fn is_due(&self, netns: u64, now: Instant) -> bool {
        self.at.get(&netns).is_some_and(|at| *at <= now)
    }

    fn done(&mut self, netns: u64, next: Instant) {
        if let Some(before) = self.at.insert(netns, next) {
            self.order.remove(&(before, netns));
        }
        self.order.insert((next, netns));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
