//! What is captured. Made once and shared by all connections of it; what may differ between two connections of one pod
//! (the container) stands with the connection.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TargetKind {
    /// A local command, or the proxy that was started by hand.
    Command,
    Pod,
}

/// A pod or a command. Shown, it is `namespace/name` or the command's name, which tells it from others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    pub kind: TargetKind,
    pub name: String,
    pub namespace: Option<String>,
    /// Whose pod it is, with the kind: `Deployment/web`.
    pub workload: Option<String>,
    pub node: Option<String>,
    /// Those of the pod's labels that were chosen to be recorded.
    pub labels: BTreeMap<String, String>,
}

impl Target {
    pub fn command(name: impl Into<String>) -> Arc<Self> {
        let (namespace, workload, node, labels) = (None, None, None, BTreeMap::new());
        Arc::new(Self { kind: TargetKind::Command, name: name.into(), namespace, workload, node, labels })
    }

    /// The pod's name, if it is one.
    pub fn pod(&self) -> Option<&str> {
        (self.kind == TargetKind::Pod).then_some(&*self.name)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
