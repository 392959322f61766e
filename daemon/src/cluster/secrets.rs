//! Secrets that are read by name: our own, and key pairs that a pod's annotations name where its namespace lets us. Never
//! a list of them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::client::ANSWER;
use super::health::{Call, Health, Trouble};

/// What a Secret holds, by key.
pub type Data = BTreeMap<String, Vec<u8>>;

/// Reads one; `None`: there is none.
///
/// # Errors
/// When it could not be asked for; that is told to `health` too.
pub async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
    call: Call,
    health: &Health,
) -> Result<Option<Data>, Trouble> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let answer = tokio::time::timeout(ANSWER, api.get_opt(name)).await;
    let trouble = match answer {
        Ok(Ok(secret)) => {
            health.well(call);
            let data = secret.map(|secret| secret.data.unwrap_or_default());
            return Ok(data.map(|data| data.into_iter().map(|(key, value)| (key, value.0)).collect()));
        }
        Ok(Err(error)) => Trouble::of(&error),
        Err(_) => Trouble { class: "unreachable", text: "no answer in time".into(), wait: None },
    };
    health.ill(call, trouble.clone());
    Err(trouble)
}
