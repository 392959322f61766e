//! What a cluster tells about pods to whoever may read them. What may not be read is said and not judged; only the pods
//! themselves must be readable.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use nodetap_core::checkup::{Agent, Facts, Meshed, Page, Told};
use nodetap_core::mesh::desired::Desired;
use nodetap_core::mesh::snapshot::{self, Capture, Settings};
use nodetap_core::pod::decision::Decision;
use nodetap_core::pod::keys::TRUST_BUNDLE;

use super::Which;
use crate::cluster::Connection;
use crate::cluster::lease::AGENT;
use crate::cluster::pause;
use crate::cluster::pods::{Object, Pod};
use crate::commands::Failure;
use crate::commands::remote::one_line;
use crate::controller::sidecars::lists::{Listed, all, listed};

pub(super) struct Reader {
    pub(super) client: Client,
    /// Our own namespace.
    pub(super) ours: String,
    pub(super) settings: Settings,
}

/// What there is besides the pods.
struct Around {
    namespaces: HashMap<String, Metadata>,
    /// By node, the seconds since the agent's last sign of life, and how long one lasts.
    agents: Option<HashMap<String, (i64, i64)>>,
    paused: bool,
    mesh: Option<(Listed, Desired)>,
    hidden: Vec<String>,
}

#[derive(Default)]
struct Metadata {
    annotations: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

impl Reader {
    pub(super) async fn pages(&self, which: Which<'_>) -> Result<Vec<Page>, Failure> {
        let namespace = match which {
            Which::Pod(namespace, _) | Which::Namespace(namespace) => Some(namespace),
            Which::All => None,
        };
        let api = match namespace {
            Some(namespace) => Api::<Object>::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let pods: Vec<Pod> = match which {
            Which::Pod(namespace, name) => {
                let found = api.get_opt(name).await.map_err(|error| unreadable("the pod", &error))?;
                let object = found
                    .ok_or_else(|| Failure::bad_input(format!("there is no pod {name} in namespace {namespace}")))?;
                Pod::try_from(object).into_iter().collect()
            }
            _ => {
                let objects = all(api).await.map_err(|error| unreadable("pods", &error))?;
                objects.into_iter().filter_map(|object| Pod::try_from(object).ok()).collect()
            }
        };
        if let (Which::Namespace(namespace), true) = (which, pods.is_empty()) {
            return Err(Failure::bad_input(format!("there are no pods in namespace {namespace}")));
        }
        let around = self.around(namespace).await?;
        Ok(pods.iter().map(|pod| around.page(pod)).collect())
    }

    async fn around(&self, namespace: Option<&str>) -> Result<Around, Failure> {
        let mut hidden = Vec::new();
        let namespaces = match namespace {
            Some(name) => allowed(self.namespace(name).await, "the namespace's annotations", &mut hidden)?,
            None => allowed(self.namespaces().await, "the namespaces' annotations", &mut hidden)?,
        };
        let leases = Api::<Lease>::namespaced(self.client.clone(), &self.ours);
        let what = format!("signs of life of agents (Leases in {})", self.ours);
        let agents = allowed(all(leases).await, &what, &mut hidden)?;
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &self.ours);
        let switch = allowed(maps.get_opt(pause::NAME).await, "whether capture is paused", &mut hidden)?.flatten();
        let connection = Connection { client: self.client.clone(), namespace: self.ours.clone() };
        let mesh = allowed(listed(&connection, namespace, &self.settings).await, "Istio's Sidecars", &mut hidden)?;
        let agents: Option<HashMap<_, _>> =
            agents.map(|leases| leases.into_iter().filter_map(|lease| sign(lease, Timestamp::now())).collect());
        let mesh = mesh.flatten().map(|mut listed| {
            // The controller does not believe these either.
            for pod in &mut listed.snapshot.pods {
                if let (Capture::Verified(_), Agent::Away(why)) = (&pod.capture, agent(agents.as_ref(), node_of(pod))) {
                    pod.capture = Capture::Stale(why);
                }
            }
            let desired = Desired::of(&listed.snapshot);
            (listed, desired)
        });
        let paused = switch.as_ref().is_some_and(pause::stops);
        Ok(Around { namespaces: namespaces.unwrap_or_default(), agents, paused, mesh, hidden })
    }

    async fn namespace(&self, name: &str) -> kube::Result<HashMap<String, Metadata>> {
        let object = Api::<Namespace>::all(self.client.clone()).get_metadata_opt(name).await?;
        Ok(object.into_iter().filter_map(metadata).collect())
    }

    async fn namespaces(&self) -> kube::Result<HashMap<String, Metadata>> {
        let objects = Api::<Namespace>::all(self.client.clone()).list_metadata(&ListParams::default()).await?;
        Ok(objects.items.into_iter().filter_map(metadata).collect())
    }
}

fn metadata(object: PartialObjectMeta<Namespace>) -> Option<(String, Metadata)> {
    let metadata = object.metadata;
    let (annotations, labels) = (metadata.annotations.unwrap_or_default(), metadata.labels.unwrap_or_default());
    Some((metadata.name?, Metadata { annotations, labels }))
}

/// The node of an agent, how old its last sign of life is by this machine's clock, and how long one lasts; in seconds.
fn sign(lease: Lease, now: Timestamp) -> Option<(String, (i64, i64))> {
    let node = lease.metadata.name?.strip_prefix(AGENT)?.to_owned();
    let spec = lease.spec?;
    let age = now.as_second().saturating_sub(spec.renew_time?.0.as_second());
    Some((node, (age, i64::from(spec.lease_duration_seconds?))))
}

/// `None`, and a sentence, where it may not be read.
fn allowed<T>(asked: kube::Result<T>, what: &str, hidden: &mut Vec<String>) -> Result<Option<T>, Failure> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            hidden.push(format!("{what} may not be read, and is not judged: {}", status.message));
            Ok(None)
        }
        Err(error) => Err(unreadable(what, &error)),
    }
}

fn unreadable(what: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => Failure::new(format!("{what} cannot be read: {}", status.message)),
        error => Failure::new(format!("{what} cannot be read: {}", one_line(error))),
    }
}

impl Around {
    fn page(&self, pod: &Pod) -> Page {
        let nothing = Metadata::default();
        let namespace = self.namespaces.get(&pod.namespace);
        let Metadata { annotations, labels } = namespace.unwrap_or(&nothing);
        // Which ports Services send to makes no difference to what is decided here.
        let facts = pod.facts(std::collections::BTreeSet::new());
        let decision = Decision::of(&facts, annotations);
        let told = pod.condition.as_ref().map(|condition| Told {
            status: condition.status == "True",
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        });
        let mut hidden = self.hidden.clone();
        hidden.extend(self.mesh.iter().flat_map(|(listed, _)| listed.hidden.clone()));
        let facts = Facts {
            pod: &facts,
            decision: &decision,
            told: told.as_ref(),
            node: pod.node.as_deref(),
            agent: &agent(self.agents.as_ref(), pod.node.as_deref()),
            paused: self.paused,
            bundle: namespace.map(|_| labels.get(TRUST_BUNDLE).is_some_and(|value| value == "true")),
            hidden: &hidden,
        };
        let mesh = self.mesh.as_ref().and_then(|(Listed { snapshot, .. }, desired)| {
            // Of one that ends little more is known than its name.
            let pod = snapshot.pods.iter().find(|one| one.key.uid == pod.uid && !pod.deleting && !facts.pod.ended)?;
            Some(Meshed { pod, snapshot, desired })
        });
        Page::of(&facts, mesh.as_ref())
    }
}

fn node_of(pod: &snapshot::Pod) -> Option<&str> {
    pod.node_labels.get("kubernetes.io/hostname").map(String::as_str)
}

/// Whether the agent of a node lives, as far as this machine's clock can tell.
fn agent(agents: Option<&HashMap<String, (i64, i64)>>, node: Option<&str>) -> Agent {
    let (Some(agents), Some(node)) = (agents, node) else { return Agent::Unknown };
    match agents.get(node) {
        None => Agent::Away(format!("node {node} has no agent")),
        Some((age, lasts)) if age > lasts => Agent::Away(format!(
            "the agent of node {node} gave its last sign of life {age} s ago by this machine's clock"
        )),
        // That clock is behind theirs.
        Some((age, lasts)) if *age < -lasts => Agent::Unknown,
        Some(_) => Agent::Lives,
    }
}
