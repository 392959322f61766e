//! What others are told of the supervisor's work: who watches it, its keeper, the records.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use nodetap_core::exchange::{self, Loss, Target};
use nodetap_core::pod::state::State;

use super::pod::Pod;
use super::{GAP, Node, Supervisor};
use crate::agent::unix_micros;
use crate::agent::view::{self, Facts};
use crate::agent::wire::Message;

impl Supervisor {
    /// Lets others see what became of a pod.
    pub(super) fn show(&self, pod: &Pod) {
        let Some(plan) = pod.plan.as_ref().filter(|_| pod.asks()) else { return self.view.forget(&pod.api.uid) };
        let held = pod.observed.held.as_ref();
        let listeners = held.into_iter().flat_map(|held| &held.listeners);
        let named = |id: &String| {
            let of = pod.api.containers.iter().find(|one| one.id.as_ref() == Some(id));
            of.map_or_else(|| id.clone(), |one| one.name.clone())
        };
        let why = match &plan.state {
            State::Pending(why) => why.clone(),
            State::Degraded(why) => why.iter().cloned().collect::<Vec<_>>().join("; "),
            State::Refused(refusals) => refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            State::Off(_) | State::Capturing | State::Draining(_) => String::new(),
        };
        let facts = Facts {
            namespace: pod.api.namespace.clone(),
            pod: pod.api.name.clone(),
            uid: pod.api.uid.clone(),
            state: plan.state.name(),
            why,
            mode: pod.config().map_or("", |config| config.proxy_type.name()),
            // A pod that cannot be captured yet for reasons of its own keeps nobody waiting; one that is being set up does.
            settled: plan.is_settled() && self.node == Node::Ours,
            netns: held.map(|held| held.namespace.inode),
            containers: held.into_iter().flat_map(|held| &held.attached).map(named).collect(),
            listeners: listeners.map(|(listener, _)| listener.to_string()).collect(),
            ports: pod.observed.listening.iter().map(|one| one.port).collect::<BTreeSet<_>>().into_iter().collect(),
        };
        self.view.show(&pod.api.uid, view::Target { facts, stats: Arc::clone(&pod.stats) });
    }

    /// Tells the keeper once that we could begin: everything is loaded, and the pods are known or do not become known.
    pub(super) fn prepare(&mut self) {
        if !self.told_prepared && (self.listed || Instant::now() >= self.patience) {
            self.told_prepared = true;
            self.tools.link.tell(&Message::Prepared);
        }
        if self.listed && self.namespaces_listed && self.node == Node::Ours && self.dirty.is_empty() {
            let pods = &self.pods;
            self.tools
                .link
                .release_rest(|name| name.split('/').next().is_some_and(|uid| pods.get(uid).is_some_and(Pod::asks)));
            if !std::mem::replace(&mut self.swept, true) {
                self.sweep_pins();
            }
        }
    }

    /// Takes away the fallbacks that agents before us left of pods that are gone, or do not ask any more.
    fn sweep_pins(&self) {
        let Some(pins) = &self.tools.pins else { return };
        let asks = |uid: &String| self.pods.get(uid).is_some_and(Pod::asks);
        for uid in pins.pods().into_iter().filter(|uid| !asks(uid)) {
            let past: u64 = pins.replace(&uid, None).iter().map(|past| past.connections).sum();
            tracing::info!(uid, past, "a fallback of a pod that is gone was taken away");
        }
    }

    /// Nothing was captured for a while: that is one loss, with its start and its end.
    pub(super) fn close_gap(&mut self) {
        let Some((gap, since)) = self.gap else { return };
        let ready = self.listed && self.dirty.is_empty() && self.view.unready().is_empty();
        if !ready && since.elapsed() < GAP {
            return;
        }
        self.gap = None;
        let reason = if gap.planned { exchange::AGENT_HANDOVER } else { exchange::AGENT_DOWN };
        let loss = Loss {
            time: gap.since,
            until: unix_micros(),
            target: Target::command(format!("agent on {}", self.node_name)),
            reason: reason.into(),
            exchanges: gap.cut,
            bytes: 0,
        };
        tracing::info!(reason, since = gap.since, cut = gap.cut, "captured again");
        self.recorder.record(exchange::Event::Loss(loss));
    }
}

/// What would be done for a pod, on stdout.
pub(super) fn say(pod: &Pod) {
    use std::io::Write as _;
    let Some(plan) = &pod.plan else { return };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}/{}: {}", pod.api.namespace, pod.api.name, plan.state.reason());
    for step in &plan.steps {
        let _ = writeln!(out, "  {step}");
    }
}
