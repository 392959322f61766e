//! What the supervisor hears: it is noted, and which pods it concerns; nothing is done about it here.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nodetap_core::pod::config::Config;
use nodetap_core::pod::decision::Decision;
use nodetap_core::pod::plan::Wanted;
use nodetap_core::pod::wish::Wish;

use super::names::{self, Meaning};
use super::pod::Pod;
use super::rules;
use super::{Event, Node, SERVICES, STRANGERS, Supervisor};
use crate::agent::wire::Message;
use crate::agent::worker::{NODE, PODS};
use crate::cluster::condition::PodName;
use crate::cluster::namespaces::Namespace;
use crate::cluster::services::Service;
use crate::cluster::{Change, pods};
use crate::kubepods::{self, Container};

impl Supervisor {
    pub(super) fn take_in(&mut self, event: Event) {
        match event {
            // What is paused is not captured, not even for a moment.
            Event::Pods(change) if self.paused.is_none() => self.early.push(change),
            Event::Pods(change) => self.pods(change),
            Event::Namespaces(change) => self.namespaces(change),
            Event::Services(change) => self.services(change),
            Event::Paused(paused) => {
                self.memory.changed();
                self.pause(paused);
            }
            Event::Cgroup(kubepods::Event::Appeared(container)) => self.group_appeared(container),
            Event::Cgroup(kubepods::Event::Gone(container)) => self.group_gone(&container),
            Event::Secret(name, data) => {
                if self.keys.tell(name, data) {
                    // What is in force was made of what was known before.
                    self.pods
                        .values_mut()
                        .filter_map(|pod| pod.held.as_mut())
                        .for_each(crate::agent::held::Held::unset);
                    self.dirty.extend(self.pods.keys().cloned());
                }
            }
            Event::Name(name, meaning) => self.name(&name, meaning),
            Event::Keeper(message, fd) => self.keeper(message, fd),
            Event::KeeperGone => {
                tracing::warn!("the keeper is gone: nothing more is captured");
                self.leave_node(false);
                self.deadline = Some(Instant::now() + Duration::from_secs(2));
            }
            Event::Tick => {}
        }
    }

    fn name(&mut self, name: &str, meaning: Meaning) {
        if !self.surroundings.names.tell(name, meaning) {
            return;
        }
        for (uid, pod) in &mut self.pods {
            if pod.config().is_some_and(|config| names::names(config).any(|one| one == name)) {
                if let Some(held) = &mut pod.held {
                    held.unset();
                }
                self.dirty.insert(uid.clone());
            }
        }
    }

    fn pause(&mut self, paused: bool) {
        self.paused = Some(paused);
        self.view.pause(paused);
        std::mem::take(&mut self.early).into_iter().for_each(|change| self.pods(change));
        self.decide_all();
    }

    /// The API server has not answered for a while: what the agent before us knew is better than nothing.
    pub(super) fn remember(&mut self) {
        if self.listed && self.paused.is_some() || std::mem::replace(&mut self.reminded, true) {
            return;
        }
        let remembered = match self.memory.read() {
            Ok(remembered) => remembered,
            Err(error) => {
                tracing::info!(%error, "the API server is away, and nothing is known of the pods of this node");
                if self.paused.is_none() {
                    self.pause(false);
                }
                return;
            }
        };
        tracing::warn!(
            pods = remembered.pods.len(),
            "the API server is away: pods as they were last told are captured"
        );
        if !self.namespaces_listed {
            self.namespaces = remembered.namespaces;
        }
        if self.paused.is_none() {
            self.pause(remembered.paused);
        }
        if !self.listed {
            remembered.pods.into_iter().for_each(|pod| self.pod(pod));
        }
    }

    /// Writes down what the next agent needs to know when it cannot hear it.
    pub(super) fn write_down(&mut self) {
        let known = self.listed && self.namespaces_listed && self.node == Node::Ours && !self.dry_run;
        let (true, Some(paused)) = (known && self.memory.is_due(), self.paused) else { return };
        let pods: Vec<pods::Pod> =
            self.pods.values().filter(|pod| pod.config().is_some()).map(|pod| pod.api.clone()).collect();
        let spaces: BTreeSet<&str> = pods.iter().map(|pod| pod.namespace.as_str()).collect();
        let spaces = self.namespaces.iter().filter(|(name, _)| spaces.contains(name.as_str()));
        let spaces = spaces.map(|(name, annotations)| (name.clone(), annotations.clone())).collect();
        self.memory.write(paused, spaces, pods);
    }

    fn pods(&mut self, change: Change<Box<pods::Pod>>) {
        match change {
            Change::All(all) => self.all_pods(all),
            Change::Applied(pod) => self.pod(*pod),
            Change::Gone(pod) => self.pod_gone(&pod.uid),
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
        self.memory.changed();
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.wanted = None;
            self.dirty.insert(uid.to_owned());
        }
    }

    fn namespaces(&mut self, change: Change<Namespace>) {
        match change {
            Change::All(all) => {
                self.namespaces = all.into_iter().map(|one| (one.name, one.annotations)).collect();
                self.namespaces_listed = true;
                self.decide_all();
            }
            Change::Applied(Namespace { name, annotations }) => {
                if self.namespaces.get(&name) != Some(&annotations) {
                    self.namespaces.insert(name.clone(), annotations);
                    self.decide_in(&name);
                }
            }
            Change::Gone(Namespace { name, .. }) => drop(self.namespaces.remove(&name)),
        }
    }

    fn services(&mut self, change: Change<Service>) {
        let key = |service: &Service| (service.namespace.clone(), service.name.clone());
        match change {
            Change::All(all) => {
                self.services = all.into_iter().map(|one| (key(&one), one)).take(SERVICES).collect();
                self.decide_all();
            }
            Change::Applied(service) => {
                let (key, namespace) = (key(&service), service.namespace.clone());
                if self.services.contains_key(&key) || self.services.len() < SERVICES {
                    self.services.insert(key, service);
                }
                self.decide_in(&namespace);
            }
            Change::Gone(service) => {
                self.services.remove(&key(&service));
                self.decide_in(&service.namespace);
            }
        }
    }

    fn decide_in(&mut self, namespace: &str) {
        let there = self.pods.iter().filter(|(_, pod)| pod.api.namespace == namespace);
        let uids: Vec<String> = there.map(|(uid, _)| uid.clone()).collect();
        uids.iter().for_each(|uid| self.decide(uid));
    }

    fn decide_all(&mut self) {
        let uids: Vec<String> = self.pods.keys().cloned().collect();
        uids.iter().for_each(|uid| self.decide(uid));
    }

    /// What is wanted of a pod, by what the API server says.
    fn decide(&mut self, uid: &str) {
        let nothing = BTreeMap::new();
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let first = (pod.api.namespace.clone(), String::new());
        let around = self.services.range(first..).take_while(|((namespace, _), _)| *namespace == pod.api.namespace);
        let ports = rules::service_ports(&pod.api, around.map(|(_, service)| service));
        let facts = pod.api.facts(ports);
        let decision = Decision::of(&facts, self.namespaces.get(&pod.api.namespace).unwrap_or(&nothing));
        // Only there it makes a difference what Services say.
        let guesses = |config: &Config| config.proxy_type.reverses() && config.ports.is_none();
        if matches!(&decision.wish, Wish::Capture(config) if guesses(config)) {
            self.services_wanted.send_if_modified(|wanted| !std::mem::replace(wanted, true));
        }
        let wanted = Some(Wanted { pod: facts, decision, paused: self.paused.unwrap_or(false) });
        if pod.wanted != wanted {
            self.memory.changed();
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
                self.leave_node(true);
                self.tools.link.tell(&Message::Yielded);
            }
            (Message::Drain(seconds), _) => {
                self.leave_node(false);
                self.deadline.get_or_insert(Instant::now() + Duration::from_secs(seconds));
            }
            _ => {}
        }
    }
}

fn pod_name(api: &pods::Pod) -> PodName {
    PodName { namespace: api.namespace.clone(), name: api.name.clone(), uid: api.uid.clone() }
}
