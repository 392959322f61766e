//! What Istio has to do with it: how the pod is in the mesh, which Sidecar holds for it, whether ours is in force, and what
//! it costs to turn that on or off.

use super::pod::Facts;
use super::{Line, Topic, Verdict};
use crate::mesh::desired::Desired;
use crate::mesh::diff::{Observed, Step, diff};
use crate::mesh::finding::Weight;
use crate::mesh::selection::Selected;
use crate::mesh::snapshot::{Mesh, Pod, Snapshot};
use crate::mesh::{names, sidecar::Sidecar};
use crate::pod::config::ProxyType;

/// A pod, and the part of the cluster that Istio decides by.
#[derive(Debug, Clone, Copy)]
pub struct Meshed<'a> {
    pub pod: &'a Pod,
    pub snapshot: &'a Snapshot,
    pub desired: &'a Desired,
}

pub(super) fn lines(facts: &Facts<'_>, mesh: &Meshed<'_>) -> Vec<Line> {
    let mut lines = vec![kind(mesh)];
    if !matches!(mesh.pod.mesh, Mesh::Sidecar { .. }) {
        // No Sidecar holds for it.
        if facts.config().is_some_and(|config| config.proxy_type.reverses()) {
            lines.extend(findings(mesh, Weight::Note));
        }
        return lines;
    }
    lines.push(in_force(facts, mesh));
    let Some(config) = facts.config() else { return lines };
    if config.proxy_type == ProxyType::Transparent {
        lines.push(Line::new(Topic::Sidecar, Verdict::Good, "transparent capture needs no Sidecar of ours"));
        lines.extend(findings(mesh, Weight::Advice).filter(|line| line.verdict == Verdict::Note));
        return lines;
    }
    if config.proxy_type.reverses() {
        lines.extend(ours(facts, mesh));
        let cost = "turning inbound capture on or off for this workload ends, 45 s later, its TCP connections and the \
                    requests that are older than that, on all listed ports; `nodetap.io/proxy-type: transparent` ends none";
        lines.push(Line::new(Topic::Switching, Verdict::Note, cost));
    }
    lines
}

fn kind(mesh: &Meshed<'_>) -> Line {
    let revision = mesh.pod.revision.as_ref().map(|revision| format!(", revision {revision}")).unwrap_or_default();
    let text = match mesh.pod.mesh {
        Mesh::None => "the pod is in no mesh".to_owned(),
        Mesh::Sidecar { native: true } => {
            format!("Istio's proxy is in the pod, as an init container that stays{revision}")
        }
        Mesh::Sidecar { native: false } => format!("Istio's proxy is in the pod{revision}"),
        Mesh::Ambient => "the pod is in the ambient mesh".to_owned(),
        Mesh::Gateway => "the pod is a gateway of the mesh".to_owned(),
    };
    Line::new(Topic::Mesh, Verdict::Good, text)
}

/// Which Sidecar Istio takes for the pod.
fn in_force(facts: &Facts<'_>, mesh: &Meshed<'_>) -> Line {
    let base = Selected::of(mesh.pod, mesh.snapshot);
    let without = match base {
        Selected::Nothing if !facts.hidden.is_empty() => "none of those that may be read".to_owned(),
        Selected::Nothing => "none: the pod reaches everything".to_owned(),
        Selected::Default(one) => format!("{}, which holds for all pods without one of their own", one.full_name()),
        Selected::Workload(one) => format!("{}, which selects the pod", one.full_name()),
    };
    let text = match force(mesh) {
        Some(ours) if !matches!(base, Selected::Workload(_)) => {
            format!("in force is {} (ours); without it: {without}", ours.full_name())
        }
        _ => format!("in force is {without}"),
    };
    Line::new(Topic::Sidecar, Verdict::Good, text)
}

/// Ours, if it selects the pod.
fn force<'a>(mesh: &Meshed<'a>) -> Option<&'a Sidecar> {
    let name = names::sidecar(mesh.pod.labels.get(names::LABEL)?);
    let mut ours = mesh.snapshot.sidecars.iter().filter(|one| one.is_ours());
    ours.find(|one| one.namespace == mesh.pod.key.namespace && one.name == name)
}

/// What stands between the pod and its capture, of so much weight or more.
fn findings(mesh: &Meshed<'_>, from: Weight) -> impl Iterator<Item = Line> {
    let found = mesh.desired.findings.get(&mesh.pod.key).into_iter().flatten();
    found.filter(move |finding| finding.weight() >= from).map(|finding| {
        let verdict = if finding.weight() >= Weight::Warning { Verdict::Wrong } else { Verdict::Note };
        Line::new(Topic::Sidecar, verdict, finding.to_string())
    })
}

/// What there should be of ours, beside what there is.
fn ours(facts: &Facts<'_>, mesh: &Meshed<'_>) -> Vec<Line> {
    let line = |verdict, text: String| Line::new(Topic::Sidecar, verdict, text);
    let mut lines: Vec<Line> = findings(mesh, Weight::Note).collect();
    let withdrawn = lines.iter().any(|line| line.verdict == Verdict::Wrong);
    let wanted = mesh.desired.labels.contains_key(&mesh.pod.key);
    if !wanted && !withdrawn && facts.is_captured() {
        let why = if mesh.pod.ready {
            "its agent reports no listener for a port of the application"
        } else {
            "it is not ready"
        };
        lines.push(line(Verdict::Note, format!("the pod gets no Sidecar of ours yet: {why}")));
    }
    let due = mesh.steps();
    // What the controller was told of egress, and what may not be read, makes another object of the same pods.
    let differs = due.iter().all(|step| matches!(step, Step::Apply(_))) && force(mesh).is_some();
    if due.is_empty() {
        lines.extend(wanted.then(|| line(Verdict::Good, "Sidecar and label are as they should be".into())));
    } else if differs || !facts.hidden.is_empty() {
        let text = "what the controller writes is not what is reckoned here, without its --egress-host and without what may \
                    not be read: `nodetap controller --dry-run` with its options says more";
        lines.push(line(Verdict::Note, text.into()));
    } else {
        let text =
            format!("the controller has {} steps to go for this workload: is it running, and leading?", due.len());
        let look = "kubectl get pods -A -l app.kubernetes.io/name=nodetap-controller";
        lines.push(line(Verdict::Wrong, text).mended_by(look));
    }
    lines
}

impl Meshed<'_> {
    /// What the controller has left to write for this pod.
    fn steps(&self) -> Vec<Step> {
        let name = names::sidecar(&names::value(&self.pod.workload));
        let mine = |step: &Step| match step {
            Step::Unlabel { pod } | Step::Label { pod, .. } => *pod == self.pod.key,
            Step::Apply(ours) => ours.namespace == self.pod.key.namespace && ours.name == name,
            Step::Delete { namespace, name: gone, .. } => *namespace == self.pod.key.namespace && *gone == name,
        };
        diff(self.desired, &Observed::of(self.snapshot)).into_iter().filter(mine).collect()
    }
}
