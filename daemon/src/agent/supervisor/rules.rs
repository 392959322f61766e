//! What a pod's configuration comes to on this node: addresses for what was said in words, and what is left alone without
//! anybody having said so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nodetap_core::exchange::{Target, TargetKind};
use nodetap_core::mesh::snapshot::Target as Port;
use nodetap_core::pod::config::{Config, Ignore as Said};

use super::names::Names;
use crate::agent::explicit::Tls;
use crate::agent::held::Rules;
use crate::agent::left_alone::LeftAlone;
use crate::capture::Ignore;
use crate::cluster::pods;
use crate::cluster::services::Service;
use crate::netlink::routes::Prefix;
use crate::netns::Netns;

/// How long the node's addresses are taken for known.
const NODE_AGE: Duration = Duration::from_secs(60);

/// Labels that records carry whether they were chosen or not: those that pods are commonly told apart by, so that
/// `nodetap ls -l app=web` finds something.
const COMMON: [&str; 4] =
    ["app", "app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/instance"];

/// What the node knows beside the pod.
#[derive(Debug)]
pub(super) struct Surroundings {
    node: String,
    /// The node's own network namespace.
    host: Option<Netns>,
    addresses: (Option<Instant>, BTreeSet<IpAddr>),
    pub names: Names,
}

impl Surroundings {
    pub(super) fn new(node: String, proc: &std::path::Path, names: Names) -> Self {
        let host = Netns::open(proc.join("1/ns/net"));
        if let Err(error) = &host {
            tracing::warn!(%error, "the node's addresses are not known: what its kubelet asks is captured");
        }
        Self { node, host: host.ok(), addresses: Default::default(), names }
    }

    /// Who the pod is called in records.
    pub(super) fn target(&self, pod: &pods::Pod, config: Option<&Config>) -> Arc<Target> {
        let chosen = |key: &str| config.is_some_and(|config| config.record_labels.contains(key));
        let labels = pod.labels.iter().filter(|(key, _)| COMMON.contains(&key.as_str()) || chosen(key));
        Arc::new(Target {
            kind: TargetKind::Pod,
            name: pod.name.clone(),
            namespace: Some(pod.namespace.clone()),
            workload: pod.owner.as_deref().map(|owner| workload(owner, &pod.labels)),
            node: Some(self.node.clone()),
            labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        })
    }

    /// The rules of a configuration. `ports`: those of the application that are captured; `all`: where it listens.
    pub(super) fn rules(
        &mut self,
        pod: &pods::Pod,
        config: &Config,
        tls: Tls,
        ports: &[u16],
        all: &BTreeSet<u16>,
    ) -> Rules {
        let mut inbound = self.ignore(&config.inbound);
        if !config.capture_node_traffic {
            inbound.prefixes.extend(self.node_addresses().into_iter().map(|address| Prefix::new(address, 128)));
        }
        if config.ports.is_some() {
            // Only what was said is steered.
            inbound.ports.extend(all.iter().filter(|port| !ports.contains(port)));
        }
        let mut outbound = self.ignore(&config.outbound);
        if config.ignore_loopback {
            let own: BTreeSet<Prefix> = from_inside(&pod.ips);
            // Under a mesh everybody comes from loopback: the mesh's proxy stands there.
            if !pod.mesh {
                inbound.prefixes.extend(&own);
            }
            outbound.prefixes.extend(own);
        }
        if config.tls_out && !config.kube_api {
            let server = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse::<IpAddr>().ok());
            outbound.prefixes.extend(server.map(|address| Prefix::new(address, 128)));
        }
        let alone = LeftAlone { inbound, outbound, loopback: config.track_loopback };
        Rules { target: self.target(pod, Some(config)), tls, alone }
    }

    fn ignore(&mut self, said: &Said) -> Ignore {
        let networks = said.networks.iter().map(|network| Prefix::new(network.address(), network.length()));
        let mut prefixes: BTreeSet<Prefix> = networks.collect();
        prefixes.extend(said.all.then_some(Prefix::ALL));
        for name in &said.hosts {
            prefixes.extend(self.names.meaning(name).into_iter().map(|address| Prefix::new(address, 128)));
        }
        Ignore { prefixes, ports: said.ports.clone() }
    }

    /// What the kubelet's probes come from.
    fn node_addresses(&mut self) -> BTreeSet<IpAddr> {
        let (at, addresses) = &mut self.addresses;
        if at.is_none_or(|at| at.elapsed() >= NODE_AGE)
            && let Some(host) = &self.host
        {
            match host.addresses() {
                Ok(found) => *addresses = found.into_iter().collect(),
                Err(error) => tracing::debug!(%error, "cannot read the node's addresses"),
            }
            *at = Some(Instant::now());
        }
        addresses.clone()
    }
}

/// Addresses of whoever is in the pod itself.
fn from_inside(ips: &[IpAddr]) -> BTreeSet<Prefix> {
    let loopback = [Prefix::new([127, 0, 0, 0].into(), 8), Prefix::new(Ipv6Addr::LOCALHOST.into(), 128)];
    loopback.into_iter().chain(ips.iter().map(|ip| Prefix::new(*ip, 128))).collect()
}

/// What a user calls a pod's owner: the Deployment of a ReplicaSet, told by the hash that both carry.
fn workload(owner: &str, labels: &BTreeMap<String, String>) -> String {
    let (kind, name) = owner.split_once('/').unwrap_or((owner, ""));
    nodetap_core::pod::resolved::workload(kind, name, labels)
}

/// Ports of a pod that Services of its namespace send to.
pub(super) fn service_ports<'a>(pod: &pods::Pod, services: impl Iterator<Item = &'a Service>) -> BTreeSet<u16> {
    let selects = |service: &&Service| !service.selector.is_empty() && service.selects(&pod.labels);
    let named = |name: &str| pod.containers.iter().find_map(|container| container.port_names.get(name)).copied();
    let port = |target: &Port| match target {
        Port::Number(number) => Some(*number),
        Port::Name(name) => named(name),
    };
    services.filter(selects).flat_map(|service| &service.targets).filter_map(port).collect()
}
