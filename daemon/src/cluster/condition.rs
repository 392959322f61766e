//! The condition of a pod that says what is captured of it: how it is written, and nothing about what it says.

use kube::api::{Api, Patch, PatchParams};
use nodetap_core::pod::condition::TYPE;
use serde_json::json;

use super::pods::Object;

/// Who writes it, for the API server's records of managed fields.
pub(super) const MANAGER: &str = "nodetap-agent";

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word in CamelCase.
    pub reason: String,
    pub message: String,
}

/// Which pod: the name may have gone to another one since.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// Writes it. `since`: when the status became what it is, if it is not now.
pub(super) async fn write(
    client: kube::Client,
    pod: &PodName,
    condition: &Condition,
    since: Option<&str>,
) -> kube::Result<()> {
    let now = now();
    let patch = json!({
        // A pod that took the name over has another one: then this is a conflict.
        "metadata": {"uid": pod.uid},
        "status": {"conditions": [{
            "type": TYPE,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "lastTransitionTime": since.unwrap_or(&now),
        }]},
    });
    let api = Api::<Object>::namespaced(client, &pod.namespace);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    // Conditions are merged by their type (strategic merge): nobody else's is touched.
    api.patch_status(&pod.name, &params, &Patch::Strategic(patch)).await.map(|_| ())
}

/// As Kubernetes writes times: RFC 3339 with whole seconds.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
