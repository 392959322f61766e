//! The pods of one node, cut down to what the agent goes by. Whole pods hold ten times as much: most of it is never
//! read from the answer.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use nodetap_core::mesh::names::LABEL;
use nodetap_core::pod::facts;
use serde::{Deserialize, Serialize};

use super::follow::{Change, Subject, follow};
use super::health::{Call, Health};

/// Annotations that are kept: those that say something to us, and the name of a static pod's control group.
const OURS: [&str; 3] = ["nodetap.io/", "sidecar.speedscale.com/", "kubernetes.io/config.hash"];
/// Labels of a pod that are kept, at most: they go into records.
const LABELS: usize = 64;
/// Addresses of a pod: one of each family, and some to spare.
const ADDRESSES: usize = 4;

/// A pod, as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pod {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// Only annotations under our prefixes.
    pub annotations: BTreeMap<String, String>,
    /// There is an annotation that says so of a sidecar proxy of Istio's.
    pub mesh: bool,
    /// It has the label by which our Sidecar selects it.
    pub redirected: bool,
    pub labels: BTreeMap<String, String>,
    /// Its controller, as `Kind/name`.
    pub owner: Option<String>,
    pub ips: Vec<std::net::IpAddr>,
    pub node: Option<String>,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    pub host_network: bool,
    pub runtime_class: Option<String>,
    /// It is to end.
    pub deleting: bool,
    pub containers: Vec<Container>,
    /// Our condition, as it stands.
    pub condition: Option<Condition>,
}

impl Pod {
    /// As decisions are made of it. `service_ports`: those that Services send it.
    pub fn facts(&self, service_ports: BTreeSet<u16>) -> facts::Pod {
        let kind = |kind| match kind {
            Kind::App => facts::Kind::App,
            Kind::Init => facts::Kind::Init,
            Kind::Sidecar => facts::Kind::Sidecar,
            Kind::Ephemeral => facts::Kind::Ephemeral,
        };
        let container = |container: &Container| facts::Container {
            name: container.name.clone(),
            kind: kind(container.kind),
            image: container.image.clone(),
            id: container.id.clone(),
            ports: container.ports.iter().copied().collect(),
        };
        facts::Pod {
            uid: self.uid.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            annotations: self.annotations.clone(),
            host_network: self.host_network,
            runtime_class: self.runtime_class.clone(),
            addresses: self.ips.iter().copied().collect(),
            ended: matches!(self.phase.as_str(), "Succeeded" | "Failed"),
            mesh: self.mesh,
            redirected: self.redirected,
            containers: self.containers.iter().map(container).collect(),
            service_ports,
        }
    }
}

/// How a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    App,
    /// Runs before the others, and ends.
    Init,
    /// An init container that stays (`restartPolicy: Always`).
    Sidecar,
    Ephemeral,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    pub kind: Kind,
    /// Without the runtime's prefix; none before it was made.
    pub id: Option<String>,
    pub running: bool,
    pub image: Option<String>,
    /// TCP ports that the manifest names.
    pub ports: Vec<u16>,
    /// What they are called there, where they are.
    pub port_names: BTreeMap<String, u16>,
}

/// What our condition said when we last saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub status: String,
    pub reason: String,
    pub message: String,
    pub since: Option<String>,
}

/// Does this annotation say something to us?
pub(super) fn is_ours(key: &str) -> bool {
    OURS.iter().any(|prefix| key.starts_with(prefix))
}

/// Follows the pods of a node. Ends when nobody listens.
pub async fn follow_node(client: Client, node: &str, health: Health, tell: impl AsyncFnMut(Change<Box<Pod>>) -> bool) {
    let fields = Some(format!("spec.nodeName={node}"));
    let subject = Subject { api: Api::<Object>::all(client), call: Call::Pods, fields, labels: None };
    follow(subject, health, |object| Pod::try_from(object).ok().map(Box::new), tell).await;
}

/// What is read of a pod in an answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Object {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

impl k8s_openapi::Resource for Object {
    const API_VERSION: &'static str = "v1";
    const GROUP: &'static str = "";
    const KIND: &'static str = "Pod";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "pods";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl k8s_openapi::Metadata for Object {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    host_network: bool,
    runtime_class_name: Option<String>,
    containers: Vec<ContainerSpec>,
    init_containers: Vec<ContainerSpec>,
    ephemeral_containers: Vec<ContainerSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerSpec {
    name: String,
    image: Option<String>,
    restart_policy: Option<String>,
    ports: Vec<PortSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PortSpec {
    container_port: u16,
    protocol: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<Ip>,
    conditions: Vec<ConditionStatus>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Ip {
    ip: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConditionStatus {
    r#type: String,
    status: String,
    reason: String,
    message: String,
    last_transition_time: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    state: ContainerState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    running: Option<serde::de::IgnoredAny>,
}

/// An object without the names that every object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nameless;

impl TryFrom<Object> for Pod {
    type Error = Nameless;

    fn try_from(Object { metadata, spec, status }: Object) -> Result<Self, Nameless> {
        let ObjectMeta { uid, namespace, name, annotations, labels, owner_references, deletion_timestamp, .. } =
            metadata;
        let mut annotations = annotations.unwrap_or_default();
        let mesh = annotations.contains_key("sidecar.istio.io/status");
        annotations.retain(|key, _| is_ours(key));
        let owner = owner_references.into_iter().flatten().find(|owner| owner.controller == Some(true));
        let containers = [
            (&spec.containers, &status.container_statuses, Kind::App),
            (&spec.init_containers, &status.init_container_statuses, Kind::Init),
            (&spec.ephemeral_containers, &status.ephemeral_container_statuses, Kind::Ephemeral),
        ];
        let containers = containers.into_iter().flat_map(|(specs, statuses, kind)| {
            specs.iter().map(move |spec| container(spec, statuses.iter().find(|status| status.name == spec.name), kind))
        });
        let ips = status.pod_ips.iter().map(|ip| ip.ip.as_str()).chain(status.pod_ip.as_deref());
        // A server that is older than dual stack says only the one; the others say it twice.
        let mut parsed: Vec<std::net::IpAddr> = Vec::new();
        for ip in ips.filter_map(|ip| ip.parse().ok()) {
            if !parsed.contains(&ip) && parsed.len() < ADDRESSES {
                parsed.push(ip);
            }
        }
        let ours = status.conditions.iter().find(|condition| condition.r#type == nodetap_core::pod::condition::TYPE);
        Ok(Self {
            uid: uid.ok_or(Nameless)?,
            namespace: namespace.ok_or(Nameless)?,
            name: name.ok_or(Nameless)?,
            annotations,
            mesh,
            redirected: labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL)),
            labels: labels.unwrap_or_default().into_iter().take(LABELS).collect(),
            owner: owner.map(|owner| format!("{}/{}", owner.kind, owner.name)),
            ips: parsed,
            containers: containers.collect(),
            node: spec.node_name,
            phase: status.phase,
            host_network: spec.host_network,
            runtime_class: spec.runtime_class_name,
            deleting: deletion_timestamp.is_some(),
            condition: ours.map(|condition| Condition {
                status: condition.status.clone(),
                reason: condition.reason.clone(),
                message: condition.message.clone(),
                since: condition.last_transition_time.clone(),
            }),
        })
    }
}

fn container(spec: &ContainerSpec, status: Option<&ContainerStatus>, kind: Kind) -> Container {
    let id = status.and_then(|status| status.container_id.as_deref());
    let stays = kind == Kind::Init && spec.restart_policy.as_deref() == Some("Always");
    let tcp = spec.ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    Container {
        name: spec.name.clone(),
        kind: if stays { Kind::Sidecar } else { kind },
        // `containerd://4f2a…`
        id: id.map(|id| id.split_once("://").map_or(id, |(_, id)| id).to_owned()),
        running: status.is_some_and(|status| status.state.running.is_some()),
        image: spec.image.clone(),
        ports: tcp.clone().map(|port| port.container_port).collect(),
        port_names: tcp.filter_map(|port| Some((port.name.clone()?, port.container_port))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_cut_down_to_what_matters() {
        let json = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "uid": "u1", "namespace": "shop", "name": "web-1", "labels": {"app": "web"},
                "annotations": {"nodetap.io/capture": "true", "other": "x", "sidecar.istio.io/status": "{}",
                                "sidecar.speedscale.com/inject": "true"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true}],
            },
            "spec": {
                "nodeName": "n1", "hostUsers": false,
                "containers": [{"name": "app", "image": "x", "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}]}],
                "initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}, {"name": "setup"}],
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}, {"ip": "fd00::9"}],
                "conditions": [{"type": "Ready", "status": "True"},
                               {"type": "nodetap.io/Capturing", "status": "True", "reason": "Verified", "message": "{}",
                                "lastTransitionTime": "2026-11-28T09:00:00Z"}],
                "containerStatuses": [{"name": "app", "containerID": "containerd://abc", "state": {"running": {"startedAt": "x"}}}],
            },
        });
        let pod = Pod::try_from(serde_json::from_value::<Object>(json).unwrap()).unwrap();
        assert_eq!((pod.uid.as_str(), pod.owner.as_deref(), pod.mesh), ("u1", Some("ReplicaSet/web"), true));
        assert_eq!(pod.annotations.keys().collect::<Vec<_>>(), ["nodetap.io/capture", "sidecar.speedscale.com/inject"]);
        assert_eq!(pod.ips, ["10.0.0.9", "fd00::9"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap()));
        let containers: Vec<_> =
            pod.containers.iter().map(|c| (c.name.as_str(), c.kind, c.id.as_deref(), c.running)).collect();
        let expected = [
            ("app", Kind::App, Some("abc"), true),
            ("istio-proxy", Kind::Sidecar, None, false),
            ("setup", Kind::Init, None, false),
        ];
        assert_eq!(containers, expected);
        assert_eq!(pod.containers[0].ports, [8080]);
        assert_eq!(pod.containers[0].port_names, BTreeMap::from([("http".to_owned(), 8080)]));
        assert_eq!(pod.condition.unwrap().reason, "Verified");
    }
}
