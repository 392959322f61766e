//! Egress of a user's Sidecar, where they ask on that object for hosts of our configuration to be in it: what is added,
//! what is taken away again, and what is only said where they do not ask. It refuses to know how it is written.
//!
//! What we added stands in an annotation on the object, so that nothing but that is taken away, also when the list was
//! changed meanwhile, or the configuration, or when we were away.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::desired::Desired;
use super::egress::{self, Added};
use super::names::{ADDED_EGRESS, MANAGE_EGRESS};
use super::selection::Selected;
use super::sidecar::Sidecar;
use super::snapshot::{Mesh, Snapshot};
use crate::text::{clip, one_line};

/// Characters of a user's text that are repeated to them.
const SHOWN: usize = 80;

/// All that is to be done to objects of users, and to be said about them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Managed {
    pub changes: Vec<Change>,
    /// By namespace and name.
    pub notices: BTreeMap<(String, String), Notice>,
}

/// What is to be written, to the object as it was seen and to no other state of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    /// All of the egress, where it differs.
    pub egress: Option<Vec<Value>>,
    /// What our annotation is to say; `None`: it goes.
    pub added: Option<String>,
}

/// Something about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub uid: String,
    pub said: Said,
}

/// Why nothing is written, in words for whoever has made the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Said {
    #[error(
        "captured pods are to reach {hosts}, and this Sidecar keeps them from it. It is yours, and nothing is written: \
         annotate it with {MANAGE_EGRESS}=true, and we add that and take it away again; or add it yourself: \
         kubectl -n {namespace} patch sidecar {name} --type json -p '{patch}'"
    )]
    Missing { hosts: String, namespace: String, name: String, patch: Value },
    #[error(
        "{MANAGE_EGRESS} says \"{}\", which is neither true nor false: nothing is added to the egress of this Sidecar; \
         correct it", quoted(.0)
    )]
    Neither(String),
    #[error(
        "the egress of this Sidecar cannot be read ({}), and nothing is written to it: correct it, as Istio describes it",
        quoted(.0)
    )]
    Unreadable(String),
    #[error(
        "{ADDED_EGRESS} was changed ({}), and tells no more what of the egress is ours: nothing is written; take away what \
         you do not want, and that annotation", quoted(.0)
    )]
    Record(String),
}

impl Managed {
    /// Nothing but what the snapshot and what is desired of it say.
    pub fn of(snapshot: &Snapshot, desired: &Desired) -> Self {
        let mut managed = Self::default();
        let held = held(snapshot, desired);
        let hosts = &snapshot.settings.egress_hosts;
        for sidecar in snapshot.sidecars.iter().filter(|one| !one.is_ours()) {
            let key = (sidecar.namespace.clone(), sidecar.name.clone());
            match change(sidecar, hosts) {
                Ok(change) => managed.changes.extend(change),
                Err(said) => managed.note(key.clone(), sidecar, said),
            }
            let said = match sidecar.annotations.get(MANAGE_EGRESS).map(String::as_str) {
                Some("true" | "false") => None,
                Some(other) => Some(Said::Neither(other.to_owned())),
                None if held.contains(&key) => missing(sidecar, hosts),
                None => None,
            };
            if let Some(said) = said {
                managed.note(key, sidecar, said);
            }
        }
        managed.changes.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        managed
    }

    fn note(&mut self, key: (String, String), about: &Sidecar, said: Said) {
        self.notices.insert(key, Notice { uid: about.uid.clone(), said });
    }
}

impl Said {
    /// One word for Events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "EgressMissing",
            Self::Neither(_) => "ManageEgressInvalid",
            Self::Unreadable(_) => "EgressUnreadable",
            Self::Record(_) => "AddedEgressInvalid",
        }
    }
}

/// Sidecars of users that hold for captured pods. Where ours holds, the hosts are in that.
fn held(snapshot: &Snapshot, desired: &Desired) -> BTreeSet<(String, String)> {
    let captured = snapshot.pods.iter().filter(|pod| pod.captured && matches!(pod.mesh, Mesh::Sidecar { .. }));
    let others = captured.filter(|pod| !desired.labels.contains_key(&pod.key));
    let held = others.filter_map(|pod| match Selected::of(pod, snapshot) {
        Selected::Nothing => None,
        Selected::Default(one) | Selected::Workload(one) => Some((one.namespace.clone(), one.name.clone())),
    });
    held.collect()
}

/// From what it says to what it should say; `None`: that is the same. A user who lists one of our hosts while it is there
/// writes nothing, and nobody can see that it is theirs, too: it goes with ours.
fn change(sidecar: &Sidecar, hosts: &BTreeSet<String>) -> Result<Option<Change>, Said> {
    let asked = sidecar.annotations.get(MANAGE_EGRESS).is_some_and(|said| said == "true");
    let record = sidecar.annotations.get(ADDED_EGRESS);
    if !asked && record.is_none() {
        return Ok(None);
    }
    let record = record.map(|text| serde_json::from_str::<Added>(text));
    let record = record.transpose().map_err(|error| Said::Record(error.to_string()))?;
    let now = listeners(sidecar)?;
    let mut then = now.clone();
    if let Some(record) = &record {
        egress::withdraw(&mut then, record);
    }
    if asked && egress::is_ambiguous(&then) {
        return Err(Said::Unreadable("~/* beside other hosts means one thing or the other".into()));
    }
    let added = if asked { egress::add(&mut then, hosts).map_err(Said::Unreadable)? } else { None };
    // In which order they stand means nothing.
    if added == record && record.as_ref().is_none_or(|record| egress::has(&now, record)) {
        return Ok(None);
    }
    Ok(Some(Change {
        namespace: sidecar.namespace.clone(),
        name: sidecar.name.clone(),
        uid: sidecar.uid.clone(),
        resource_version: sidecar.resource_version.clone(),
        egress: (then != now).then_some(then),
        // Text and numbers: nothing in it can fail.
        added: added.map(|added| serde_json::to_string(&added).unwrap_or_default()),
    }))
}

/// What a user would have to add, if anything.
fn missing(sidecar: &Sidecar, hosts: &BTreeSet<String>) -> Option<Said> {
    let now = listeners(sidecar).ok()?;
    let mut then = now.clone();
    let added = egress::add(&mut then, hosts).ok()??;
    let (hosts, namespace, name) = (added.hosts.join(", "), sidecar.namespace.clone(), sidecar.name.clone());
    Some(Said::Missing { hosts, namespace, name, patch: patch(&now, &then, added.listener)? })
}

fn listeners(sidecar: &Sidecar) -> Result<Vec<Value>, Said> {
    if let Some(why) = &sidecar.unreadable {
        return Err(Said::Unreadable(why.clone()));
    }
    match sidecar.spec.rest.get("egress") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(listeners)) => Ok(listeners.clone()),
        Some(_) => Err(Said::Unreadable("egress is no list".into())),
    }
}

/// The smallest JSON patch: a host at a time, where nothing has to go for it.
fn patch(now: &[Value], then: &[Value], listener: bool) -> Option<Value> {
    let last = then.last()?;
    if listener {
        return Some(json!([{"op": "add", "path": "/spec/egress/-", "value": last}]));
    }
    let path = format!("/spec/egress/{}/hosts", then.len() - 1);
    let (before, after) = (now.last()?["hosts"].as_array()?, last["hosts"].as_array()?);
    let adds = after
        .strip_prefix(before.as_slice())
        .map(|new| new.iter().map(|host| json!({"op": "add", "path": format!("{path}/-"), "value": host})).collect());
    Some(adds.map_or_else(|| json!([{"op": "replace", "path": path, "value": after}]), Value::Array))
}

fn quoted(text: &str) -> String {
    clip(&one_line(text), SHOWN).into_owned()
}
