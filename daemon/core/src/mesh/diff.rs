//! From what is to what should be. Each step leaves a pod either wholly with Istio or wholly with us: labels go before
//! objects change, and come after; an object goes when no pod has its label.

use std::collections::BTreeMap;

use super::desired::{Desired, Ours};
use super::names;
use super::sidecar::Sidecar;
use super::snapshot::{PodKey, Snapshot};

/// What is there of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// By namespace and name.
    pub sidecars: BTreeMap<(String, String), Sidecar>,
    pub labels: BTreeMap<PodKey, String>,
}

/// Something to write. What fails stops those that come after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The pod is Istio's own again.
    Unlabel { pod: PodKey },
    /// Creates it, or changes it in its place.
    Apply(Box<Ours>),
    /// Envoy calls our listeners from now on.
    Label { pod: PodKey, value: String },
    /// Just this one, as it was seen.
    Delete { namespace: String, name: String, uid: String, resource_version: String },
}

impl Observed {
    pub fn of(snapshot: &Snapshot) -> Self {
        let ours = snapshot.sidecars.iter().filter(|one| one.is_ours());
        let labels =
            snapshot.pods.iter().filter_map(|pod| Some((pod.key.clone(), pod.labels.get(names::LABEL)?.clone())));
        Self {
            sidecars: ours.map(|one| ((one.namespace.clone(), one.name.clone()), one.clone())).collect(),
            labels: labels.collect(),
        }
    }
}

/// The steps, in the order in which they are to be done; none when all is as it should be.
pub fn diff(desired: &Desired, observed: &Observed) -> Vec<Step> {
    let stays = |pod: &PodKey, value: &String| desired.labels.get(pod) == Some(value);
    let unlabel = observed.labels.iter().filter(|(pod, value)| !stays(pod, value));
    let unlabel = unlabel.map(|(pod, _)| Step::Unlabel { pod: pod.clone() });
    let changed =
        desired.sidecars.iter().filter(|(key, ours)| !observed.sidecars.get(key).is_some_and(|is| says(is, ours)));
    let apply = changed.map(|(_, ours)| Step::Apply(Box::new(ours.clone())));
    let label = desired.labels.iter().filter(|(pod, value)| observed.labels.get(pod) != Some(value));
    let label = label.map(|(pod, value)| Step::Label { pod: pod.clone(), value: value.clone() });
    let gone = observed.sidecars.iter().filter(|(key, _)| !desired.sidecars.contains_key(key));
    let delete = gone.map(|(_, is)| Step::Delete {
        namespace: is.namespace.clone(),
        name: is.name.clone(),
        uid: is.uid.clone(),
        resource_version: is.resource_version.clone(),
    });
    unlabel.chain(apply).chain(label).chain(delete).collect()
}

/// Does it say all that we would write? Labels and annotations of others are theirs.
fn says(is: &Sidecar, ours: &Ours) -> bool {
    let has = |of: &BTreeMap<String, String>, all: &BTreeMap<String, String>| {
        all.iter().all(|(key, value)| of.get(key) == Some(value))
    };
    let base = is.annotations.get(names::BASE) == ours.annotations.get(names::BASE);
    is.unreadable.is_none() && base && is.spec == ours.spec && has(&is.labels, &ours.labels)
}
