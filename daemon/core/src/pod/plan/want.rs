//! What should be held of a pod, now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Wanted;
use crate::pod::application::Application;
use crate::pod::config::Config;
use crate::pod::decision::{captured, is_captured};
use crate::pod::facts::Pod;
use crate::pod::observed::{Held, Listener, Namespace, Observed, Place, Steering};
use crate::pod::ports;
use crate::pod::refusal::Refusal;
use crate::pod::state::Off;
use crate::pod::value::MOST_PORTS;
use crate::pod::wish::Wish;

/// What should be.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    Nothing(Off),
    Refused(Vec<Refusal>),
    /// It cannot be told yet: what is held stays.
    Wait(String),
    Want(Box<Want<'a>>),
}

/// What should be held.
#[derive(Debug)]
pub(super) struct Want<'a> {
    pub(super) pod: &'a Pod,
    pub(super) config: &'a Config,
    pub(super) namespace: Namespace,
    /// With the application's port behind it, and the addresses.
    pub(super) listeners: BTreeMap<Listener, (Option<u16>, BTreeSet<IpAddr>)>,
    /// Control groups by the container's id.
    pub(super) attach: BTreeMap<&'a str, &'a str>,
    pub(super) steering: Steering,
    pub(super) application: Application,
}

impl<'a> Outcome<'a> {
    pub(super) fn of(wanted: Option<&'a Wanted>, observed: &'a Observed) -> Self {
        let Some(Wanted { pod, decision, paused }) = wanted else { return Self::Nothing(Off::Ended) };
        let config = match &decision.wish {
            _ if pod.ended => return Self::Nothing(Off::Ended),
            Wish::NotAsked => return Self::Nothing(Off::NotAsked),
            Wish::Refused(refusals) => return Self::Refused(refusals.clone()),
            Wish::Capture(_) if *paused => return Self::Nothing(Off::Paused),
            Wish::Capture(config) => config,
        };
        if pod.addresses.is_empty() {
            return Self::Wait("the pod has no address yet".into());
        }
        let namespace = match &observed.place {
            Place::Found(namespace) => *namespace,
            Place::Missing(why) => return Self::Wait(format!("its network was not found: {why}")),
            Place::Unknown => return Self::Wait("its network is not known yet".into()),
            Place::Gone => return Self::Wait("its network is gone, and a new one is awaited".into()),
        };
        let held = observed.held.as_ref().filter(|held| held.namespace == namespace.id);
        let mut application = Application::of(pod, config, observed);
        stay(&mut application, config, held);
        let explicit = match ports::listeners(config, &application.ports, held, &observed.listening) {
            Ok(explicit) => explicit,
            Err(refusal) => return Self::Refused(vec![refusal]),
        };
        let mut listeners: BTreeMap<Listener, (Option<u16>, BTreeSet<IpAddr>)> = explicit
            .into_iter()
            .map(|(listener, app)| (listener, (app, addresses(listener, pod, namespace))))
            .collect();
        let steers = config.proxy_type.steers();
        if steers {
            listeners.insert(Listener::Steered, (None, BTreeSet::new()));
        }
        // Where all of a direction is left alone, the hooks are told so, and count it.
        let steering = Steering { inbound: steers, outbound: steers };
        let attach = attach(pod, config, observed);
        Self::Want(Box::new(Want { pod, config, namespace, listeners, attach, steering, application }))
    }
}

/// While an application restarts, its ports stay: all of them while nothing listens, and else those that are named.
fn stay(application: &mut Application, config: &Config, held: Option<&Held>) {
    if config.ports.is_some() || !config.proxy_type.reverses() {
        return;
    }
    let open = held.into_iter().flat_map(|held| held.listeners.values()).filter(|open| open.retired.is_none());
    for app in open.filter_map(|open| open.app) {
        let known = !application.listens || application.named.contains(&app);
        let more = !application.ports.contains(&app) && application.ports.len() < MOST_PORTS;
        if known && more && !config.inbound.ports.contains(&app) {
            application.ports.push(app);
        }
    }
    application.ports.sort_unstable();
}

/// Where a listener is bound: the proxy of the application on loopback only; what stands for the application's port
/// where the application itself is reached, which under a mesh is loopback only.
fn addresses(listener: Listener, pod: &Pod, namespace: Namespace) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::from([IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    if namespace.ipv6 {
        addresses.insert(Ipv6Addr::LOCALHOST.into());
    }
    if matches!(listener, Listener::Reverse { .. }) && !pod.is_meshed() {
        addresses.extend(pod.addresses.iter().filter(|address| address.is_ipv4() || namespace.ipv6));
    }
    addresses
}

/// The control groups of captured containers. One that nobody can name yet (it was just made, and the API server does not
/// know of it) belongs to a container that is captured when all of the pod's are.
fn attach<'a>(pod: &'a Pod, config: &Config, observed: &'a Observed) -> BTreeMap<&'a str, &'a str> {
    let all = pod.containers.iter().all(|container| is_captured(container, config));
    let is_wanted = |id: &str| match pod.containers.iter().find(|container| container.id.as_deref() == Some(id)) {
        Some(container) => is_captured(container, config),
        None => all,
    };
    let groups = observed.cgroups.iter().filter(|(id, _)| is_wanted(id));
    groups.map(|(id, path)| (id.as_str(), path.as_str())).collect()
}

impl Want<'_> {
    /// Names of the containers whose control groups are attached.
    pub(super) fn captured(&self, held: &Held) -> BTreeSet<String> {
        let attached = |id: &str| held.attached.contains(id);
        let containers = captured(self.pod, self.config);
        containers.filter(|one| one.id.as_deref().is_some_and(attached)).map(|one| one.name.clone()).collect()
    }

    /// What a user calls a container that has this id.
    pub(super) fn container<'b>(&'b self, id: &'b str) -> &'b str {
        let of = self.pod.containers.iter().find(|one| one.id.as_deref() == Some(id));
        of.map_or(id, |container| container.name.as_str())
    }
}
