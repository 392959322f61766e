//! Captures targets with the kernel's hooks: what `nodetap run` does for its one command, and the agent for every pod of
//! its node. [`Hooks`] is one a process, a [`Target`] is one network namespace with the control groups in it. Two threads
//! serve all targets: one gives the heartbeat, one observes. It refuses to know what a target is called by others, and
//! where its records go.

mod back;
mod beat;
mod bypass;
mod calendar;
mod census;
mod direct;
mod fallback;
pub mod ignored;
mod listen;
mod look;
pub mod namespace;
mod observer;
mod older;
mod processes;
mod steer;
mod threads;
mod watched;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use nodetap_core::exchange;
use nodetap_proxy::engine::Liveness;
use nodetap_proxy::sink::Sink;
use nodetap_proxy::steering::Steering;
use nodetap_proxy::tls::Policy;
use thiserror::Error;

pub use self::back::bring_back;
pub use self::bypass::Bypass;
pub use self::census::Census;
pub use self::fallback::{Bypassed, Fallback, Generation, Pins, Way, put};
pub use self::ignored::{Ignore, Ignoring};
pub use self::listen::bind;
pub use self::look::Listening;
pub use self::older::{Older, Reset};
pub use self::watched::BeforeAttach;
pub use crate::probes::{Counts, Direct, Fill, Steer, monotonic_ns};

use self::beat::Beating;
use self::listen::Listeners;
use self::namespace::{Inside, Namespace, within};
use self::observer::{Observer, Targets};
use self::steer::KernelSteering;
use self::watched::Watched;
use crate::probes::{self, Probes};

/// Why something is not captured.
#[derive(Debug, Error)]
pub enum Error {
    /// The hooks' part.
    #[error(transparent)]
    Probes(#[from] probes::Error),
    /// Everything else.
    #[error("cannot {what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

impl Error {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// The kernel's side of this process, for all its targets.
#[derive(Debug)]
pub struct Hooks {
    probes: Arc<Probes>,
    targets: Arc<Targets>,
    /// Connections beside us that are followed, of all targets.
    direct: Arc<AtomicUsize>,
    // In this order: nobody observes or gives a heartbeat any more when the programs go.
    _observer: Observer,
    _beating: Beating,
}

/// [`Options::pace`] of a pod. What looks cost grows with the node's listening sockets, and the hooks and failing
/// connections ask for a look when there is a reason; what is only found in time is a program of another container that
/// listens on one address of a port on which the target listens on all.
pub const POD_PACE: Duration = Duration::from_secs(30);

/// What a target is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// What records call it.
    pub target: Arc<exchange::Target>,
    /// What is done with the TLS of what it opens.
    pub tls: Policy,
    /// How stale the picture of other programs' listeners may be.
    pub pace: Duration,
}

impl Hooks {
    /// Loads the programs, and gives the heartbeat for as long as the data plane runs. `object` replaces the embedded
    /// programs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn start(object: Option<&[u8]>, liveness: Liveness) -> Result<Self, Error> {
        let (probes, ring) = Probes::load(object)?;
        let probes = Arc::new(probes);
        let targets = Arc::new(Targets::new(Arc::clone(&probes), ring).map_err(Error::io("make an eventfd"))?);
        let observer = Observer::start(&targets).map_err(Error::io("start the observer"))?;
        let beating = Beating::start(probes.heartbeat(), liveness).map_err(Error::io("give the heartbeat"))?;
        Ok(Self { probes, targets, direct: Arc::default(), _observer: observer, _beating: beating })
    }

    /// Makes listeners in a network namespace, and the hooks know both. Nothing is attached to a control group, and
    /// nothing is steered yet.
    ///
    /// # Errors
    /// When the kernel refuses, or the namespace has a target already.
    pub fn target(&self, namespace: Arc<dyn Namespace>, options: Options) -> Result<Target, Error> {
        let opened = within(&*namespace, Listeners::open);
        let listeners = opened.map_err(Error::io("listen on loopback in the target's network namespace"))?;
        let cookie = namespace.cookie();
        let hooked = self.probes.target(namespace.file(), cookie, &listeners.ports(), listeners.inbound())?;
        let (maps, roles) = (hooked.maps(), listeners.roles());
        let listeners = listeners.into_all();
        let ours: BTreeSet<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let Options { target, tls, pace } = options;
        let watched = Watched::begin(
            Arc::clone(&namespace),
            Arc::clone(&maps),
            ours,
            Arc::clone(&target),
            pace,
            Arc::clone(&self.direct),
        );
        let watched = Arc::new(watched.map_err(Error::io("read the routes of the target's network namespace"))?);
        let processes = Arc::clone(&watched.processes);
        let ignoring = Arc::new(Ignoring::nothing(Arc::clone(&maps)));
        let look = {
            let targets = Arc::downgrade(&self.targets);
            move || targets.upgrade().iter().for_each(|targets| targets.ask(cookie))
        };
        let inside = Arc::new(Inside(namespace));
        let steering = KernelSteering::new(maps, roles, target, processes, inside, tls, Box::new(look));
        self.targets.add(&watched).map_err(Error::io("follow the routes of the target's network namespace"))?;
        Ok(Target {
            hooked,
            watched,
            steering: Arc::new(steering),
            listeners,
            ignoring,
            targets: Arc::clone(&self.targets),
            _waking: Waking(Arc::clone(&self.targets)),
        })
    }

    /// Entries of each of the hooks' maps. It takes a system call an entry.
    pub fn fill(&self) -> Vec<Fill> {
        self.probes.fill()
    }

    /// Connects of the targets' programs in namespaces of no target; they are left alone.
    pub fn elsewhere(&self) -> u64 {
        self.probes.elsewhere()
    }
}

/// A captured network namespace. Dropping it takes everything off, and makes the hooks forget it.
#[derive(Debug)]
pub struct Target {
    hooked: probes::Target,
    watched: Arc<Watched>,
    steering: Arc<KernelSteering>,
    listeners: Vec<TcpListener>,
    ignoring: Arc<Ignoring>,
    targets: Arc<Targets>,
    /// Goes last: there is something to sweep then.
    _waking: Waking,
}

#[derive(Debug)]
struct Waking(Arc<Targets>);

impl Drop for Waking {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// The hooks on one control group of a target. Dropping it takes them off.
#[derive(Debug)]
pub struct Attached {
    hooks: probes::Attached,
    watched: Arc<Watched>,
    group: PathBuf,
}

impl Target {
    /// For the data plane's group that serves [`Target::take_listeners`].
    pub fn steering(&self) -> Arc<dyn Steering> {
        Arc::clone(&self.steering) as Arc<dyn Steering>
    }

    /// Its listeners; they have to be served before anything is steered. The second time there are none.
    pub fn take_listeners(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.listeners)
    }

    /// Where connections that are not steered are recorded from now on. Only the first call counts.
    pub fn record_to(&self, sink: Arc<dyn Sink>) {
        self.watched.record_to(sink);
    }

    /// Puts the hooks on a control group (its directory in the mounted hierarchy). What it listens on already is
    /// found; connections that it has already are counted, a moment later, and left alone.
    ///
    /// # Errors
    /// When there is none, or the kernel refuses.
    pub fn attach(&self, group: &Path) -> Result<Attached, Error> {
        let directory = File::open(group).map_err(Error::io("open the control group"))?;
        let hooks = self.hooked.attach(directory)?;
        self.watched.add(group);
        self.targets.count_older(self.watched.maps.netns());
        Ok(Attached { hooks, watched: Arc::clone(&self.watched), group: group.to_owned() })
    }

    /// Switches steering on or off, at once and for new connections only.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn steer(&self, steer: Steer) -> Result<(), Error> {
        Ok(self.hooked.steer(steer)?)
    }

    /// What is left alone of it: nothing at first.
    pub fn ignoring(&self) -> Arc<Ignoring> {
        Arc::clone(&self.ignoring)
    }

    /// What the hooks have counted.
    pub fn counts(&self) -> Counts {
        self.watched.maps.counts()
    }

    /// Connections that were open before the hooks were there.
    pub fn before_attach(&self) -> BeforeAttach {
        self.watched.before_attach()
    }

    /// Closes those of them that are idle and were accepted; no others, and none on which an answer is owed. Those that
    /// are not closed may be when this is called again. How many are there still is told as `busy`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn close_older(&self, idle: Duration) -> Result<Reset, Error> {
        self.watched.close_older(idle).map_err(Error::io("close the connections that are older"))
    }

    /// Where traffic went beside us, and the number of connections that the list has no room for.
    pub fn bypasses(&self) -> (Vec<Bypass>, u64) {
        self.watched.bypasses()
    }

    /// Where the target listens.
    pub fn listening(&self) -> Vec<Listening> {
        self.watched.listening()
    }

    /// Is `inbound` still on its network namespace?
    pub fn is_attached(&self) -> bool {
        self.hooked.is_attached()
    }

    /// Looks at the namespace now: somebody has a reason to believe that something has changed.
    pub fn look(&self) {
        self.targets.hear();
        self.watched.sync();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.targets.remove(self.watched.maps.netns());
    }
}

impl Attached {
    /// Are the hooks still on the control group? They go when it does.
    pub fn is_attached(&self) -> bool {
        self.hooks.is_attached()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.watched.remove(&self.group);
    }
}

/// 128 bits from the kernel.
pub fn random() -> u128 {
    let mut bytes = [0; 16];
    // Without the call (Linux before 3.17) identifiers are still unique within a process.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u128::from_ne_bytes(bytes)
}
