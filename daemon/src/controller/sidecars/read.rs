//! From the cluster's objects to the values that are decided by.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service as ServiceObject;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use nodetap_core::mesh::protocol::Protocol;
use nodetap_core::mesh::routes::VirtualService;
use nodetap_core::mesh::sidecar::{Sidecar, Spec};
use nodetap_core::mesh::snapshot::{Capture, Endpoint, Mesh, Pod, PodKey, Service, ServicePort, Workload};
use nodetap_core::pod::condition;
use serde_json::Value;

use super::known::Stands;
use super::objects::{ContainerSpec, NodeObject, NodeStatus, PodObject, beginning, is_true};
use crate::cluster::services;

/// The container of Istio's proxy.
const PROXY: &str = "istio-proxy";
/// Annotations of Istio's that are kept.
const ISTIO: [&str; 3] = ["traffic.sidecar.istio.io/", "sidecar.istio.io/interceptionMode", "sidecar.istio.io/status"];
/// Labels of a gateway.
const GATEWAY: [&str; 2] = ["gateway.networking.k8s.io/gateway-name", "istio.io/gateway-name"];

/// A pod, and its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) pod: Pod,
    pub(super) node: String,
}

/// Of a pod that ends or has ended, little more than its name: what was known of it before has to go.
pub(super) fn pod(object: PodObject) -> Option<Placed> {
    let PodObject { metadata, spec, status } = object;
    let workload = workload(&metadata)?;
    let labels = metadata.labels.unwrap_or_default();
    let ambient = "ambient.istio.io/redirection";
    let is_ambient = metadata.annotations.as_ref().and_then(|all| all.get(ambient)).is_some_and(|it| it == "enabled");
    let mut annotations = beginning(metadata.annotations, &ISTIO);
    let injected = annotations.remove("sidecar.istio.io/status");
    let native = |one: &&ContainerSpec| one.restart_policy.as_deref() == Some("Always");
    let own = spec.containers.iter().find(|one| one.name == PROXY);
    let stays = spec.init_containers.iter().filter(native).find(|one| one.name == PROXY);
    let proxy = own.or(stays);
    let routes = proxy.is_some_and(|one| one.args.iter().any(|word| word == "router"));
    let mesh = if routes || GATEWAY.iter().any(|label| labels.contains_key(*label)) {
        Mesh::Gateway
    } else if proxy.is_some() {
        Mesh::Sidecar { native: stays.is_some() }
    } else if is_ambient {
        Mesh::Ambient
    } else {
        Mesh::None
    };
    let is_over = matches!(status.phase.as_str(), "Succeeded" | "Failed") || metadata.deletion_timestamp.is_some();
    let key = PodKey { namespace: metadata.namespace?, name: metadata.name?, uid: metadata.uid? };
    if is_over {
        return Some(Placed { pod: Pod { key, workload, ..Pod::default() }, node: String::new() });
    }
    let tcp = |one: &&super::objects::PortSpec| one.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let ports = spec.containers.iter().chain(&spec.init_containers).flat_map(|one| &one.ports).filter(tcp);
    let ours = status.conditions.iter().find(|one| one.r#type == condition::TYPE && one.status == "True");
    let pod = Pod {
        key,
        workload,
        node_labels: BTreeMap::from([("kubernetes.io/hostname".to_owned(), spec.node_name.clone())]),
        labels,
        annotations,
        mesh,
        proxy_user: proxy.and_then(|one| one.security_context.run_as_user),
        revision: injected.as_deref().and_then(revision),
        addresses: status.pod_ips.iter().filter_map(|one| one.ip.parse().ok()).collect(),
        named_ports: ports
            .filter(|one| !one.name.is_empty())
            .map(|one| (one.name.clone(), one.container_port))
            .collect(),
        ready: is_true(&status.conditions, "Ready"),
        captured: ours.is_some(),
        capture: ours.map_or(Capture::None, |ours| capture(&ours.message)),
    };
    Some(Placed { pod, node: spec.node_name })
}

/// What injection says of itself.
fn revision(status: &str) -> Option<String> {
    let status: Value = serde_json::from_str(status).ok()?;
    Some(status["revision"].as_str()?.to_owned())
}

fn capture(message: &str) -> Capture {
    let verified: BTreeMap<u16, Endpoint> = condition::inbound(message)
        .into_iter()
        .map(|(app, (port, on))| {
            let on = |address: &str| on.iter().any(|one| one.to_string() == address);
            (app, Endpoint { port, v4: on("127.0.0.1"), v6: on("::1") })
        })
        .filter(|(_, endpoint)| endpoint.v4)
        .collect();
    if verified.is_empty() { Capture::None } else { Capture::Verified(verified) }
}

/// What the pod belongs to. A Deployment's name is that of its ReplicaSet without the hash.
fn workload(metadata: &ObjectMeta) -> Option<Workload> {
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let Some(owner) = owner else {
        return Some(Workload { kind: "Pod".into(), name: metadata.name.clone()? });
    };
    let hash = metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash"));
    let of = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
    match of.filter(|_| owner.kind == "ReplicaSet") {
        Some(name) => Some(Workload { kind: "Deployment".into(), name: name.to_owned() }),
        None => Some(Workload { kind: owner.kind.clone(), name: owner.name.clone() }),
    }
}

/// A Service that sends traffic to pods.
pub(super) fn service(object: ServiceObject) -> Option<Service> {
    let spec = object.spec.unwrap_or_default();
    // Without a selector it sends nothing, and what was known of it before has to go.
    let selector = spec.selector.filter(|_| spec.type_.as_deref() != Some("ExternalName")).unwrap_or_default();
    let ports = services::tcp(spec.ports).filter_map(|one| {
        let number = u16::try_from(one.port).ok()?;
        Some(ServicePort {
            protocol: Protocol::of(number, one.name.as_deref().unwrap_or_default(), one.app_protocol.as_deref()),
            target: services::target(&one)?,
        })
    });
    Some(Service {
        ports: ports.collect(),
        created: created(&object.metadata),
        namespace: object.metadata.namespace?,
        name: object.metadata.name?,
        selector,
    })
}

/// A Sidecar, of anybody's.
pub(super) fn sidecar(metadata: ObjectMeta, spec: &Value) -> Option<Sidecar> {
    let (read, unreadable) = match Spec::read(spec) {
        Ok(read) => (read, None),
        Err(why) => (Spec::default(), Some(why.to_string())),
    };
    Some(Sidecar {
        created: created(&metadata),
        namespace: metadata.namespace?,
        name: metadata.name?,
        uid: metadata.uid?,
        resource_version: metadata.resource_version?,
        labels: metadata.labels.unwrap_or_default(),
        annotations: beginning(metadata.annotations, &["nodetap.io/"]),
        spec: read,
        unreadable,
    })
}

/// A VirtualService: what it names, and where it leads.
pub(super) fn virtual_service(metadata: ObjectMeta, spec: &Value) -> Option<VirtualService> {
    Some(VirtualService::read(metadata.namespace?, metadata.name?, spec))
}

/// A node by its name. One of which nobody says that it is not ready is.
pub(super) fn node(object: NodeObject) -> Option<(String, Stands)> {
    let NodeStatus { conditions, node_info } = object.status;
    let is_said = conditions.iter().any(|one| one.r#type == "Ready");
    let ready = !is_said || is_true(&conditions, "Ready");
    Some((object.metadata.name?, Stands { ready, boot: node_info.boot_id }))
}

fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}
