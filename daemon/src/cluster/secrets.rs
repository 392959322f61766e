//! Secrets that are read by name: our own, and key pairs that a pod's annotations name where its namespace lets us. Never
//! a list of them.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
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

/// Makes one of the type `kubernetes.io/tls`, unless somebody else was faster: what is there then, is read the next time.
///
/// # Errors
/// When the server refuses; that is told to `health` too.
pub async fn create(
    client: &Client,
    namespace: &str,
    name: &str,
    data: Data,
    call: Call,
    health: &Health,
) -> Result<(), Trouble> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let mut secret = Secret { type_: Some("kubernetes.io/tls".into()), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secret.data = Some(data.into_iter().map(|(key, value)| (key, ByteString(value))).collect());
    let trouble = match tokio::time::timeout(ANSWER, api.create(&PostParams::default(), &secret)).await {
        Ok(Ok(_)) => {
            health.well(call);
            return Ok(());
        }
        Ok(Err(error)) => Trouble::of(&error),
        Err(_) => Trouble { class: "unreachable", text: "no answer in time".into(), wait: None },
    };
    if trouble.class == "409" {
        return Ok(());
    }
    health.ill(call, trouble.clone());
    Err(trouble)
}
