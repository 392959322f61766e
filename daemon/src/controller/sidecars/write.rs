//! Steps, done: each goes to the API server for itself, and one that fails keeps the later ones of its namespace from
//! being done, so that no pod is sent to what is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, Resource};
use nodetap_core::mesh::desired::Ours;
use nodetap_core::mesh::diff::Step;
use nodetap_core::mesh::names::{BASE, LABEL};
use nodetap_core::mesh::snapshot::PodKey;
use serde_json::{Map, Value, json};

use super::objects::SidecarObject;
use crate::cluster::client::ANSWER;
use crate::cluster::health::Trouble;

/// Who wrote it, in the API server's words: of all versions and replicas the same, or fields would be left behind.
pub(super) const MANAGER: &str = "nodetap-sidecar";

/// A step that was refused, with the server's words.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) namespace: String,
    /// The object, where it is a Sidecar that cannot be written.
    pub(super) sidecar: Option<String>,
    pub(super) trouble: Trouble,
}

/// From ours, by namespace and name, what somebody else had added was taken away at these times.
pub(super) type Cleaned = BTreeMap<(String, String), Vec<Instant>>;

/// So often in such a time: whoever adds it again and again is no person, and each round costs the mesh a push.
const CONTESTED: (usize, Duration) = (10, Duration::from_secs(60));

/// Does them in their order; says which were refused.
pub(super) async fn all<K: SidecarObject>(
    client: &Client,
    steps: Vec<Step>,
    known: &BTreeSet<(String, String)>,
    cleaned: &mut Cleaned,
) -> Vec<Refused> {
    let mut refused: Vec<Refused> = Vec::new();
    let mut waits: BTreeSet<String> = BTreeSet::new();
    for step in steps {
        let namespace = namespace(&step).to_owned();
        if waits.contains(&namespace) || refused.iter().any(|one| one.namespace == namespace) {
            continue;
        }
        let sidecar = if let Step::Apply(ours) = &step { Some(ours.name.clone()) } else { None };
        let answer = match tokio::time::timeout(ANSWER, one::<K>(client, &step, known, cleaned)).await {
            Ok(Ok(Done::Yes)) => {
                tracing::info!(?step, "done");
                continue;
            }
            Ok(Ok(Done::Later)) => {
                waits.insert(namespace);
                continue;
            }
            Ok(Ok(Done::Contested)) => Trouble {
                class: "409",
                text: "somebody else adds to it again and again: see its managedFields".into(),
                wait: None,
            },
            Ok(Err(error)) => Trouble::of(&error),
            Err(_) => Trouble { class: "unreachable", text: "no answer in time".into(), wait: None },
        };
        // A pod or an object that is gone, or is another one by now: the watch will say so.
        if matches!(step, Step::Delete { .. } | Step::Unlabel { .. }) && matches!(answer.class, "404" | "409") {
            continue;
        }
        refused.push(Refused { namespace, sidecar, trouble: answer });
    }
    refused
}

fn namespace(step: &Step) -> &str {
    match step {
        Step::Unlabel { pod } | Step::Label { pod, .. } => &pod.namespace,
        Step::Apply(ours) => &ours.namespace,
        Step::Delete { namespace, .. } => namespace,
    }
}

/// What came of a step that was not refused.
enum Done {
    Yes,
    /// The object has changed meanwhile: what follows waits until it was looked at again.
    Later,
    /// What somebody else has added is there again and again.
    Contested,
}

async fn one<K: SidecarObject>(
    client: &Client,
    step: &Step,
    known: &BTreeSet<(String, String)>,
    cleaned: &mut Cleaned,
) -> kube::Result<Done> {
    match step {
        Step::Unlabel { pod } => label(client, pod, Value::Null).await.map(|()| Done::Yes),
        Step::Label { pod, value } => label(client, pod, json!(value)).await.map(|()| Done::Yes),
        Step::Apply(ours) => {
            let object = (ours.namespace.clone(), ours.name.clone());
            let exists = known.contains(&object);
            apply::<K>(client, ours, exists, cleaned.entry(object).or_default()).await
        }
        Step::Delete { namespace, name, uid, resource_version } => {
            let just = Preconditions { uid: Some(uid.clone()), resource_version: Some(resource_version.clone()) };
            let params = DeleteParams::default().preconditions(just);
            Api::<K>::namespaced(client.clone(), namespace).delete(name, &params).await.map(|_| Done::Yes)
        }
    }
}

async fn label(client: &Client, pod: &PodKey, value: Value) -> kube::Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    // The uid is a condition: another pod of this name is left alone.
    let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid, "labels": {LABEL: value}}}));
    pods.patch_metadata(&pod.name, &params, &patch).await.map(|_| ())
}

/// First without a trace, so that what a webhook refuses is refused before anything is half written. Fields that somebody
/// else owns are taken over only in an object that is ours already: one that was made meanwhile under our name makes it
/// fail. What somebody has added to ours stays theirs in an apply, and would stay for ever: it is taken away.
async fn apply<K: SidecarObject>(
    client: &Client,
    ours: &Ours,
    exists: bool,
    cleaned: &mut Vec<Instant>,
) -> kube::Result<Done> {
    let api = Api::<K>::namespaced(client.clone(), &ours.namespace);
    let wanted = object::<K>(ours);
    let patch = Patch::Apply(&wanted);
    let params = PatchParams::apply(MANAGER);
    let params = if exists { params.force() } else { params };
    api.patch(&ours.name, &params.clone().dry_run(), &patch).await?;
    let (metadata, spec) = api.patch(&ours.name, &params, &patch).await?.parts();
    let Some(added) = added(&metadata, &spec, ours).filter(|_| exists) else { return Ok(Done::Yes) };
    cleaned.retain(|when| when.elapsed() < CONTESTED.1);
    if cleaned.len() >= CONTESTED.0 {
        return Ok(Done::Contested);
    }
    cleaned.push(Instant::now());
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&ours.name, &params, &Patch::Merge(added)).await {
        // Somebody was faster, and the watch brings what they did.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Done::Later),
        done => done.map(|_| Done::Yes),
    }
}

/// What takes away all that is not as we write it, from just this state of the object; `None`: there is nothing.
fn added(metadata: &ObjectMeta, spec: &Value, ours: &Ours) -> Option<Value> {
    let stray = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(BASE));
    let stray = stray && !ours.annotations.contains_key(BASE);
    let spec = without(spec, &ours.spec.json());
    if spec.is_none() && !stray {
        return None;
    }
    let mut patch = json!({"metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version}});
    if stray {
        patch["metadata"]["annotations"] = json!({BASE: null});
    }
    if let Some(spec) = spec {
        patch["spec"] = spec;
    }
    Some(patch)
}

/// A merge patch that leaves of `is` only keys of `wanted`. Lists are whole, and are what was applied.
fn without(is: &Value, wanted: &Value) -> Option<Value> {
    let (is, wanted) = (is.as_object()?, wanted.as_object()?);
    let one = |(key, is): (&String, &Value)| match wanted.get(key) {
        None => Some((key.clone(), Value::Null)),
        Some(wanted) => Some((key.clone(), without(is, wanted)?)),
    };
    let patch: Map<String, Value> = is.iter().filter_map(one).collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// As it is written.
pub(super) fn object<K: Resource<DynamicType = ()>>(ours: &Ours) -> Value {
    let mut metadata = json!({"name": ours.name, "namespace": ours.namespace, "labels": ours.labels});
    if !ours.annotations.is_empty() {
        metadata["annotations"] = json!(ours.annotations);
    }
    json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "spec": ours.spec.json(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_added_to_ours_is_taken_away_and_nothing_else() {
        let wanted = json!({"workloadSelector": {"labels": {"a": "1"}}, "ingress": [{"port": 1}], "egress": []});
        assert_eq!(without(&wanted, &wanted), None);
        let mut is = wanted.clone();
        is["workloadSelector"]["labels"]["b"] = json!("2");
        is["outboundTrafficPolicy"] = json!({"mode": "REGISTRY_ONLY"});
        let patch = json!({"workloadSelector": {"labels": {"b": null}}, "outboundTrafficPolicy": null});
        assert_eq!(without(&is, &wanted), Some(patch));
    }
}
