//! What there is of ours in a cluster on objects that are not ours, and the order in which it goes: pods are Istio's own
//! again before anything that serves them ends. It refuses to know how long that takes.

use std::collections::BTreeSet;
use std::fmt;

use super::desired::Desired;
use super::diff::{Observed, Step, diff};
use super::egress;
use super::managed::{Change, Managed};
use super::snapshot::{PodKey, Settings, Snapshot};

/// All that is to go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uninstall {
    /// Labels, then the Sidecars that select by them.
    pub steps: Vec<Step>,
    /// Hosts of ours in Sidecars of users.
    pub egress: Vec<Change>,
    /// Pods on which something else of ours stands, once agents have ended: they would write it again.
    pub marked: BTreeSet<PodKey>,
}

impl Uninstall {
    /// `marked`: pods with our condition, or with an annotation of ours.
    pub fn of(mut snapshot: Snapshot, marked: BTreeSet<PodKey>) -> Self {
        // Nothing is asked for, and no pod is worth a word.
        snapshot.settings = Settings { egress_hosts: BTreeSet::new(), ..snapshot.settings };
        let nothing = Desired::default();
        let egress = Managed::of(&snapshot, &nothing).changes;
        Self { steps: diff(&nothing, &Observed::of(&snapshot)), egress, marked }
    }

    /// Is nothing left that pods are sent to us by?
    pub fn is_apart(&self) -> bool {
        self.steps.is_empty() && self.egress.is_empty()
    }
}

/// One line for each thing, in the order in which they go.
impl fmt::Display for Uninstall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Unlabel { pod } => writeln!(f, "pod {}/{}: the label goes", pod.namespace, pod.name)?,
                Step::Delete { namespace, name, .. } => writeln!(f, "Sidecar {namespace}/{name}: deleted")?,
                // Nothing is desired, so nothing is made.
                Step::Apply(_) | Step::Label { .. } => {}
            }
        }
        for change in &self.egress {
            let name = format!("{}/{}", change.namespace, change.name);
            let left = change.egress.as_deref().map_or_else(|| "as it is".into(), egress::hosts);
            writeln!(f, "Sidecar {name}: our hosts go, egress is {left}")?;
        }
        for pod in &self.marked {
            writeln!(f, "pod {}/{}: our condition and annotation go", pod.namespace, pod.name)?;
        }
        Ok(())
    }
}
