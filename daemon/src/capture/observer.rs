//! The one thread that listens to the hooks, for all targets: hands each event to its target, follows the routes of
//! every namespace, and looks at each from time to time, one after the other.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::calendar::Calendar;
use super::watched::Watched;
use crate::probes::{Probes, Ring};

/// How soon a connect of which no packet left is looked at again.
const UNBORN_POLL: Duration = Duration::from_millis(250);
/// How often what gone targets have left in the maps is taken out.
const SWEEP: Duration = Duration::from_secs(2);
/// How often what nobody needs any more is taken out of tables that would only grow.
const PRUNE: Duration = Duration::from_secs(60);
/// Events that come together are heard together: a busy target does not keep the thread busy.
const GATHER: Duration = Duration::from_millis(2);
/// Descriptors that are told of at a time; the others are told of next.
const READY: usize = 64;

// What wakes the thread, where namespaces have their cookie. Cookies are counted from 1.
const RING: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// The targets, and what wakes the thread.
#[derive(Debug)]
pub(super) struct Targets {
    by_netns: Mutex<HashMap<u64, Arc<Watched>>>,
    calendar: Mutex<Calendar>,
    /// Namespaces with connects of which no packet has left.
    unborn: Mutex<HashSet<u64>>,
    /// Namespaces with connections that are older than the hooks, and are not counted yet.
    uncounted: Mutex<HashSet<u64>>,
    ring: Mutex<Ring>,
    probes: Arc<Probes>,
    epoll: OwnedFd,
    wake: OwnedFd,
    stopping: AtomicBool,
}

impl Targets {
    pub(super) fn new(probes: Arc<Probes>, ring: Ring) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &ring, EventData::new_u64(RING), EventFlags::IN)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self {
            by_netns: Mutex::default(),
            calendar: Mutex::default(),
            unborn: Mutex::default(),
            uncounted: Mutex::default(),
            ring: Mutex::new(ring),
            probes,
            epoll,
            wake,
            stopping: AtomicBool::new(false),
        })
    }

    pub(super) fn add(&self, watched: &Arc<Watched>) -> io::Result<()> {
        let netns = watched.maps.netns();
        epoll::add(&self.epoll, &watched.changes, EventData::new_u64(netns), EventFlags::IN)?;
        locked(&self.by_netns).insert(netns, Arc::clone(watched));
        locked(&self.calendar).add(netns, watched.pace, Instant::now());
        self.wake();
        Ok(())
    }

    /// Hears what there is to be heard of it, and no more after that.
    pub(super) fn remove(&self, netns: u64) {
        self.hear();
        let removed = locked(&self.by_netns).remove(&netns);
        locked(&self.calendar).remove(netns);
        locked(&self.unborn).remove(&netns);
        locked(&self.uncounted).remove(&netns);
        if let Some(watched) = removed {
            let _ = epoll::delete(&self.epoll, &watched.changes);
            watched.end();
        }
    }

    /// Asks for a look at a namespace.
    pub(super) fn ask(&self, netns: u64) {
        locked(&self.calendar).hasten(netns, Instant::now());
        self.wake();
    }

    /// Has the older connections of a namespace counted: whoever attaches does not wait for that.
    pub(super) fn count_older(&self, netns: u64) {
        locked(&self.uncounted).insert(netns);
        self.wake();
    }

    /// Hands on everything that the hooks have told so far; was there anything?
    pub(super) fn hear(&self) -> bool {
        let mut heard = false;
        // Whoever holds the ring has the events that came before; they reach their targets in order.
        let mut ring = locked(&self.ring);
        while let Some(observation) = ring.take_one() {
            heard = true;
            let netns = observation.netns;
            // One that just went needs no observation any more.
            let Some(watched) = self.get(netns) else { continue };
            let consequence = watched.step(observation);
            if consequence.look {
                locked(&self.calendar).hasten(netns, Instant::now());
            }
            if consequence.unborn {
                locked(&self.unborn).insert(netns);
            }
        }
        ring.flush_log();
        heard
    }

    fn get(&self, netns: u64) -> Option<Arc<Watched>> {
        locked(&self.by_netns).get(&netns).cloned()
    }

    pub(super) fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Waits for an event, a change or the time; whose routes have changed.
    fn wait(&self) -> io::Result<Vec<u64>> {
        let until = locked(&self.calendar).next().map(|next| next.saturating_duration_since(Instant::now()));
        let unborn = (!locked(&self.unborn).is_empty()).then_some(UNBORN_POLL);
        let sweep = self.probes.has_to_sweep().then_some(SWEEP);
        let wait = [until, unborn, sweep].into_iter().flatten().fold(PRUNE, Duration::min);
        let mut ready = Vec::with_capacity(READY);
        match epoll::wait(&self.epoll, spare_capacity(&mut ready), Timespec::try_from(wait).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<u64> = ready.iter().map(|event: &Event| event.data.u64()).collect();
        if ready.contains(&WAKE) {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        Ok(ready.into_iter().filter(|ready| ![RING, WAKE].contains(ready)).collect())
    }

    fn follow_routes(&self, changed: &[u64]) {
        for watched in changed.iter().filter_map(|netns| self.get(*netns)) {
            // What was told is taken, so that it is told once.
            if watched.changes.wait(Duration::ZERO)
                && let Err(error) = watched.read_routes()
            {
                tracing::warn!(%error, "cannot follow the routes: the hooks go by older ones");
            }
        }
    }

    fn look(&self) {
        let due = locked(&self.calendar).due(Instant::now());
        due.iter().filter_map(|netns| self.get(*netns)).for_each(|watched| watched.sync());
    }

    fn count_all_older(&self) {
        let uncounted = std::mem::take(&mut *locked(&self.uncounted));
        uncounted.into_iter().filter_map(|netns| self.get(netns)).for_each(|watched| watched.count_older());
    }

    fn write_unborn(&self) {
        let unborn: Vec<u64> = locked(&self.unborn).iter().copied().collect();
        for netns in unborn {
            if !self.get(netns).is_some_and(|watched| watched.write_unborn()) {
                locked(&self.unborn).remove(&netns);
            }
        }
    }

    fn prune(&self) {
        let all: Vec<Arc<Watched>> = locked(&self.by_netns).values().cloned().collect();
        all.iter().for_each(|watched| watched.prune());
        self.probes.prune();
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
        let thread = {
            let targets = Arc::clone(targets);
            std::thread::Builder::new().name("nodetap-observe".into()).spawn(move || run(&targets))?
        };
        Ok(Self { targets: Arc::clone(targets), thread: Some(thread) })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.targets.stopping.store(true, Ordering::Relaxed);
        self.targets.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(targets: &Targets) {
    let (mut swept, mut pruned) = (Instant::now(), Instant::now());
    while !targets.stopping.load(Ordering::Relaxed) {
        let changed = match targets.wait() {
            Ok(changed) => changed,
            Err(error) => return tracing::error!(%error, "cannot wait for the kernel's events"),
        };
        targets.follow_routes(&changed);
        let heard = targets.hear();
        targets.look();
        targets.count_all_older();
        targets.write_unborn();
        if swept.elapsed() >= SWEEP {
            targets.probes.sweep();
            swept = Instant::now();
        }
        if pruned.elapsed() >= PRUNE {
            targets.prune();
            pruned = Instant::now();
        }
        if heard {
            std::thread::sleep(GATHER);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
