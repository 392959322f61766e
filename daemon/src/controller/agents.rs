//! The agents, as pods of our namespace: one a node. While a DaemonSet is replaced a node has two of them, which read the
//! same records; then the one that stays is asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::cluster::follow::{Change, Subject, follow};
use crate::cluster::health::{Call, Health};

/// The label of an agent's pod.
pub(super) const LABEL: (&str, &str) = ("app.kubernetes.io/name", "nodetap-agent");
/// The name of the container's port that answers questions.
pub(super) const PORT_NAME: &str = "query";
/// Where it is when the pod does not say.
const PORT: u16 = 9465;

/// Whom to ask about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) node: String,
    pub(super) pod: String,
    /// `None`: it has none yet, or does not run any more.
    pub(super) address: Option<SocketAddr>,
}

/// All agents, by node.
pub(super) type Agents = Arc<Vec<Agent>>;

/// One pod, as far as it matters here; the better one of a node is greater.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    ready: bool,
    stays: bool,
    created: Option<String>,
    pod: String,
    node: String,
    address: Option<SocketAddr>,
}

/// Tells who they are, for ever. Nothing is told before the first list.
pub(super) async fn follow_agents(
    client: Client,
    namespace: &str,
    health: Health,
    told: watch::Sender<Option<Agents>>,
) {
    let subject =
        Subject { api: Api::<Pod>::namespaced(client, namespace), call: Call::Agents, fields: None, labels: None };
    let mut pods: BTreeMap<String, Candidate> = BTreeMap::new();
    let tell = async |change| {
        match change {
            Change::All(all) => pods = all.into_iter().map(|pod: Candidate| (pod.pod.clone(), pod)).collect(),
            Change::Applied(pod) => drop(pods.insert(pod.pod.clone(), pod)),
            Change::Gone(pod) => drop(pods.remove(&pod.pod)),
        }
        let agents = Arc::new(choose(pods.values()));
        told.send_if_modified(|before| {
            let changed = before.as_ref() != Some(&agents);
            *before = Some(agents);
            changed
        });
        !told.is_closed()
    };
    follow(subject, health, candidate, tell).await;
}

fn candidate(pod: Pod) -> Option<Candidate> {
    let labels = pod.metadata.labels.unwrap_or_default();
    if labels.get(LABEL.0).is_none_or(|found| found != LABEL.1) {
        return None;
    }
    let (spec, status) = (pod.spec.unwrap_or_default(), pod.status.unwrap_or_default());
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let named = ports
        .filter(|port| port.name.as_deref() == Some(PORT_NAME))
        .find_map(|port| u16::try_from(port.container_port).ok());
    let running = status.phase.as_deref() == Some("Running");
    let ip = status.pod_ip.and_then(|ip| ip.parse::<IpAddr>().ok()).filter(|_| running);
    let ready = |kind: &str, value: &str| kind == "Ready" && value == "True";
    Some(Candidate {
        ready: status.conditions.iter().flatten().any(|condition| ready(&condition.type_, &condition.status)),
        stays: pod.metadata.deletion_timestamp.is_none(),
        created: pod.metadata.creation_timestamp.map(|time| time.0.to_string()),
        pod: pod.metadata.name?,
        node: spec.node_name?,
        address: ip.map(|ip| SocketAddr::new(ip, named.unwrap_or(PORT))),
    })
}

/// One of each node: who answers before who does not, who stays before who goes, the younger before the older.
fn choose<'a>(pods: impl Iterator<Item = &'a Candidate>) -> Vec<Agent> {
    let mut best: BTreeMap<&str, &Candidate> = BTreeMap::new();
    for pod in pods {
        let place = best.entry(&pod.node).or_insert(pod);
        if pod > *place {
            *place = pod;
        }
    }
    let agent = |pod: &Candidate| Agent { node: pod.node.clone(), pod: pod.pod.clone(), address: pod.address };
    best.into_values().map(agent).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, ready: bool, extra: serde_json::Value) -> Option<Candidate> {
        let mut pod = json!({
            "metadata": {
                "name": name,
                "creationTimestamp": "2026-11-28T10:00:00Z",
                "labels": {"app.kubernetes.io/name": "nodetap-agent"},
            },
            "spec": {"nodeName": node, "containers": [{"name": "a", "ports": [{"name": "query", "containerPort": 9999}]}]},
            "status": {
                "phase": "Running",
                "podIP": "10.0.0.7",
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            },
        });
        for (key, value) in extra.as_object().unwrap() {
            pod["metadata"][key] = value.clone();
        }
        candidate(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn of_two_on_a_node_the_one_that_is_ready_or_else_stays_is_asked() {
        let going = json!({"deletionTimestamp": "2026-11-28T11:00:00Z"});
        let younger = json!({"creationTimestamp": "2026-11-28T11:00:00Z"});
        let chosen = |pods: &[Option<Candidate>]| {
            choose(pods.iter().flatten()).into_iter().map(|agent| agent.pod).collect::<Vec<_>>()
        };
        let none = json!({});
        assert_eq!(chosen(&[pod("a", "n1", true, none.clone()), pod("b", "n1", false, younger.clone())]), ["a"]);
        assert_eq!(chosen(&[pod("a", "n1", true, going), pod("b", "n1", true, none.clone())]), ["b"]);
        assert_eq!(chosen(&[pod("b", "n1", true, none.clone()), pod("a", "n1", true, younger)]), ["a"]);
        assert_eq!(chosen(&[pod("a", "n1", true, none.clone()), pod("b", "n2", true, none.clone())]), ["a", "b"]);
        assert!(pod("c", "n1", true, json!({"labels": {}})).is_none());
        assert_eq!(pod("a", "n1", true, none).unwrap().address, Some("10.0.0.7:9999".parse().unwrap()));
    }
}
