//! What is known of the cluster, cut down to what is decided by. Adapters fill it in from watches; the order of what is in
//! it means nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::protocol::Protocol;
use super::routes::VirtualService;
use super::sidecar::Sidecar;

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    pub settings: Settings,
    pub pods: Vec<Pod>,
    pub services: Vec<Service>,
    /// Ours and those of others.
    pub sidecars: Vec<Sidecar>,
    pub virtual_services: Vec<VirtualService>,
    /// merbridge redirects connections of this cluster.
    pub merbridge: bool,
}

/// What whoever runs us has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Istio's root namespace: a Sidecar there without a selector holds for all who have none.
    pub root_namespace: String,
    /// Hosts that captured pods reach besides what they reach today, as Sidecars write them (`tools/*`).
    pub egress_hosts: BTreeSet<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { root_namespace: "istio-system".into(), egress_hosts: BTreeSet::new() }
    }
}

/// What a pod belongs to: what its owner names, or the pod itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Workload {
    /// `Deployment`.
    pub kind: String,
    pub name: String,
}

/// Which pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PodKey {
    pub namespace: String,
    pub name: String,
    /// The name may go to another pod.
    pub uid: String,
}

/// A pod that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    pub key: PodKey,
    pub workload: Workload,
    pub labels: BTreeMap<String, String>,
    /// Labels by which Istio knows it besides its own: of its node.
    pub node_labels: BTreeMap<String, String>,
    /// Those of Istio.
    pub annotations: BTreeMap<String, String>,
    pub mesh: Mesh,
    /// Who Istio's proxy runs as, where the manifest says it.
    pub proxy_user: Option<u64>,
    /// The revision of Istio that it was injected by, where that is known.
    pub revision: Option<String>,
    pub addresses: BTreeSet<IpAddr>,
    /// TCP ports of its containers that have a name.
    pub named_ports: BTreeMap<String, u16>,
    pub ready: bool,
    /// Its agent says that something of it is captured, in whatever way.
    pub captured: bool,
    /// What its agent says, as long as that can be believed.
    pub capture: Capture,
}

/// How a pod is in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mesh {
    #[default]
    None,
    /// Istio's proxy is in the pod; `native`: as an init container that stays.
    Sidecar { native: bool },
    /// Its node's ztunnel carries its traffic.
    Ambient,
    /// It is itself a gateway.
    Gateway,
}

/// What becomes of the pod's inbound traffic on our side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Capture {
    /// It does not ask for listeners of ours inbound, or has none yet.
    #[default]
    None,
    /// Ports of the application, with the listeners that answer for them.
    Verified(BTreeMap<u16, Endpoint>),
    /// The agent said so once, and cannot be believed now: why.
    Stale(String),
}

/// A listener of ours in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub port: u16,
    /// It answers on `127.0.0.1`.
    pub v4: bool,
    /// It answers on `::1`.
    pub v6: bool,
}

/// What selects pods and gives their ports a protocol: a Service, or a ServiceEntry with a selector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// Seconds since 1970; the oldest one's word holds.
    pub created: i64,
    /// Selects nobody when it is empty.
    pub selector: BTreeMap<String, String>,
    /// TCP only.
    pub ports: Vec<ServicePort>,
}

/// A port of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub protocol: Protocol,
    pub target: Target,
}

/// Where its traffic arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Number(u16),
    /// A port of a container, by its name.
    Name(String),
}

impl Pod {
    /// A label by which Istio selects it. Ours is none of them: what it has today must not depend on what we do.
    pub fn label(&self, key: &str) -> Option<&str> {
        let own = self.labels.get(key).or_else(|| self.node_labels.get(key));
        own.filter(|_| key != super::names::LABEL).map(String::as_str)
    }

    /// Has it no IPv4 address?
    pub fn is_ipv6_only(&self) -> bool {
        !self.addresses.is_empty() && self.addresses.iter().all(|address| address.to_canonical().is_ipv6())
    }
}
