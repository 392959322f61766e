//! Which Sidecar Istio takes for a pod: of its namespace the oldest one that has a selector and selects it, else the oldest
//! one without a selector; else the oldest one of the root namespace without a selector. Nothing is merged.

use super::names;
use super::sidecar::Sidecar;
use super::snapshot::{Pod, Snapshot};

/// What holds for a pod without us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selected<'a> {
    /// No Sidecar: the pod reaches everything.
    Nothing,
    /// One without a selector, of its namespace or the root namespace: ours is made of it.
    Default(&'a Sidecar),
    /// One with a selector (`{}` too): it is meant for this pod, and is not replaced.
    Workload(&'a Sidecar),
}

impl<'a> Selected<'a> {
    /// For this pod, of the objects that are not ours.
    pub fn of(pod: &Pod, snapshot: &'a Snapshot) -> Self {
        let theirs = || {
            let theirs = snapshot.sidecars.iter().filter(|one| !one.is_ours());
            theirs.filter(|one| is_seen(one, pod))
        };
        let home = |one: &&Sidecar| one.namespace == pod.key.namespace;
        let root = |one: &&Sidecar| one.namespace == snapshot.settings.root_namespace;
        let no_selector = |one: &&Sidecar| one.spec.workload_selector.is_none();
        if let Some(one) = oldest(theirs().filter(home).filter(|one| selects(one, pod))) {
            return Self::Workload(one);
        }
        let default = oldest(theirs().filter(home).filter(no_selector));
        let default = default.or_else(|| oldest(theirs().filter(root).filter(no_selector)));
        default.map_or(Self::Nothing, Self::Default)
    }

    /// That which ours would be made of.
    pub fn base(self) -> Option<&'a Sidecar> {
        if let Self::Default(one) = self { Some(one) } else { None }
    }
}

/// One of somebody else's that selects the pod once it has our label, as a copy of ours does: beside ours there would be two,
/// and the older one would hold.
pub fn beside_ours<'a>(pod: &Pod, snapshot: &'a Snapshot) -> Option<&'a Sidecar> {
    let ours = names::value(&pod.workload);
    let theirs = snapshot.sidecars.iter().filter(|one| !one.is_ours() && one.namespace == pod.key.namespace);
    oldest(theirs.filter(|one| is_seen(one, pod)).filter(|one| {
        let labels = one.spec.workload_selector.iter().flat_map(|selector| &selector.labels);
        let (by_ours, others): (Vec<_>, Vec<_>) = labels.partition(|(key, _)| *key == names::LABEL);
        by_ours.iter().any(|(_, value)| **value == ours)
            && others.iter().all(|(key, value)| pod.label(key) == Some(value))
    }))
}

/// Does its selector select the pod? An empty one selects all, as if it had named them.
fn selects(sidecar: &Sidecar, pod: &Pod) -> bool {
    let Some(selector) = &sidecar.spec.workload_selector else { return false };
    selector.labels.iter().all(|(key, value)| pod.label(key) == Some(value))
}

/// Is it of the revision that the pod listens to? One without a revision is for all.
fn is_seen(sidecar: &Sidecar, pod: &Pod) -> bool {
    match (sidecar.labels.get("istio.io/rev"), &pod.revision) {
        (Some(of), Some(pods)) => of == pods,
        _ => true,
    }
}

/// By its time in whole seconds, then by its name.
fn oldest<'a>(of: impl Iterator<Item = &'a Sidecar>) -> Option<&'a Sidecar> {
    of.min_by(|one, other| {
        let key = |one: &&'a Sidecar| (one.created, one.name.as_str(), one.namespace.as_str());
        key(one).cmp(&key(other))
    })
}
