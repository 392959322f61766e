//! The annotations of namespaces, for pods that have none of their own. Only metadata is read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace as Object;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

use super::follow::{Change, Subject, follow};
use super::health::{Call, Health};

/// A namespace, as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespace {
    pub name: String,
    /// Only annotations under our prefixes.
    pub annotations: BTreeMap<String, String>,
}

/// Follows all namespaces. Ends when nobody listens.
pub async fn follow_all(client: Client, health: Health, tell: impl AsyncFnMut(Change<Namespace>) -> bool) {
    let subject = Subject {
        api: Api::<PartialObjectMeta<Object>>::all(client),
        call: Call::Namespaces,
        fields: None,
        labels: None,
    };
    let keep = |object: PartialObjectMeta<Object>| {
        let mut annotations = object.metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| super::pods::is_ours(key));
        Some(Namespace { name: object.metadata.name?, annotations })
    };
    follow(subject, health, keep, tell).await;
}
