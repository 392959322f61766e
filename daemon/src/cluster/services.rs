//! Which ports of pods Services send to, for pods whose manifest does not name their ports. Every node that needs this
//! follows all Services, so it is asked for only once there is such a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service as Object, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Api, Client};
use nodetap_core::mesh::snapshot::Target;
use tokio::sync::watch;

use super::follow::{Change, Subject, follow};
use super::health::{Call, Health};

/// Ports of one Service that are kept.
const PORTS: usize = 64;

/// A Service, as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// Labels of the pods that it sends to.
    pub selector: BTreeMap<String, String>,
    /// Where it sends there, of TCP.
    pub targets: Vec<Target>,
}

impl Service {
    /// Does it send to pods with these labels?
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// Follows all Services that select pods, from when they are wanted. Ends when nobody listens.
pub async fn follow_all(
    client: Client,
    mut wanted: watch::Receiver<bool>,
    health: Health,
    tell: impl AsyncFnMut(Change<Service>) -> bool,
) {
    if wanted.wait_for(|wanted| *wanted).await.is_ok() {
        let subject = Subject { api: Api::<Object>::all(client), call: Call::Services, fields: None, labels: None };
        follow(subject, health, keep, tell).await;
    }
}

/// The TCP ones of a Service's ports.
pub fn tcp(ports: Option<Vec<ServicePort>>) -> impl Iterator<Item = ServicePort> {
    let is_tcp = |port: &ServicePort| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    ports.unwrap_or_default().into_iter().filter(is_tcp)
}

/// Where a Service's port leads in a pod.
pub fn target(port: &ServicePort) -> Option<Target> {
    let number = match &port.target_port {
        Some(IntOrString::String(name)) => return Some(Target::Name(name.clone())),
        Some(IntOrString::Int(number)) => *number,
        None => port.port,
    };
    u16::try_from(number).ok().map(Target::Number)
}

fn keep(object: Object) -> Option<Service> {
    let spec = object.spec.unwrap_or_default();
    Some(Service {
        namespace: object.metadata.namespace?,
        name: object.metadata.name?,
        // A Service without one is told of all the same: it may have had one before.
        selector: spec.selector.unwrap_or_default(),
        targets: tcp(spec.ports).take(PORTS).filter_map(|port| target(&port)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_cut_down_to_whom_it_sends_to_and_where() {
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [
                {"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8081}, {"port": 82},
                {"port": 53, "protocol": "UDP"},
            ]},
        });
        let service = keep(serde_json::from_value(object).unwrap()).unwrap();
        assert_eq!(service.targets, [Target::Name("http".into()), Target::Number(8081), Target::Number(82)]);
        let labels = |text: &str| BTreeMap::from([("app".to_owned(), text.to_owned()), ("tier".into(), "x".into())]);
        assert!(service.selects(&labels("web")) && !service.selects(&labels("db")));
    }
}
