//! One pod of the node: what is wanted of it, what is known of it, and the steps in between.

mod listening;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nodetap_core::pod::application::Application;
use nodetap_core::pod::condition::Condition;
use nodetap_core::pod::config::Config;
use nodetap_core::pod::observed::{Failure, Listener, Millis, Namespace, NamespaceId, Observed, Place};
use nodetap_core::pod::plan::{Plan, Step, Wanted};
use nodetap_core::pod::value::Here;
use nodetap_core::pod::wish::Wish;
use nodetap_proxy::steering::Serves;

use super::rules::Surroundings;
use super::tls::Keys;
use crate::agent::held::{Behind, Held, Leads, Rules, Tools, upstream};
use crate::agent::stats::{Stats, TargetSink};
use crate::cluster::condition::PodName;
use crate::cluster::report::Reporter;
use crate::cluster::{condition, events, pods};
use crate::kubepods::{Container, Finder, Found, PodUid, Verdict};
use crate::store::Recorder;

/// A pod whose network was not found is looked for again after so long, at first and at last.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOK_LATER: Duration = Duration::from_secs(5);
/// Looks that come soon after one another.
const SOON: u32 = 50;
/// How often everything about a pod is looked at though nothing was told of it.
const CARE: Duration = Duration::from_secs(30);
/// The same while its application listens nowhere yet, or something drains.
const WATCH: Duration = Duration::from_secs(1);
/// The same while older connections are to be closed as soon as they are idle.
const IDLE_SOON: Duration = Duration::from_secs(3);
/// How often listeners are asked whether they answer, in looks.
const DOUBT: u32 = 3;
/// Events that are remembered as said of one pod.
const SAID: usize = 64;

/// What a pod needs of the supervisor for a step.
pub(super) struct Hands<'a> {
    pub tools: &'a mut Tools,
    pub finder: &'a Finder,
    pub reporter: &'a Reporter,
    pub recorder: &'a Recorder,
    pub surroundings: &'a mut Surroundings,
    pub keys: &'a Keys,
    pub proc: &'a std::path::Path,
    /// The control group of our own sockets.
    pub own_cgroup: u64,
    pub now: Millis,
}

/// A pod.
#[derive(Debug)]
pub(super) struct Pod {
    pub api: pods::Pod,
    /// Nothing when the API server does not know it any more.
    pub wanted: Option<Wanted>,
    pub observed: Observed,
    pub held: Option<Held>,
    pub stats: Arc<Stats>,
    pub plan: Option<Plan>,
    /// When it is to be looked at again.
    pub due: Option<Instant>,
    key: Option<PodUid>,
    groups: BTreeMap<PathBuf, Arc<Container>>,
    behind: Option<Behind>,
    found: Option<Found>,
    looks: u32,
    /// Looks in a row that did not find its network.
    misses: u32,
    /// Since when it could have been captured.
    since: Option<Instant>,
}

impl Pod {
    pub(super) fn new(api: pods::Pod) -> Self {
        // What an agent before us has written stays until something else is true.
        let reported = api.condition.as_ref().map(|condition| Condition {
            status: condition.status == "True",
            reason: "",
            message: condition.message.clone(),
        });
        let observed = Observed { reported, ..Observed::default() };
        Self {
            key: key(&api),
            api,
            wanted: None,
            observed,
            held: None,
            stats: Arc::default(),
            plan: None,
            due: None,
            groups: BTreeMap::new(),
            behind: None,
            found: None,
            looks: 0,
            misses: 0,
            since: None,
        }
    }

    pub(super) fn key(&self) -> Option<&PodUid> {
        self.key.as_ref()
    }

    pub(super) fn name(&self) -> PodName {
        PodName { namespace: self.api.namespace.clone(), name: self.api.name.clone(), uid: self.api.uid.clone() }
    }

    /// What it asks for, if it asks for capture.
    pub(super) fn config(&self) -> Option<&Config> {
        match self.wanted.as_ref().map(|wanted| &wanted.decision.wish) {
            Some(Wish::Capture(config)) => Some(config),
            _ => None,
        }
    }

    /// Does it ask, whatever comes of it, or is something left of when it did?
    pub(super) fn asks(&self) -> bool {
        let wish = self.wanted.as_ref().map(|wanted| &wanted.decision.wish);
        self.held.is_some() || wish.is_some_and(|wish| *wish != Wish::NotAsked)
    }

    pub(super) fn group_appeared(&mut self, container: Arc<Container>) {
        self.groups.insert(container.path.clone(), container);
    }

    pub(super) fn group_gone(&mut self, path: &std::path::Path) {
        self.groups.remove(path);
    }

    /// Looks at the pod as it is.
    pub(super) fn look(&mut self, hands: &Hands<'_>) {
        self.observed.cgroups = self
            .groups
            .iter()
            .map(|(path, container)| (container.id.as_str().to_owned(), path.to_string_lossy().into_owned()))
            .collect();
        if self.config().is_some() || self.held.is_some() {
            self.look_for_network(hands);
            self.look_for_listeners(hands);
        }
        self.set_behind();
        if let Some(held) = &mut self.held {
            held.fall_back(hands.tools);
        }
        self.observe_held();
        self.stats.set_open(self.held.as_ref().map_or(0, Held::open));
    }

    fn observe_held(&mut self) {
        self.observed.held = self.held.as_ref().map(Held::observe);
    }

    fn look_for_network(&mut self, hands: &Hands<'_>) {
        let Some(key) = &self.key else {
            self.observed.place = Place::Missing("its UID is none that a control group is called by".into());
            return;
        };
        let folders: BTreeSet<PathBuf> =
            self.groups.keys().filter_map(|path| path.parent()).map(std::path::Path::to_owned).collect();
        // A container's own group has the processes.
        let folders: Vec<PathBuf> = self.groups.keys().cloned().chain(folders).collect();
        let found = match self.found.take() {
            Some(mut found) => match hands.finder.verify(&mut found, key, &self.api.ips, &folders) {
                Verdict::Same => Ok(found),
                Verdict::Replaced(found) => Ok(found),
                Verdict::Lost(why) => Err(why),
            },
            None => hands.finder.find(key, &self.api.ips, &folders),
        };
        match found {
            Ok(found) => {
                let id = found.netns.id();
                let ipv6 = match &self.observed.place {
                    Place::Found(before) if before.id == (NamespaceId { device: id.device, inode: id.inode }) => {
                        before.ipv6
                    }
                    _ => found.netns.enter(|| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))).is_ok(),
                };
                let id = NamespaceId { device: id.device, inode: id.inode };
                self.observed.place = Place::Found(Namespace { id, ipv6 });
                self.found = Some(found);
                self.misses = 0;
                return;
            }
            // Nothing runs there any more, and nobody says that it will.
            Err(why) if self.groups.is_empty() && self.held.is_some() && why.is_passing() => {
                self.observed.place = Place::Gone;
            }
            Err(why) => self.observed.place = Place::Missing(why.to_string()),
        }
        self.misses = self.misses.saturating_add(1);
    }

    /// What has changed by our own doing since the last look.
    pub(super) fn look_again(&mut self) {
        if self.config().is_some_and(|config| config.proxy_type.steers()) {
            self.ask_hooks_for_listeners();
        }
        self.observe_held();
    }

    /// Does one step.
    pub(super) fn carry_out(&mut self, step: Step, hands: &mut Hands<'_>) {
        let key = step.key();
        match self.try_to(step, hands) {
            Ok(()) => drop(self.observed.failures.remove(&key)),
            Err(why) => {
                tracing::warn!(namespace = self.api.namespace, pod = self.api.name, step = key, "failed: {why}");
                let failure = Failure::next(self.observed.failures.get(&key), why, hands.now);
                self.observed.failures.insert(key, failure);
            }
        }
        if let Some(held) = &mut self.held {
            held.fall_back(hands.tools);
        }
        self.observe_held();
    }

    fn try_to(&mut self, step: Step, hands: &mut Hands<'_>) -> Result<(), String> {
        match step {
            Step::Enter(_) => return self.enter(hands),
            Step::Report(condition) => {
                self.report(condition, hands);
                return Ok(());
            }
            Step::Say(event) => {
                let said = events::Event { warning: event.warning, reason: event.reason, note: event.note.clone() };
                hands.reporter.event(&self.name(), said);
                while self.observed.said.len() >= SAID {
                    self.observed.said.pop_first();
                }
                self.observed.said.insert(event);
                return Ok(());
            }
            Step::Leave => {
                if let Some(held) = self.held.take() {
                    self.cut(held.leave(hands.tools), hands);
                }
                self.observed.failures.clear();
                self.found = None;
                self.observed.place = Place::Unknown;
                return Ok(());
            }
            Step::Set(config) => return self.set(config, hands),
            Step::Listen { listener, app, addresses } => {
                let leads = self.leads(listener, app);
                let Some(held) = &mut self.held else { return Ok(()) };
                return held.listen(listener, &leads, &addresses, hands.tools);
            }
            Step::Point { listener, app } => {
                let leads = self.leads(listener, app);
                if let Some(held) = &mut self.held {
                    held.point(listener, &leads);
                }
                return Ok(());
            }
            _ => {}
        }
        let Some(held) = &mut self.held else { return Ok(()) };
        match step {
            Step::Verify(listener) => held.verify(listener),
            Step::Revive(listener) => {
                held.revive(listener);
                Ok(())
            }
            Step::Attach { container, path } => {
                held.attach(&container, std::path::Path::new(&path), hands.tools)?;
                self.attached();
                Ok(())
            }
            Step::Detach { container } => {
                held.detach(&container);
                Ok(())
            }
            Step::Steer(steering) => {
                let loopback = self.wanted.as_ref().is_some_and(
                    |wanted| matches!(&wanted.decision.wish, Wish::Capture(config) if config.track_loopback),
                );
                held.steer(steering, loopback, hands.tools)
            }
            Step::CloseOlder => held.close_older(),
            Step::Retire(listener) => {
                held.retire(listener, hands.now);
                Ok(())
            }
            Step::Close(listener) => {
                held.close(listener, &hands.tools.link);
                Ok(())
            }
            Step::End(listener) => {
                let cut = held.end(listener, &hands.tools.link);
                self.cut(cut, hands);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, hands: &mut Hands<'_>) -> Result<(), String> {
        let Some(found) = &self.found else { return Err("its network namespace is not known".into()) };
        let target = hands.surroundings.target(&self.api, self.config());
        let sink = TargetSink {
            recorder: hands.recorder.of(Arc::clone(&target)),
            target: Arc::clone(&target),
            stats: Arc::clone(&self.stats),
        };
        let tls = hands.keys.policies(self.config(), &self.api.namespace, self.workload());
        let root = self.root(hands);
        let mut held = Held::new(found.netns.clone(), &self.api.uid, root, target, tls, sink);
        // What waits at a listener that the keeper held is accepted as soon as that is served.
        if let Some(config) = self.config() {
            held.leave_alone(&self.rules(config, hands).alone);
        }
        self.held = Some(held);
        self.set_behind();
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// The root directory of a program of the pod, as `/proc` shows it.
    fn root(&self, hands: &Hands<'_>) -> PathBuf {
        let captured = |id: &str| {
            let container = self.api.containers.iter().find(|one| one.id.as_deref() == Some(id));
            container.is_some_and(|one| one.kind == pods::Kind::App)
        };
        let mut groups: Vec<_> = self.groups.values().collect();
        groups.sort_by_key(|container| !captured(container.id.as_str()));
        let pid = groups.iter().flat_map(|container| crate::cgroup::processes(&container.path)).find(|pid| *pid != 0);
        // Without a program there is nobody whose names could be asked for.
        pid.map_or_else(|| PathBuf::from("/"), |pid| hands.proc.join(pid.to_string()).join("root"))
    }

    fn set(&mut self, config: Box<Config>, hands: &mut Hands<'_>) -> Result<(), String> {
        let rules = self.rules(&config, hands);
        let root = self.root(hands);
        let Some(held) = &mut self.held else { return Ok(()) };
        held.set_root(root);
        held.set(config, rules, hands.tools)
    }

    /// Pods of one workload run the same programs.
    pub(super) fn workload(&self) -> &str {
        self.api.owner.as_deref().unwrap_or(&self.api.name)
    }

    fn rules(&self, config: &Config, hands: &mut Hands<'_>) -> Rules {
        let ports = match &self.wanted {
            Some(wanted) => Application::of(&wanted.pod, config, &self.observed).ports,
            None => Vec::new(),
        };
        let all = self.observed.listening.iter().map(|one| one.port).collect();
        let tls = hands.keys.policies(Some(config), &self.api.namespace, self.workload());
        hands.surroundings.rules(&self.api, config, tls, &ports, &all)
    }

    /// What was verified or resolved a while ago is looked at again.
    pub(super) fn care(&mut self, hands: &mut Hands<'_>) {
        self.looks = self.looks.wrapping_add(1);
        let Some(config) = self.held.as_ref().and_then(|held| held.observe().config) else { return };
        let rules = self.rules(&config, hands);
        let root = self.root(hands);
        let Some(held) = &mut self.held else { return };
        if self.looks.is_multiple_of(DOUBT) {
            held.doubt();
        }
        held.set_root(root);
        // Those that were in use may be idle now.
        if config.reset_older_connections
            && held.steers()
            && let Err(error) = held.close_older()
        {
            tracing::debug!(error, pod = self.api.name, "older connections stay");
        }
        if let Err(error) = held.ignore(&rules, hands.tools) {
            tracing::debug!(error, pod = self.api.name, "cannot bring what is left alone up to date");
        }
    }

    fn leads(&self, listener: Listener, app: Option<u16>) -> Leads {
        let serves = match (listener, app, self.config().map(|config| config.upstream)) {
            (Listener::Reverse { .. }, Some(app), Some(Here::Address(address))) => {
                Serves::Reverse(SocketAddr::new(address, app))
            }
            (Listener::Reverse { .. }, Some(app), _) => Serves::Reverse(upstream(app, &self.observed.listening)),
            _ => Serves::Forward,
        };
        let id = self.observed.listening.iter().find(|one| Some(one.port) == app).and_then(|one| one.container.clone());
        let named = |id: &String| self.api.containers.iter().find(|one| one.id.as_ref() == Some(id));
        let container = id.as_ref().and_then(named).map(|one| Arc::from(one.name.as_str()));
        Leads { serves, app, container }
    }

    fn report(&mut self, said: Condition, hands: &Hands<'_>) {
        let status = if said.status { "True" } else { "False" };
        // The status is as old as it is, whatever else changes.
        let since = self.api.condition.as_ref().filter(|before| before.status == status);
        let since = since.and_then(|before| before.since.clone());
        let condition = condition::Condition { status, reason: said.reason.to_owned(), message: said.message.clone() };
        hands.reporter.condition(&self.name(), condition, since);
        self.observed.reported = Some(said);
    }

    fn attached(&mut self) {
        if let Some(since) = self.since.take() {
            self.stats.set_attach_us(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// Everything ends.
    pub(super) fn end(&mut self, hands: &Hands<'_>) {
        if let Some(held) = self.held.take() {
            let cut = held.end_all();
            self.cut(cut, hands);
        }
    }

    fn cut(&self, number: u64, hands: &Hands<'_>) {
        if number > 0 {
            let target = hands.surroundings.target(&self.api, self.config());
            let stats = Arc::clone(&self.stats);
            use nodetap_proxy::sink::Sink as _;
            TargetSink { recorder: hands.recorder.clone(), target, stats }.lost("cut", number, 0);
        }
    }

    /// When to look again though nobody tells anything.
    pub(super) fn next_due(&self, now: Instant, millis: Millis) -> Option<Instant> {
        let wake = self.plan.as_ref().and_then(|plan| plan.wake);
        let wake = wake.map(|at| now + Duration::from_millis(at.saturating_sub(millis)));
        let own = if self.config().is_none() && self.held.is_none() {
            None
        } else if !matches!(self.observed.place, Place::Found(_)) {
            // Soon while it is being made, later when it takes its time.
            Some(now + if self.misses < SOON { LOOK_AGAIN } else { LOOK_LATER })
        } else {
            let waits = |held: &Held| {
                let held = held.observe();
                // What is not asked for any more drains.
                let reverses = self.config().is_none_or(|config| config.proxy_type.reverses());
                let drains = held.listeners.values().any(|open| open.retired.is_some());
                drains || reverses && !held.listeners.keys().any(|one| matches!(one, Listener::Reverse { .. }))
            };
            let held = self.held.as_ref();
            Some(
                now + match held {
                    Some(held) if waits(held) => WATCH,
                    Some(held) if held.awaits_idle() => IDLE_SOON,
                    _ => CARE,
                },
            )
        };
        [wake, own].into_iter().flatten().min()
    }
}

fn key(api: &pods::Pod) -> Option<PodUid> {
    PodUid::of(&api.uid, |name| api.annotations.get(name).map(String::as_str))
}
