//! `nodetap controller --uninstall`: takes away what we have written on objects that are not ours, and lets agents end only
//! when no pod is sent to them any more. Whoever runs it deletes the rest, which is ours alone.
//!
//! It can be run again at any time: it looks at what is there. Two things are left to be done by hand, because pods may
//! need them: the ConfigMaps of trust bundles, and annotations and labels that users have written.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::metadata::PartialObjectMeta;
use nodetap_core::mesh::names::LABEL;
use nodetap_core::mesh::snapshot::PodKey;
use nodetap_core::mesh::uninstall::Uninstall;
use nodetap_core::pod::condition;
use nodetap_core::pod::keys::RESOLVED;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::election::Candidate;
use super::sidecars::{self, Left};
use crate::cluster::Connection;

/// Who wrote it, in the API server's words.
const MANAGER: &str = "nodetap-uninstall";
/// Those of ours that write or serve.
const CONTROLLER: &str = "nodetap-controller";
const AGENT: &str = "nodetap-agent";
/// How often it is looked at what is left; others write at the same time.
const PASSES: usize = 20;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Until the controllers have let go of the Lease.
const LEASE: Duration = Duration::from_secs(60);
/// Until all agents have ended: each has a grace of 60 s.
const AGENTS: Duration = Duration::from_secs(180);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what}: {source}; nothing that pods need was taken away before it: run it again")]
    Api { what: String, source: Box<kube::Error> },
    #[error(
        "in which namespace nodetap is was not said: name it with --namespace, or another one's Lease would be taken"
    )]
    Where,
    #[error("the Lease {CONTROLLER} is still held after {} s: end all controllers, and run it again", LEASE.as_secs())]
    Held,
    #[error("another controller has taken the Lease meanwhile: end all controllers, and run it again")]
    Lost,
    #[error("{0} was refused: {1}; correct that, and run it again")]
    Refused(String, String),
    #[error("{0} things of ours are left after {PASSES} looks, the first is {1}; run it again")]
    Left(usize, String),
    #[error("agents have not ended within {seconds} s: {left}; look at them, and run it again")]
    Agents { seconds: u64, left: String },
}

/// What would be done, one line a step, in their order.
///
/// # Errors
/// What the API server says.
pub(super) async fn print(connection: &Connection) -> Result<String, Error> {
    let mut first = look(connection).await?.plan;
    let last = Uninstall { marked: std::mem::take(&mut first.marked), ..Uninstall::default() };
    let namespace = &connection.namespace;
    Ok(format!("Deployment {namespace}/{CONTROLLER}: deleted\n{first}DaemonSet {namespace}/{AGENT}: deleted\n{last}"))
}

/// Does it. `drain`: how long agents serve on after the last pod was told otherwise.
///
/// # Errors
/// What could not be done, and that nobody is worse off for it.
pub(super) async fn run(connection: &Connection, candidate: &Candidate, drain: Duration) -> Result<(), Error> {
    let deployments = Api::<Deployment>::namespaced(connection.client.clone(), &connection.namespace);
    gone(deployments.delete(CONTROLLER, &DeleteParams::default()).await.map(drop), "delete the Deployment")?;
    let (lead_tx, mut lead) = watch::channel(false);
    let work = async {
        // Nobody writes but us from now on: what we take away would come again.
        let held = async { lead.wait_for(|leads| *leads).await.is_ok() };
        if !tokio::time::timeout(LEASE, held).await.unwrap_or(false) {
            return Err(Error::Held);
        }
        tokio::select! {
            done = undo(connection, drain) => done,
            _ = lead.wait_for(|leads| !*leads) => Err(Error::Lost),
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = candidate.run(&lead_tx) => Err(Error::Lost),
    };
    candidate.resign().await;
    done
}

async fn undo(connection: &Connection, drain: Duration) -> Result<(), Error> {
    let Connection { client, namespace } = connection;
    let mut switched = None;
    let mut passes = 0;
    loop {
        let left = look(connection).await?;
        if left.plan.is_apart() {
            // One that was interrupted may have told pods a moment ago.
            switched = switched.or_else(|| (!left.plan.marked.is_empty()).then(Instant::now));
            break;
        }
        passes += 1;
        if passes > PASSES {
            let first = left.plan.to_string().lines().next().unwrap_or_default().to_owned();
            return Err(Error::Left(left.plan.steps.len() + left.plan.egress.len(), first));
        }
        if let Some((what, trouble)) = left.undo(client).await.into_iter().next() {
            return Err(Error::Refused(what, trouble.text));
        }
        if !left.plan.steps.is_empty() {
            switched = Some(Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
    if let Some(at) = switched {
        tracing::info!(seconds = drain.as_secs(), "no pod is sent to us; what is open is served on");
        tokio::time::sleep_until(at + drain).await;
    }
    let agents = Api::<DaemonSet>::namespaced(client.clone(), namespace);
    gone(agents.delete(AGENT, &DeleteParams::foreground()).await.map(drop), "delete the DaemonSet")?;
    ended(connection).await?;
    for _ in 0..PASSES {
        let marked = look(connection).await?.plan.marked;
        if marked.is_empty() {
            tracing::info!("nothing of ours is left on anybody's objects");
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
        for pod in &marked {
            let what = || format!("clean the pod {}/{}", pod.namespace, pod.name);
            clean(connection, pod).await.map_err(|source| Error::Api { what: what(), source: Box::new(source) })?;
        }
    }
    let marked = look(connection).await?.plan.marked;
    marked
        .first()
        .map_or(Ok(()), |first| Err(Error::Left(marked.len(), format!("pod {}/{}", first.namespace, first.name))))
}

async fn look(connection: &Connection) -> Result<Left, Error> {
    let failed = |source| Error::Api { what: "read the cluster".into(), source: Box::new(source) };
    sidecars::left(connection).await.map_err(failed)
}

/// Waits for the pods of agents to be gone.
async fn ended(connection: &Connection) -> Result<(), Error> {
    let pods = Api::<PartialObjectMeta<Pod>>::namespaced(connection.client.clone(), &connection.namespace);
    let theirs = ListParams::default().labels(&format!("app.kubernetes.io/name={AGENT}"));
    let end = Instant::now() + AGENTS;
    loop {
        let left = pods.list_metadata(&theirs).await;
        let left = left.map_err(|source| Error::Api { what: "list agents".into(), source: Box::new(source) })?;
        let Some(first) = left.items.first() else { return Ok(()) };
        if Instant::now() > end {
            let name = first.metadata.name.clone().unwrap_or_default();
            let left = format!("{name}, and {} others", left.items.len() - 1);
            return Err(Error::Agents { seconds: AGENTS.as_secs(), left });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A pod that is gone, or whose name another one has, needs nothing.
async fn clean(connection: &Connection, pod: &PodKey) -> kube::Result<()> {
    let pods = Api::<Pod>::namespaced(connection.client.clone(), &pod.namespace);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let metadata = json!({"uid": pod.uid, "annotations": {RESOLVED: null}, "labels": {LABEL: null}});
    let condition = json!({"type": condition::TYPE, "$patch": "delete"});
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}));
    let done = match pods.patch_metadata(&pod.name, &params, &Patch::Merge(json!({"metadata": metadata}))).await {
        Ok(_) => pods.patch_status(&pod.name, &params, &patch).await.map(drop),
        Err(error) => Err(error),
    };
    match done {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        done => done,
    }
}

/// What is not there need not be deleted.
fn gone(done: kube::Result<()>, what: &str) -> Result<(), Error> {
    match done {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        done => done.map_err(|source| Error::Api { what: what.to_owned(), source: Box::new(source) }),
    }
}
