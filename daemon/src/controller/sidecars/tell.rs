//! What is told about pods and about Sidecars of users, as Events and in the log: each once in a while.

use std::collections::BTreeMap;
use std::time::Instant;

use nodetap_core::mesh::desired::Desired;
use nodetap_core::mesh::finding::Weight;
use nodetap_core::mesh::managed::{Change, Notice};
use nodetap_core::mesh::names;
use nodetap_core::mesh::snapshot::Snapshot;

use super::objects::SidecarObject;
use super::write::Refused;
use crate::cluster::Connection;
use crate::cluster::events::{self, Event, Gate, Regarding, Speaker};
use crate::cluster::health::Trouble;

/// Says what is new.
#[derive(Debug)]
pub(super) struct Teller<'a> {
    connection: &'a Connection,
    by: Speaker<'a>,
    gate: Gate,
}

impl<'a> Teller<'a> {
    pub(super) fn new(connection: &'a Connection, identity: &'a str) -> Self {
        let by = Speaker { component: "nodetap-controller", instance: identity };
        Self { connection, by, gate: Gate::default() }
    }

    /// What keeps pods from being captured, and what was refused.
    pub(super) async fn of_pods(&mut self, snapshot: &Snapshot, desired: &Desired, refused: &[Refused]) {
        let mut all = Vec::new();
        for (key, findings) in &desired.findings {
            for finding in findings.iter().filter(|finding| finding.weight() >= Weight::Advice) {
                let warning = finding.weight() >= Weight::Warning;
                all.push((key, Event { warning, reason: finding.reason(), note: finding.to_string() }));
            }
        }
        for one in refused {
            let Some(sidecar) = &one.sidecar else { continue };
            let theirs = snapshot.pods.iter().map(|pod| &pod.key).filter(|key| {
                let value = desired.labels.get(*key);
                key.namespace == one.namespace && value.is_some_and(|it| names::sidecar(it) == *sidecar)
            });
            let note =
                format!("Sidecar {sidecar} was refused, and inbound traffic is not captured: {}", one.trouble.text);
            all.extend(theirs.map(|key| (key, Event { warning: true, reason: "SidecarRefused", note: note.clone() })));
        }
        for (key, event) in all {
            let (namespace, name, uid) = (&key.namespace, &key.name, &key.uid);
            self.say(Regarding { api_version: "v1", kind: "Pod", namespace, name, uid }, &event).await;
        }
    }

    /// What is not written to Sidecars of users, and why.
    pub(super) async fn of_sidecars<K: SidecarObject>(
        &mut self,
        notices: &BTreeMap<(String, String), Notice>,
        refused: impl Iterator<Item = (&Change, &Trouble)>,
    ) {
        let (api_version, kind) = (K::api_version(&()), K::kind(&()));
        let about = |namespace, name, uid| Regarding { api_version: &api_version, kind: &kind, namespace, name, uid };
        for ((namespace, name), notice) in notices {
            let event = Event { warning: true, reason: notice.said.reason(), note: notice.said.to_string() };
            self.say(about(namespace, name, &notice.uid), &event).await;
        }
        for (change, trouble) in refused {
            let note = format!("its egress cannot be written as it asks: the API server said {}", trouble.text);
            let event = Event { warning: true, reason: "EgressRefused", note };
            self.say(about(&change.namespace, &change.name, &change.uid), &event).await;
        }
    }

    async fn say(&mut self, about: Regarding<'_>, event: &Event) {
        if !self.gate.lets_through(about.uid, event, Instant::now()) {
            return;
        }
        let Regarding { kind, namespace, name, .. } = about;
        tracing::info!(namespace, kind, name, reason = event.reason, "{}", event.note);
        // It stands in the log; an object that is gone needs no event.
        if let Err(error) = events::write_about(self.connection.client.clone(), self.by, about, event).await {
            tracing::debug!(%error, "an Event was not taken");
        }
    }
}
