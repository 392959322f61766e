//! Writes the egress of users' Sidecars that ask for it: to the state that was decided by, or not at all.
//!
//! It is no server-side apply. Lists of a Sidecar are atomic to the API server: who owns `spec.egress` owns all of it, and
//! that is whoever made the object. An apply of ours without force is refused for each of them (409, a conflict with their
//! manager: a test asks a real API server), and one with force would write over what they have changed meanwhile. So it is
//! a merge patch with the `resourceVersion` that was decided by: whatever was written in between makes it a conflict, the
//! watch brings that, and it is decided anew.
//!
//! Such a patch makes us the owner of the list, and then the user's next `kubectl apply --server-side` would be refused
//! for it, even one that takes our annotation away. So we give it back at once: the owner of the list is who it was before.
//! What stays ours is the annotation that says what was added.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use nodetap_core::mesh::managed::Change;
use nodetap_core::mesh::names::ADDED_EGRESS;
use serde_json::{Map, Value, json};

use super::objects::SidecarObject;
use crate::cluster::client::ANSWER;
use crate::cluster::health::{Call, Health, Trouble};

/// Who wrote it, in the API server's words: of all versions and replicas the same.
pub(super) const MANAGER: &str = "nodetap-egress";
/// How often it is tried to give the list back, when others write meanwhile.
const TRIES: usize = 4;

/// A change that was refused is not tried again for so long, unless it becomes another one. Nobody waits for it: pods are
/// taken from us at once, whatever a webhook thinks of somebody's egress.
const AGAIN: Duration = Duration::from_secs(60);

/// Writes what has not just been refused.
#[derive(Debug, Default)]
pub(super) struct Writer {
    refused: Vec<(Change, Trouble, Instant)>,
}

impl Writer {
    /// Does what is to be done.
    pub(super) async fn write<K: SidecarObject>(&mut self, client: &Client, changes: &[Change], health: &Health) {
        let now = Instant::now();
        self.refused.retain(|(change, _, at)| now.duration_since(*at) < AGAIN && changes.contains(change));
        let is_refused = |change: &&Change| self.refused.iter().any(|(refused, ..)| refused == *change);
        // One at a time: the watch of what was written brings the next.
        let fresh: Vec<Change> = changes.iter().filter(|change| !is_refused(change)).take(1).cloned().collect();
        let refused = all::<K>(client, &fresh).await;
        if refused.is_empty() && !fresh.is_empty() {
            health.well(Call::Egress);
        }
        for (change, trouble) in refused {
            health.ill(Call::Egress, trouble.clone());
            self.refused.push((change, trouble, now));
        }
    }

    /// What was refused, with the server's words.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&Change, &Trouble)> {
        self.refused.iter().map(|(change, trouble, _)| (change, trouble))
    }
}

/// Does them; says which were refused, and leaves out those that were overtaken: the watch will say so.
pub(super) async fn all<K: SidecarObject>(client: &Client, changes: &[Change]) -> Vec<(Change, Trouble)> {
    let mut refused = Vec::new();
    for change in changes {
        let trouble = match tokio::time::timeout(ANSWER, one::<K>(client, change)).await {
            Ok(Ok(())) => {
                tracing::info!(change.namespace, change.name, added = change.added, "egress");
                continue;
            }
            Ok(Err(error)) => Trouble::of(&error),
            Err(_) => Trouble { class: "unreachable", text: "no answer in time".into(), wait: None },
        };
        if !matches!(trouble.class, "404" | "409") {
            refused.push((change.clone(), trouble));
        }
    }
    refused
}

async fn one<K: SidecarObject>(client: &Client, change: &Change) -> kube::Result<()> {
    let api = Api::<K>::namespaced(client.clone(), &change.namespace);
    let (before, _) = api.get(&change.name).await?.parts();
    if before.resource_version.as_ref() != Some(&change.resource_version) {
        return Ok(());
    }
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let mut patch = json!({"metadata": {
        "uid": change.uid, "resourceVersion": change.resource_version, "annotations": {ADDED_EGRESS: change.added},
    }});
    if let Some(egress) = &change.egress {
        patch["spec"] = json!({"egress": egress});
    }
    let (mut now, _) = api.patch(&change.name, &params, &Patch::Merge(patch)).await?.parts();
    for _ in 0..TRIES {
        let Some(fields) = given_back(&before, &now) else { return Ok(()) };
        let patch = json!({"metadata": {"resourceVersion": now.resource_version, "managedFields": fields}});
        match api.patch(&change.name, &params, &Patch::Merge(patch)).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => now = api.get(&change.name).await?.parts().0,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Who owns what, with the list back at those who had it before us; `None`: it is not ours.
fn given_back(before: &ObjectMeta, now: &ObjectMeta) -> Option<Vec<ManagedFieldsEntry>> {
    let is_ours = |one: &ManagedFieldsEntry| one.manager.as_deref() == Some(MANAGER);
    let mut fields = now.managed_fields.clone()?;
    let ours = fields.iter_mut().filter(|one| is_ours(one)).filter_map(spec).filter_map(|spec| spec.remove(LIST));
    if ours.count() == 0 {
        return None;
    }
    for owner in before.managed_fields.iter().flatten().filter(|one| !is_ours(one)) {
        let mut owner = owner.clone();
        let Some(list) = spec(&mut owner).and_then(|spec| spec.remove(LIST)) else { continue };
        let same = |one: &&mut ManagedFieldsEntry| {
            (&one.manager, &one.operation, &one.subresource) == (&owner.manager, &owner.operation, &owner.subresource)
        };
        match fields.iter_mut().find(same) {
            Some(one) => drop(made_spec(one).map(|spec| spec.insert(LIST.to_owned(), list))),
            // The list was all that it owned.
            None => {
                owner.fields_v1 = Some(FieldsV1(json!({SPEC: {LIST: list}})));
                fields.push(owner);
            }
        }
    }
    for one in fields.iter_mut().filter(|one| is_ours(one)) {
        if let Some(FieldsV1(Value::Object(all))) = &mut one.fields_v1 {
            all.retain(|key, value| key != SPEC || value.as_object().is_some_and(|spec| !spec.is_empty()));
        }
    }
    fields.retain(|one| one.fields_v1.as_ref().is_some_and(|all| all.0.as_object().is_some_and(|all| !all.is_empty())));
    Some(fields)
}

/// As the API server writes the names of fields.
const SPEC: &str = "f:spec";
const LIST: &str = "f:egress";

fn spec(of: &mut ManagedFieldsEntry) -> Option<&mut Map<String, Value>> {
    of.fields_v1.as_mut()?.0.get_mut(SPEC)?.as_object_mut()
}

fn made_spec(of: &mut ManagedFieldsEntry) -> Option<&mut Map<String, Value>> {
    let all = of.fields_v1.as_mut()?.0.as_object_mut()?;
    all.entry(SPEC).or_insert_with(|| json!({})).as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(all: &[(&str, &str, Value)]) -> ObjectMeta {
        let entry = |(manager, operation, fields): &(&str, &str, Value)| ManagedFieldsEntry {
            manager: Some((*manager).to_owned()),
            operation: Some((*operation).to_owned()),
            fields_v1: Some(FieldsV1(fields.clone())),
            ..ManagedFieldsEntry::default()
        };
        ObjectMeta { managed_fields: Some(all.iter().map(entry).collect()), ..ObjectMeta::default() }
    }

    #[test]
    fn the_list_is_owned_by_whom_it_was_before_and_our_annotation_by_us() {
        let note = json!({"f:metadata": {"f:annotations": {"f:x": {}}}});
        let mut both = note.clone();
        both["f:spec"] = json!({"f:egress": {}});
        let theirs = json!({"f:spec": {"f:egress": {}, "f:ingress": {}}});
        let only = json!({"f:spec": {"f:egress": {}}});
        let before = owned(&[("kubectl", "Apply", theirs.clone()), ("flux", "Apply", only.clone())]);
        let now = owned(&[("kubectl", "Apply", json!({"f:spec": {"f:ingress": {}}})), (MANAGER, "Update", both)]);
        let back = given_back(&before, &now);
        let expected = owned(&[("kubectl", "Apply", theirs), (MANAGER, "Update", note), ("flux", "Apply", only)]);
        assert_eq!(back, expected.managed_fields);
        assert_eq!(given_back(&before, &expected), None, "it is back already");
    }
}
