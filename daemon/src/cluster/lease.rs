//! A sign of life that others can read: a Lease of our own namespace, renewed for as long as we run. It is no lock.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::backoff::Backoff;
use super::client::{ANSWER, Connection};
use super::condition::MANAGER;
use super::follow::random;
use super::health::{Call, Health, Trouble};

/// The beginning of the names of agents' Leases; the rest is the node's.
pub const AGENT: &str = "nodetap-agent-";

/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// After so long without renewal others may take us for gone.
const DURATION_SECONDS: u32 = 40;

/// Renews the Lease `name`, for ever. `holder` tells one life of ours from the next.
pub async fn renew(connection: Connection, name: String, holder: String, health: Health) {
    let api = Api::<Lease>::namespaced(connection.client, &connection.namespace);
    let params = PatchParams::apply(MANAGER).force();
    let acquired = micros();
    let mut backoff = Backoff::default();
    loop {
        let patch = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "nodetap"}},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": DURATION_SECONDS,
                "acquireTime": acquired,
                "renewTime": micros(),
            },
        });
        let wait = match tokio::time::timeout(ANSWER, api.patch(&name, &params, &Patch::Apply(patch))).await {
            Ok(Ok(_)) => {
                health.well(Call::Lease);
                backoff.success();
                RENEW
            }
            Ok(Err(error)) => failed(&health, &mut backoff, Trouble::of(&error)),
            Err(_) => {
                let trouble = Trouble { class: "unreachable", text: "no answer in time".into(), wait: None };
                failed(&health, &mut backoff, trouble)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

fn failed(health: &Health, backoff: &mut Backoff, trouble: Trouble) -> Duration {
    let wait = backoff.after_failure(trouble.wait, random());
    health.ill(Call::Lease, trouble);
    wait
}

/// As the API's MicroTime is written.
fn micros() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
