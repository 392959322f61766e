//! What there should be: one Sidecar of ours for each workload that has a pod whose listeners answer, and our label on just
//! those pods. It depends on nothing but the snapshot, so that two controllers that see the same write the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::finding::Finding;
use super::names;
use super::preflight::Preflight;
use super::protocol::Protocol;
use super::sidecar::{Ingress, Selector, Sidecar, Spec};
use super::snapshot::{Capture, Endpoint, Mesh, Pod, PodKey, Snapshot};
use super::{egress, ports, routes};

/// Ports that one of our objects lists at most.
const MOST_PORTS: usize = 256;

/// Everything that we write, and what is to be said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// By namespace and name.
    pub sidecars: BTreeMap<(String, String), Ours>,
    /// The value of our label, of pods that have it.
    pub labels: BTreeMap<PodKey, String>,
    /// Of pods that ask for capture.
    pub findings: BTreeMap<PodKey, BTreeSet<Finding>>,
}

/// A Sidecar as we write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub spec: Spec,
}

impl Desired {
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut desired = Self::default();
        let mut workloads: BTreeMap<(&str, String), Vec<&Pod>> = BTreeMap::new();
        for pod in &snapshot.pods {
            let value = names::value(&pod.workload);
            workloads.entry((&pod.key.namespace, value)).or_default().push(pod);
        }
        for ((namespace, value), mut pods) in workloads {
            pods.sort_by_key(|pod| &pod.key);
            desired.add(&Workload { snapshot, namespace, value, pods });
        }
        for pod in &snapshot.pods {
            let advice = routes::findings(pod, snapshot);
            desired.findings.entry(pod.key.clone()).or_default().extend(advice);
        }
        desired.findings.retain(|_, findings| !findings.is_empty());
        desired
    }

    fn add(&mut self, workload: &Workload<'_>) {
        let mut asking: Vec<Asking<'_>> = workload.asking().collect();
        workload.agree(&mut asking);
        let capturing: Vec<&Asking<'_>> = asking.iter().filter(|one| one.agrees).collect();
        let labelled = capturing.iter().filter(|one| one.pod.ready || workload.has_label(one.pod));
        let labelled: Vec<PodKey> = labelled.map(|one| one.pod.key.clone()).collect();
        let made = capturing.first().filter(|_| !labelled.is_empty()).map(|first| workload.make(first));
        let wrong = match made {
            None => None,
            Some(Ok(ours)) => {
                self.sidecars.insert((ours.namespace.clone(), ours.name.clone()), ours);
                self.labels.extend(labelled.into_iter().map(|key| (key, workload.value.clone())));
                None
            }
            Some(Err(finding)) => Some(finding),
        };
        for one in asking {
            let mut findings = one.preflight.findings;
            findings.extend(wrong.clone().filter(|_| one.agrees));
            self.findings.insert(one.pod.key.clone(), findings);
        }
    }
}

/// The pods of one workload.
struct Workload<'a> {
    snapshot: &'a Snapshot,
    namespace: &'a str,
    value: String,
    pods: Vec<&'a Pod>,
}

/// A pod that asks for listeners inbound and has Istio.
struct Asking<'a> {
    pod: &'a Pod,
    preflight: Preflight<'a>,
    /// It is of those that our object is made for.
    agrees: bool,
}

impl Asking<'_> {
    fn base(&self) -> Option<&str> {
        self.preflight.base.map(|base| base.uid.as_str())
    }

    /// Do its listeners answer for all of those ports, as those do?
    fn answers(&self, captured: &BTreeMap<u16, Endpoint>) -> bool {
        captured
            .iter()
            .all(|(app, endpoint)| self.preflight.captured.get(app).map(|own| own.port) == Some(endpoint.port))
    }
}

impl<'a> Workload<'a> {
    fn asking(&self) -> impl Iterator<Item = Asking<'a>> {
        let asks = |pod: &&&Pod| pod.mesh != Mesh::None && pod.capture != Capture::None;
        let name = names::sidecar(&self.value);
        let here = |one: &&Sidecar| one.namespace == self.namespace && one.name == name;
        let taken = self.snapshot.sidecars.iter().filter(here).find(|one| !one.is_ours()).map(Sidecar::full_name);
        self.pods.iter().filter(asks).map(move |pod| {
            let mut preflight = Preflight::of(pod, self.snapshot);
            if let Some(theirs) = &taken {
                preflight.findings.insert(Finding::NameTaken(theirs.clone()));
                preflight.captured.clear();
            }
            Asking { pod, preflight, agrees: false }
        })
    }

    /// One object serves all: it captures what most pods have in common. A pod that lacks a part of that is left out.
    fn agree(&self, asking: &mut [Asking<'_>]) {
        let able = || asking.iter().filter(|one| !one.preflight.captured.is_empty());
        let chosen = able().max_by_key(|one| {
            let (base, captured) = (one.base(), &one.preflight.captured);
            let with = able().filter(|other| other.base() == base && other.answers(captured)).count();
            (with, self.is_in_force(captured), captured.len(), Reverse(captured.clone()), Reverse(&one.pod.key))
        });
        let Some((base, captured)) = chosen.map(|one| (one.base().map(str::to_owned), one.preflight.captured.clone()))
        else {
            return;
        };
        for one in asking.iter_mut().filter(|one| !one.preflight.captured.is_empty()) {
            if one.base() != base.as_deref() {
                one.preflight.findings.insert(Finding::BaseDiffers);
            } else if one.answers(&captured) {
                one.preflight.captured.clone_from(&captured);
                one.agrees = true;
            } else {
                let own = one.preflight.captured.iter().map(|(app, endpoint)| (*app, *endpoint)).collect();
                one.preflight.findings.insert(Finding::PortsDiffer(own));
            }
        }
    }

    /// Does our object send those ports there now?
    fn is_in_force(&self, captured: &BTreeMap<u16, Endpoint>) -> bool {
        let name = names::sidecar(&self.value);
        let ours = self.snapshot.sidecars.iter().filter(|one| one.is_ours() && one.namespace == self.namespace);
        ours.filter(|one| one.name == name).any(|one| {
            let endpoint =
                |app| one.spec.ingress.iter().find(|entry| entry.port.number == app)?.default_endpoint.clone();
            captured.iter().all(|(app, ours)| endpoint(*app) == Some(listener(ours)))
        })
    }

    fn has_label(&self, pod: &Pod) -> bool {
        pod.labels.get(names::LABEL) == Some(&self.value)
    }

    /// What holds today, with our endpoints in it.
    fn make(&self, like: &Asking<'_>) -> Result<Ours, Finding> {
        let base = like.preflight.base;
        let meshed = self.pods.iter().copied().filter(|pod| matches!(pod.mesh, Mesh::Sidecar { .. }));
        let mut listed = ports::listed(base, meshed, &self.snapshot.services);
        for (app, ours) in &like.preflight.captured {
            let entry = listed.entry(*app).or_insert_with(|| ports::entry(*app, Protocol::Unsaid));
            entry.default_endpoint = Some(listener(ours));
        }
        if listed.len() > MOST_PORTS {
            return Err(Finding::TooManyPorts(MOST_PORTS));
        }
        let mut rest = base.map(|base| base.spec.rest.clone()).unwrap_or_default();
        // What is null is not there, and we are not to own it.
        rest.retain(|_, value| !Value::is_null(value));
        egress::complete(&mut rest, &self.snapshot.settings.egress_hosts).map_err(|why| {
            let sidecar = base.map(Sidecar::full_name).unwrap_or_default();
            Finding::BaseUnreadable { sidecar, why }
        })?;
        let labels = BTreeMap::from([(names::LABEL.to_owned(), self.value.clone())]);
        let annotations = base.map(|base| (names::BASE.to_owned(), base.full_name())).into_iter().collect();
        Ok(Ours {
            namespace: self.namespace.to_owned(),
            name: names::sidecar(&self.value),
            labels: BTreeMap::from([(names::MANAGED.0.to_owned(), names::MANAGED.1.to_owned())]),
            annotations,
            spec: Spec {
                workload_selector: Some(Selector { labels }),
                ingress: listed.into_values().collect::<Vec<Ingress>>(),
                rest,
            },
        })
    }
}

/// Where Envoy is to send it. On a pod with IPv6 only it would take `::1` for it.
fn listener(endpoint: &Endpoint) -> String {
    format!("127.0.0.1:{}", endpoint.port)
}
