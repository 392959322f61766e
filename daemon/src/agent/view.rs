//! What others may see of the supervisor: one value for each pod that asked to be captured, and what stands in the way of
//! being ready. Written by the supervisor after each step, read by whoever serves pages and numbers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::stats::Stats;

/// How long the line of one pod in `/readyz` may be.
const LINE: usize = 200;
/// Pods that `/readyz` names; the others are counted.
const NAMED: usize = 20;

/// One pod that asked to be captured.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub facts: Facts,
    /// As long as it is captured.
    pub stats: Arc<Stats>,
}

/// What is known of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Facts {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// `Pending`, `Capturing`, `Degraded`, `Refused`, `Draining`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    pub mode: &'static str,
    /// Nothing is about to change by itself.
    pub settled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
    /// Names of the containers that the hooks are on, or their identifiers.
    pub containers: Vec<String>,
    /// Where we listen for the pod, as told in its condition.
    pub listeners: Vec<String>,
    /// Where the application listens.
    pub ports: Vec<u16>,
}

#[derive(Debug, Default)]
struct State {
    targets: BTreeMap<String, Target>,
    /// Why we are not ready, whatever the pods say.
    missing: Vec<&'static str>,
    paused: bool,
}

/// Shared by the supervisor and those who show.
#[derive(Debug, Clone)]
pub(super) struct View(Arc<Mutex<State>>);

impl View {
    /// `missing`: what has to happen before we can be ready at all.
    pub(super) fn new(missing: Vec<&'static str>) -> Self {
        Self(Arc::new(Mutex::new(State { missing, ..State::default() })))
    }

    /// It has happened.
    pub(super) fn happened(&self, what: &'static str) {
        self.state().missing.retain(|missing| *missing != what);
    }

    pub(super) fn pause(&self, paused: bool) {
        self.state().paused = paused;
    }

    pub(super) fn show(&self, uid: &str, target: Target) {
        self.state().targets.insert(uid.to_owned(), target);
    }

    /// The pod is gone, or no longer asks: its numbers go with it.
    pub(super) fn forget(&self, uid: &str) {
        self.state().targets.remove(uid);
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        self.state().targets.values().cloned().collect()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.state().paused
    }

    /// Why we are not ready; empty: we are.
    pub(super) fn unready(&self) -> Vec<String> {
        let state = self.state();
        let mut lines: Vec<String> = state.missing.iter().map(|missing| format!("waiting for {missing}")).collect();
        let unsettled: Vec<&Facts> =
            state.targets.values().map(|target| &target.facts).filter(|facts| !facts.settled).collect();
        for facts in unsettled.iter().take(NAMED) {
            let line = format!("{}/{} is {}: {}", facts.namespace, facts.pod, facts.state, facts.why);
            lines.push(line.chars().take(LINE).collect());
        }
        if let Some(more) = unsettled.len().checked_sub(NAMED).filter(|more| *more > 0) {
            lines.push(format!("and {more} pods more"));
        }
        lines
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_nothing_is_missing_and_every_pod_is_settled() {
        let view = View::new(vec!["the list of pods"]);
        assert_eq!(view.unready(), ["waiting for the list of pods"]);
        view.happened("the list of pods");
        assert_eq!(view.unready(), <Vec<String>>::new());
        let facts = Facts {
            namespace: "shop".into(),
            pod: "web".into(),
            uid: "u".into(),
            state: "Pending",
            why: "no address yet".into(),
            mode: "transparent",
            settled: false,
            netns: None,
            containers: vec![],
            listeners: vec![],
            ports: vec![],
        };
        for number in 0..NAMED + 3 {
            view.show(&number.to_string(), Target { facts: facts.clone(), stats: Arc::default() });
        }
        let lines = view.unready();
        assert_eq!(lines[0], "shop/web is Pending: no address yet");
        assert_eq!(lines[NAMED], "and 3 pods more");
    }
}
