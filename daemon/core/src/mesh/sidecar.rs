//! A `Sidecar` of Istio's, as it is read and as ours is written. Of somebody else's only what is decided by is looked at;
//! the rest is carried on as it stands, fields that are not known here included.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::names;

/// An object in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sidecar {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    /// Seconds since 1970.
    pub created: i64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub spec: Spec,
    /// Why that is not what it says, where its spec could not be read.
    pub unreadable: Option<String>,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// `{}` is not the same as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<Selector>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Ingress>,
    /// `egress`, `outboundTrafficPolicy`, `inboundConnectionPool`, and whatever else there will be.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Whom it is for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Selector {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A port, and where its traffic goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    pub port: Port,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_endpoint: Option<String>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The port of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Port {
    pub number: u16,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The spec of a Sidecar that is not what Istio describes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Spec {
    /// Reads it. What has no shape at all selects whom it could select, and cannot be a base.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(spec: &Value) -> Result<Self, Error> {
        serde_json::from_value(spec.clone()).map_err(|error| Error(error.to_string()))
    }

    /// As the API server is given it.
    pub fn json(&self) -> Value {
        // Maps with keys of text and values of JSON: nothing in it can fail.
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Sidecar {
    /// `shop/web`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Did we make it? Both the label and the name say so: a copy of ours under another name is somebody else's.
    pub fn is_ours(&self) -> bool {
        let (key, value) = names::MANAGED;
        self.name.starts_with(names::PREFIX) && self.labels.get(key).is_some_and(|said| said == value)
    }
}
