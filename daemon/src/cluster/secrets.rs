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

/// Reads one of our own namespace, and makes it first when there is none.
///
/// # Errors
/// With a sentence, when it can be neither read nor made; what the server refused is told to `health` too.
pub async fn read_or_create(
    client: &Client,
    namespace: &str,
    name: &str,
    make: impl FnOnce() -> Result<Data, String>,
    call: Call,
    health: &Health,
) -> Result<Data, String> {
    let text = |trouble: Trouble| trouble.text;
    if let Some(data) = read(client, namespace, name, call, health).await.map_err(text)? {
        return Ok(data);
    }
    create(client, namespace, name, make()?, call, health).await.map_err(text)?;
    // Somebody else may have been faster: what is there counts.
    let data = read(client, namespace, name, call, health).await.map_err(text)?;
    data.ok_or_else(|| "there is none".to_owned())
}

/// Makes one of the type `kubernetes.io/tls`, unless somebody else was faster: what is there then, is read the next time.
///
/// # Errors
/// When the server refuses; that is told to `health` too.
async fn create(
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
