//! What is left of ours on objects of the cluster, and taking away what pods are sent to us by: for whoever uninstalls.

use std::collections::BTreeSet;

use kube::{Api, Client};
use nodetap_core::mesh::snapshot::{PodKey, Settings};
use nodetap_core::mesh::uninstall::Uninstall;
use nodetap_core::pod::condition;
use nodetap_core::pod::keys::RESOLVED;

use super::lists::all;
use super::objects::{PodObject, SidecarObject, SidecarV1, SidecarV1Beta1};
use super::{Version, egress, known, read, version, write};
use crate::cluster::Connection;
use crate::cluster::health::Trouble;

/// What is left, and of which version Sidecars are here.
#[derive(Debug)]
pub(in crate::controller) struct Left {
    pub(in crate::controller) plan: Uninstall,
    version: Option<Version>,
}

/// Looks at all of the cluster.
///
/// # Errors
/// What the API server says.
pub(in crate::controller) async fn left(connection: &Connection) -> kube::Result<Left> {
    let client = &connection.client;
    let version = version(connection).await?;
    let sidecars = match version {
        None => Vec::new(),
        Some(Version::V1) => sidecars::<SidecarV1>(client).await?,
        Some(Version::V1Beta1) => sidecars::<SidecarV1Beta1>(client).await?,
    };
    let pods = all(Api::<PodObject>::all(client.clone())).await?;
    let marked: BTreeSet<PodKey> = pods.iter().filter_map(marked).collect();
    let pods = pods.into_iter().filter_map(read::pod).collect();
    let snapshot = known::of_lists(pods, Vec::new(), sidecars, Vec::new(), &Settings::default());
    Ok(Left { plan: Uninstall::of(snapshot, marked), version })
}

impl Left {
    /// Takes away what pods are sent to us by; says what was refused.
    pub(in crate::controller) async fn undo(&self, client: &Client) -> Vec<(String, Trouble)> {
        match self.version {
            None => Vec::new(),
            Some(Version::V1) => self.undo_as::<SidecarV1>(client).await,
            Some(Version::V1Beta1) => self.undo_as::<SidecarV1Beta1>(client).await,
        }
    }

    async fn undo_as<K: SidecarObject>(&self, client: &Client) -> Vec<(String, Trouble)> {
        let refused =
            write::all::<K>(client, self.plan.steps.clone(), &BTreeSet::new(), &mut write::Cleaned::default()).await;
        let refused = refused.into_iter().map(|one| (format!("a step in namespace {}", one.namespace), one.trouble));
        let unchanged = egress::all::<K>(client, &self.plan.egress).await.into_iter();
        let unchanged =
            unchanged.map(|(change, trouble)| (format!("Sidecar {}/{}", change.namespace, change.name), trouble));
        refused.chain(unchanged).collect()
    }
}

async fn sidecars<K: SidecarObject>(client: &Client) -> kube::Result<Vec<nodetap_core::mesh::sidecar::Sidecar>> {
    let read = |object: K| {
        let (metadata, spec) = object.parts();
        read::sidecar(metadata, &spec)
    };
    Ok(all(Api::<K>::all(client.clone())).await?.into_iter().filter_map(read).collect())
}

/// A pod with our condition or annotation, also one that has ended.
fn marked(pod: &PodObject) -> Option<PodKey> {
    let resolved = pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(RESOLVED));
    let said = pod.status.conditions.iter().any(|one| one.r#type == condition::TYPE);
    let (namespace, name, uid) = (&pod.metadata.namespace, &pod.metadata.name, &pod.metadata.uid);
    let key = PodKey { namespace: namespace.clone()?, name: name.clone()?, uid: uid.clone()? };
    (resolved || said).then_some(key)
}
