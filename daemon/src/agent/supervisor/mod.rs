//! The one loop that decides and acts. `next` only waits; `step` takes in what happened, and then does what is due: for
//! each pod that something happened to it looks, makes a plan (`nodetap_core::pod::plan`), carries it out, and looks
//! again, until there is nothing left to do.

mod heard;
mod names;
mod pod;
mod rules;
mod tls;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use nodetap_core::pod::plan::{self, Step};
use nodetap_proxy::engine::Engine;

use self::names::{Meaning, Names};
use self::pod::{Hands, Pod};
use self::rules::Surroundings;
use self::tls::Keys;
use super::held::{Held, Tools};
use super::link::Link;
use super::remembered::Memory;
use super::view::View;
use super::wire::{Gap, Message};
use crate::capture::{Hooks, Pins};
use crate::cluster::namespaces::Namespace;
use crate::cluster::report::Reporter;
use crate::cluster::secrets::Data;
use crate::cluster::services::Service;
use crate::cluster::{Change, pods};
use crate::kubepods::{self, Container, Finder, PodUid};
use crate::netlink::listeners::listeners;
use crate::store::Recorder;

pub(super) use self::tls::SecretName;

/// The longest wait: signs of life are due in between.
const IDLE: Duration = Duration::from_millis(500);
/// Plans that are made for one pod in a row: a pod that is never done is looked at again later.
const ROUNDS: u32 = 6;
/// Pods that are worked on between two looks at what has happened.
const BATCH: usize = 8;
/// How long a pod that is not done after so many rounds waits.
const LATER: Duration = Duration::from_secs(1);
/// What waits in the queues of steered listeners is accepted within this time after steering has ended.
const QUEUED: Duration = Duration::from_millis(60);
/// The end of a gap is when everything is captured again, or after this time.
const GAP: Duration = Duration::from_secs(10);
/// How often it is looked whether somebody answered in our place.
const PAST: Duration = Duration::from_secs(1);
/// Control groups that are known of pods that are not.
const STRANGERS: usize = 4096;
/// Services that are known.
const SERVICES: usize = 16_384;

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    Pods(Change<Box<pods::Pod>>),
    Namespaces(Change<Namespace>),
    Services(Change<Service>),
    Paused(bool),
    Cgroup(kubepods::Event),
    Secret(SecretName, Result<Data, String>),
    /// A name was resolved, or could not be.
    Name(String, Meaning),
    Keeper(Message, Option<OwnedFd>),
    KeeperGone,
    /// Some time has passed.
    Tick,
}

/// What a supervisor is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub node: String,
    pub proc: PathBuf,
    pub dry_run: bool,
    pub pod_connections: u64,
    pub pod_bytes: usize,
    pub engine: Engine,
    pub hooks: Option<Hooks>,
    /// Where fallbacks are pinned.
    pub pins: Option<Pins>,
    pub recorder: Recorder,
    pub finder: Finder,
    pub reporter: Reporter,
    pub view: View,
    pub link: Link,
    /// Counted up whenever something was done.
    pub pulse: Arc<AtomicU64>,
    /// Connections that are open, as told to the keeper.
    pub open: Arc<AtomicU64>,
    /// After this the node is asked for, though the list of pods has not come.
    pub patience: Instant,
    /// Where Secrets are asked for.
    pub secrets: tokio::sync::mpsc::Sender<BTreeSet<SecretName>>,
    /// Where answers about names arrive.
    pub events: SyncSender<Event>,
    pub memory: Memory,
    /// Says that what Services send to is of interest.
    pub services_wanted: tokio::sync::watch::Sender<bool>,
}

/// Whose node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    /// Not ours yet: nothing is done.
    Waiting,
    Ours,
    /// Somebody else's: what is open is let end.
    Left,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Supervisor {
    tools: Tools,
    finder: Finder,
    reporter: Reporter,
    recorder: Recorder,
    view: View,
    surroundings: Surroundings,
    keys: Keys,
    secrets: tokio::sync::mpsc::Sender<BTreeSet<SecretName>>,
    node_name: String,
    proc: PathBuf,
    own_cgroup: u64,
    dry_run: bool,
    pulse: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
    started: Instant,
    patience: Instant,
    pods: BTreeMap<String, Pod>,
    by_key: BTreeMap<PodUid, String>,
    /// Control groups of pods that the API server has not told of.
    strangers: BTreeMap<PodUid, BTreeMap<PathBuf, Arc<Container>>>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Nothing before the API server has said so.
    paused: Option<bool>,
    /// Pods that were told of before that.
    early: Vec<Change<Box<pods::Pod>>>,
    /// What an agent before us knew was asked for.
    reminded: bool,
    listed: bool,
    namespaces_listed: bool,
    services: BTreeMap<(String, String), Service>,
    services_wanted: tokio::sync::watch::Sender<bool>,
    memory: Memory,
    told_prepared: bool,
    node: Node,
    dirty: BTreeSet<String>,
    gap: Option<(Gap, Instant)>,
    /// When it was last looked whether somebody answered in our place.
    past: Instant,
    /// What agents before us left of pods that are gone was taken away.
    swept: bool,
    /// When it is over, whatever is open.
    deadline: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new(parts: Parts) -> Self {
        let told = parts.events;
        let names = Names::start(move |name, meaning| told.send(Event::Name(name, meaning)).is_ok());
        let Parts {
            node,
            proc,
            dry_run,
            pod_connections,
            pod_bytes,
            engine,
            hooks,
            pins,
            recorder,
            finder,
            reporter,
            ..
        } = parts;
        Self {
            tools: Tools { engine, hooks, pins, link: parts.link, connections: pod_connections, kept: pod_bytes },
            finder,
            reporter,
            recorder,
            view: parts.view,
            surroundings: Surroundings::new(node.clone(), &proc, names),
            keys: Keys::default(),
            secrets: parts.secrets,
            node_name: node,
            proc,
            own_cgroup: own_cgroup(),
            dry_run,
            pulse: parts.pulse,
            open: parts.open,
            started: Instant::now(),
            patience: parts.patience,
            pods: BTreeMap::new(),
            by_key: BTreeMap::new(),
            strangers: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            paused: None,
            early: Vec::new(),
            reminded: false,
            listed: false,
            namespaces_listed: false,
            services: BTreeMap::new(),
            services_wanted: parts.services_wanted,
            memory: parts.memory,
            told_prepared: false,
            node: Node::Waiting,
            dirty: BTreeSet::new(),
            gap: None,
            past: Instant::now(),
            swept: false,
            deadline: None,
        }
    }

    /// Waits for what happens next. `None`: nobody will tell anything any more.
    pub(super) fn next(&mut self, inbox: &Receiver<Event>) -> Option<Event> {
        self.pulse.fetch_add(1, Ordering::Relaxed);
        self.open.store(self.tools.engine.open(), Ordering::Relaxed);
        let now = Instant::now();
        let due = self.pods.values().filter_map(|pod| pod.due).min().map_or(IDLE, |due| due.duration_since(now));
        let wait = if self.dirty.is_empty() { due.min(IDLE) } else { Duration::ZERO };
        match inbox.recv_timeout(wait) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => Some(Event::Tick),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Takes in what happened, and does what is due. `false`: it is over.
    pub(super) fn step(&mut self, event: Event) -> bool {
        self.take_in(event);
        let now = Instant::now();
        if now >= self.patience {
            self.remember();
        }
        let due: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.due.is_some_and(|due| due <= now))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            self.care_for(&uid);
            self.dirty.insert(uid);
        }
        self.work();
        if self.past.elapsed() >= PAST {
            self.past = Instant::now();
            let held = self.pods.values_mut().filter_map(|pod| pod.held.as_mut());
            held.for_each(Held::watch_fallback);
        }
        self.prepare();
        self.close_gap();
        self.write_down();
        !self.is_over()
    }

    /// Steers nothing any more; what is open goes on. `successor`: there is another agent for the rest.
    fn leave_node(&mut self, successor: bool) {
        if self.node != Node::Ours {
            self.node = Node::Left;
            if successor {
                // It came while we were ending.
                let held = self.pods.values_mut().filter_map(|pod| pod.held.as_mut());
                held.for_each(Held::hear_no_more);
            }
            return;
        }
        self.node = Node::Left;
        for pod in self.pods.values_mut() {
            let Some(held) = &mut pod.held else { continue };
            // Whom nobody sends to us needs nobody in our place.
            if !successor && !pod.api.redirected {
                held.remove_fallback(&self.tools);
            }
            held.let_go(successor);
        }
        // Connections that were steered a moment ago are in our queues: they are accepted, and only then the hooks go.
        std::thread::sleep(QUEUED);
        for held in self.pods.values_mut().filter_map(|pod| pod.held.as_mut()) {
            held.unhook();
        }
    }

    fn care_for(&mut self, uid: &str) {
        let (Some(mut pod), true) = (self.pods.remove(uid), self.node == Node::Ours) else { return };
        pod.due = None;
        pod.care(&mut self.hands());
        self.pods.insert(uid.to_owned(), pod);
    }

    /// Works on pods that something happened to, some at a time: what happens meanwhile is not to wait for all of them.
    fn work(&mut self) {
        for _ in 0..BATCH {
            let Some(uid) = self.dirty.pop_first() else { return };
            self.pulse.fetch_add(1, Ordering::Relaxed);
            if let Some(pod) = self.pods.remove(&uid)
                && let Some(pod) = self.reconcile(pod)
            {
                self.pods.insert(uid, pod);
            }
        }
    }

    /// `None`: the pod is gone, and nothing is left of it.
    fn reconcile(&mut self, mut pod: Pod) -> Option<Pod> {
        let acts = self.node == Node::Ours && !self.dry_run;
        if self.node == Node::Left {
            // Nothing is changed any more; what nobody wants to be recorded is not, to the end.
            let unwanted = self.paused == Some(true) || pod.config().is_none();
            let now = self.hands().now;
            if let Some(held) = pod.held.as_mut().filter(|_| unwanted) {
                held.retire_all(now);
            }
            return Some(pod);
        }
        self.ask_for_secrets(&mut pod);
        let mut rounds = 0;
        loop {
            // Once for each time that something happened; what we do ourselves is known.
            if rounds == 0 {
                pod.look(&self.hands());
            } else {
                pod.look_again();
            }
            let plan = self.plan(&pod);
            let mut hands = self.hands();
            let steps = plan.steps.clone();
            let changed = pod.plan.as_ref() != Some(&plan);
            pod.plan = Some(plan);
            if !acts {
                if self.dry_run && changed && pod.asks() {
                    told::say(&pod);
                }
                break;
            }
            if steps.is_empty() {
                if let Some(held) = &mut pod.held {
                    held.be_alone(hands.tools);
                }
                break;
            }
            let attaches = steps.iter().any(|step| matches!(step, Step::Attach { .. }));
            for step in steps {
                let key = step.key();
                tracing::debug!(namespace = pod.api.namespace, pod = pod.api.name, "{step}");
                pod.carry_out(step, &mut hands);
                if pod.observed.failures.contains_key(&key) {
                    break;
                }
            }
            if attaches && pod.config().is_some_and(|config| config.ports.is_some()) {
                // Which ports are to be left alone is known only now.
                pod.look_again();
                pod.care(&mut hands);
            }
            rounds += 1;
            if rounds >= ROUNDS {
                pod.due = Some(Instant::now() + LATER);
                break;
            }
        }
        if pod.wanted.is_none() && pod.held.is_none() {
            self.forget(&pod);
            return None;
        }
        if rounds < ROUNDS {
            pod.due = pod.next_due(Instant::now(), self.millis());
        }
        self.show(&pod);
        Some(pod)
    }

    /// The pod is among `self.pods` no more while it is worked on.
    fn plan(&self, pod: &Pod) -> plan::Plan {
        let (wanted, now) = (pod.wanted.as_ref(), self.millis());
        let others = self.pods.values().filter_map(|other| Some((other.wanted.as_ref()?, &other.observed)));
        match pod.config().and_then(|_| plan::refused_beside(&pod.observed, others)) {
            Some(refusal) => plan::plan_refused(wanted, refusal, &pod.observed, now),
            None => plan::plan(wanted, &pod.observed, now),
        }
    }

    fn ask_for_secrets(&mut self, pod: &mut Pod) {
        let Some(config) = pod.config() else { return };
        let needed = Keys::needed(config, &pod.api.namespace);
        let mut problems = self.keys.problems(config, &pod.api.namespace, pod.workload());
        problems.extend(self.surroundings.names.problems(config));
        if !needed.is_empty() {
            // Who is busy hears of it the next time.
            let _ = self.secrets.try_send(needed);
        }
        pod.observed.problems = problems;
    }

    fn hands(&mut self) -> Hands<'_> {
        let now = self.millis();
        Hands {
            tools: &mut self.tools,
            finder: &self.finder,
            reporter: &self.reporter,
            recorder: &self.recorder,
            surroundings: &mut self.surroundings,
            keys: &self.keys,
            proc: &self.proc,
            own_cgroup: self.own_cgroup,
            now,
        }
    }

    fn forget(&mut self, pod: &Pod) {
        if let Some(key) = pod.key() {
            self.by_key.remove(key);
        }
        self.reporter.forget(&pod.name());
        self.view.forget(&pod.api.uid);
    }

    /// Has everything ended that was to end?
    fn is_over(&self) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let open: u64 = self.pods.values().filter_map(|pod| pod.held.as_ref()).map(Held::open).sum();
        open == 0 || Instant::now() >= deadline
    }

    /// Cuts what is open.
    pub(super) fn end(&mut self) {
        let uids: Vec<String> = self.pods.keys().cloned().collect();
        for uid in uids {
            if let Some(mut pod) = self.pods.remove(&uid) {
                pod.end(&self.hands());
            }
        }
    }

    /// Everything is written.
    pub(super) fn ended(&self) {
        self.tools.link.tell(&Message::Drained);
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The control group that our sockets are made in, as `sock_diag` tells it; 0 where it does not.
fn own_cgroup() -> u64 {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else { return 0 };
    let Ok(address) = listener.local_addr() else { return 0 };
    let all = listeners().unwrap_or_default();
    all.into_values().find(|one| one.address == address).map_or(0, |one| one.cgroup)
}
