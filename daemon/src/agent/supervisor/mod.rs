//! The one loop that decides and acts. `next` only waits; `step` takes in what happened, and then does what is due: for
//! each pod that something happened to it looks, makes a plan (`nodetap_core::pod::plan`), carries it out, and looks
//! again, until there is nothing left to do.

mod pod;
mod rules;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nodetap_core::exchange::{self, Loss, Target};
use nodetap_core::pod::decision::Decision;
use nodetap_core::pod::plan::{self, Step, Wanted};
use nodetap_core::pod::state::State;
use nodetap_proxy::engine::Engine;

use self::pod::{Hands, Pod};
use self::rules::{Surroundings, facts};
use self::tls::Keys;
use super::held::Tools;
use super::link::Link;
use super::unix_micros;
use super::view::{self, Facts, View};
use super::wire::{Gap, Message};
use super::worker::{NODE, PODS};
use crate::capture::Hooks;
use crate::cluster::namespaces::Namespace;
use crate::cluster::report::Reporter;
use crate::cluster::secrets::Data;
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
/// Control groups that are known of pods that are not.
const STRANGERS: usize = 4096;

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    Pods(Change<Box<pods::Pod>>),
    Namespaces(Change<Namespace>),
    Paused(bool),
    Cgroup(kubepods::Event),
    Secret(SecretName, Result<Data, String>),
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
    paused: bool,
    listed: bool,
    told_prepared: bool,
    node: Node,
    dirty: BTreeSet<String>,
    gap: Option<(Gap, Instant)>,
    /// When it is over, whatever is open.
    deadline: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            node, proc, dry_run, pod_connections, pod_bytes, engine, hooks, recorder, finder, reporter, ..
        } = parts;
        Self {
            tools: Tools { engine, hooks, link: parts.link, connections: pod_connections, kept: pod_bytes },
            finder,
            reporter,
            recorder,
            view: parts.view,
            surroundings: Surroundings::new(node.clone(), &proc),
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
            paused: false,
            listed: false,
            told_prepared: false,
            node: Node::Waiting,
            dirty: BTreeSet::new(),
            gap: None,
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
        self.prepare();
        self.close_gap();
        !self.is_over()
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Pods(Change::All(all)) => self.all_pods(all),
            Event::Pods(Change::Applied(pod)) => self.pod(*pod),
            Event::Pods(Change::Gone(pod)) => self.pod_gone(&pod.uid),
            Event::Namespaces(change) => self.namespaces(change),
            Event::Paused(paused) => {
                self.paused = paused;
                self.view.pause(paused);
                self.decide_all();
            }
            Event::Cgroup(kubepods::Event::Appeared(container)) => self.group_appeared(container),
            Event::Cgroup(kubepods::Event::Gone(container)) => self.group_gone(&container),
            Event::Secret(name, data) => {
                if self.keys.tell(name, data) {
                    // What is in force was made of what was known before.
                    self.pods.values_mut().filter_map(|pod| pod.held.as_mut()).for_each(super::held::Held::unset);
                    self.dirty.extend(self.pods.keys().cloned());
                }
            }
            Event::Keeper(message, fd) => self.keeper(message, fd),
            Event::KeeperGone => {
                tracing::warn!("the keeper is gone: nothing more is captured");
                self.leave_node();
                self.deadline = Some(Instant::now() + Duration::from_secs(2));
            }
            Event::Tick => {}
        }
    }

    fn all_pods(&mut self, all: impl IntoIterator<Item = Box<pods::Pod>>) {
        let mut here = BTreeSet::new();
        for pod in all {
            here.insert(pod.uid.clone());
            self.pod(*pod);
        }
        let gone: Vec<String> = self.pods.keys().filter(|uid| !here.contains(*uid)).cloned().collect();
        gone.iter().for_each(|uid| self.pod_gone(uid));
        self.listed = true;
        self.view.happened(PODS);
    }

    fn pod(&mut self, api: pods::Pod) {
        let uid = api.uid.clone();
        if let Some(condition) = &api.condition {
            self.reporter.seen(&pod_name(&api), &condition.status, &condition.reason, &condition.message);
        }
        match self.pods.get_mut(&uid) {
            Some(pod) if pod.api == api && pod.wanted.is_some() => return,
            Some(pod) => {
                // Somebody else wrote our condition, or took it away.
                let ours = pod.observed.reported.as_ref().map(|said| (said.status, &said.message));
                let there = api.condition.as_ref().map(|said| (said.status == "True", &said.message));
                if pod.api.condition != api.condition && ours != there && self.reporter.is_idle() {
                    pod.observed.reported = None;
                }
                pod.api = api;
            }
            None => {
                let mut pod = Pod::new(api);
                if let Some(key) = pod.key().cloned() {
                    for container in self.strangers.remove(&key).into_iter().flat_map(BTreeMap::into_values) {
                        pod.group_appeared(container);
                    }
                    self.by_key.insert(key, uid.clone());
                }
                self.pods.insert(uid.clone(), pod);
            }
        }
        self.decide(&uid);
    }

    fn pod_gone(&mut self, uid: &str) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.wanted = None;
            self.dirty.insert(uid.to_owned());
        }
    }

    fn namespaces(&mut self, change: Change<Namespace>) {
        match change {
            Change::All(all) => {
                self.namespaces = all.into_iter().map(|one| (one.name, one.annotations)).collect();
                self.decide_all();
            }
            Change::Applied(Namespace { name, annotations }) => {
                if self.namespaces.get(&name) != Some(&annotations) {
                    self.namespaces.insert(name.clone(), annotations);
                    let there = self.pods.iter().filter(|(_, pod)| pod.api.namespace == name);
                    let uids: Vec<String> = there.map(|(uid, _)| uid.clone()).collect();
                    uids.iter().for_each(|uid| self.decide(uid));
                }
            }
            Change::Gone(Namespace { name, .. }) => drop(self.namespaces.remove(&name)),
        }
    }

    fn decide_all(&mut self) {
        let uids: Vec<String> = self.pods.keys().cloned().collect();
        uids.iter().for_each(|uid| self.decide(uid));
    }

    /// What is wanted of a pod, by what the API server says.
    fn decide(&mut self, uid: &str) {
        let nothing = BTreeMap::new();
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let facts = facts(&pod.api);
        let decision = Decision::of(&facts, self.namespaces.get(&pod.api.namespace).unwrap_or(&nothing));
        let wanted = Some(Wanted { pod: facts, decision, paused: self.paused });
        if pod.wanted != wanted {
            pod.wanted = wanted;
            self.dirty.insert(uid.to_owned());
        }
    }

    fn group_appeared(&mut self, container: Arc<Container>) {
        let uid = self.by_key.get(&container.pod).cloned();
        match uid.and_then(|uid| self.pods.get_mut(&uid).map(|pod| (uid, pod))) {
            Some((uid, pod)) => {
                pod.group_appeared(container);
                self.dirty.insert(uid);
            }
            None if self.strangers.len() < STRANGERS => {
                let groups = self.strangers.entry(container.pod.clone()).or_default();
                groups.insert(container.path.clone(), container);
            }
            None => {}
        }
    }

    fn group_gone(&mut self, container: &Container) {
        if let Some(groups) = self.strangers.get_mut(&container.pod) {
            groups.remove(&container.path);
            if groups.is_empty() {
                self.strangers.remove(&container.pod);
            }
        }
        if let Some(uid) = self.by_key.get(&container.pod)
            && let Some(pod) = self.pods.get_mut(uid)
        {
            pod.group_gone(&container.path);
            self.dirty.insert(uid.clone());
        }
    }

    fn keeper(&mut self, message: Message, fd: Option<OwnedFd>) {
        match (message, fd) {
            (Message::Hold(name), Some(fd)) => self.tools.link.give(name, fd),
            (Message::Begin(gap), _) => {
                tracing::info!(node = self.node_name, "the node is ours");
                self.node = Node::Ours;
                self.gap = gap.map(|gap| (gap, Instant::now()));
                self.view.happened(NODE);
                self.dirty.extend(self.pods.keys().cloned());
            }
            (Message::Yield, _) => {
                self.leave_node();
                self.tools.link.tell(&Message::Yielded);
            }
            (Message::Drain(seconds), _) => {
                self.leave_node();
                self.deadline.get_or_insert(Instant::now() + Duration::from_secs(seconds));
            }
            _ => {}
        }
    }

    /// Steers nothing and accepts nothing any more; what is open goes on.
    fn leave_node(&mut self) {
        if self.node != Node::Ours {
            self.node = Node::Left;
            return;
        }
        self.node = Node::Left;
        for held in self.pods.values_mut().filter_map(|pod| pod.held.as_mut()) {
            held.let_go();
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
                    say(&pod);
                }
                break;
            }
            if steps.is_empty() {
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
        let problems = self.keys.problems(config, &pod.api.namespace, pod.workload());
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

    /// Lets others see what became of a pod.
    fn show(&self, pod: &Pod) {
        let Some(plan) = pod.plan.as_ref().filter(|_| pod.asks()) else { return self.view.forget(&pod.api.uid) };
        let held = pod.observed.held.as_ref();
        let listeners = held.into_iter().flat_map(|held| &held.listeners);
        let named = |id: &String| {
            let of = pod.api.containers.iter().find(|one| one.id.as_ref() == Some(id));
            of.map_or_else(|| id.clone(), |one| one.name.clone())
        };
        let why = match &plan.state {
            State::Pending(why) => why.clone(),
            State::Degraded(why) => why.iter().cloned().collect::<Vec<_>>().join("; "),
            State::Refused(refusals) => refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            State::Off(_) | State::Capturing | State::Draining(_) => String::new(),
        };
        let facts = Facts {
            namespace: pod.api.namespace.clone(),
            pod: pod.api.name.clone(),
            uid: pod.api.uid.clone(),
            state: plan.state.name(),
            why,
            mode: pod.config().map_or("", |config| config.proxy_type.name()),
            // A pod that cannot be captured yet for reasons of its own keeps nobody waiting; one that is being set up does.
            settled: plan.is_settled() && self.node == Node::Ours,
            netns: held.map(|held| held.namespace.inode),
            containers: held.into_iter().flat_map(|held| &held.attached).map(named).collect(),
            listeners: listeners.map(|(listener, _)| listener.to_string()).collect(),
            ports: pod.observed.listening.iter().map(|one| one.port).collect::<BTreeSet<_>>().into_iter().collect(),
        };
        self.view.show(&pod.api.uid, view::Target { facts, stats: Arc::clone(&pod.stats) });
    }

    /// Tells the keeper once that we could begin: everything is loaded, and the pods are known or do not become known.
    fn prepare(&mut self) {
        if !self.told_prepared && (self.listed || Instant::now() >= self.patience) {
            self.told_prepared = true;
            self.tools.link.tell(&Message::Prepared);
        }
        if self.listed && self.node == Node::Ours && self.dirty.is_empty() {
            let pods = &self.pods;
            self.tools
                .link
                .release_rest(|name| name.split('/').next().is_some_and(|uid| pods.get(uid).is_some_and(Pod::asks)));
        }
    }

    /// Nothing was captured for a while: that is one loss, with its start and its end.
    fn close_gap(&mut self) {
        let Some((gap, since)) = self.gap else { return };
        let ready = self.listed && self.dirty.is_empty() && self.view.unready().is_empty();
        if !ready && since.elapsed() < GAP {
            return;
        }
        self.gap = None;
        let reason = if gap.planned { exchange::AGENT_HANDOVER } else { exchange::AGENT_DOWN };
        let loss = Loss {
            time: gap.since,
            until: unix_micros(),
            target: Target::command(format!("agent on {}", self.node_name)),
            reason: reason.into(),
            exchanges: gap.cut,
            bytes: 0,
        };
        tracing::info!(reason, since = gap.since, cut = gap.cut, "captured again");
        self.recorder.record(exchange::Event::Loss(loss));
    }

    /// Has everything ended that was to end?
    fn is_over(&self) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let open: u64 = self.pods.values().filter_map(|pod| pod.held.as_ref()).map(super::held::Held::open).sum();
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

fn pod_name(api: &pods::Pod) -> crate::cluster::condition::PodName {
    crate::cluster::condition::PodName {
        namespace: api.namespace.clone(),
        name: api.name.clone(),
        uid: api.uid.clone(),
    }
}

/// What would be done for a pod, on stdout.
fn say(pod: &Pod) {
    use std::io::Write as _;
    let Some(plan) = &pod.plan else { return };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}/{}: {}", pod.api.namespace, pod.api.name, plan.state.reason());
    for step in &plan.steps {
        let _ = writeln!(out, "  {step}");
    }
}

/// The control group that our sockets are made in, as `sock_diag` tells it; 0 where it does not.
fn own_cgroup() -> u64 {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else { return 0 };
    let Ok(address) = listener.local_addr() else { return 0 };
    let all = listeners().unwrap_or_default();
    all.into_values().find(|one| one.address == address).map_or(0, |one| one.cgroup)
}
