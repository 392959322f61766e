//! What stands on workloads, put on their pods: agents read pods and namespaces only. Deployments, StatefulSets,
//! DaemonSets, Jobs, CronJobs and ReplicaSets are watched for their metadata alone; on their pods one annotation,
//! `nodetap.io/resolved`, is written when it differs, and removed when nothing is left to say. Without us, what was
//! written stays.

mod family;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::core::metadata::PartialObjectMeta;
use kube::{Client, ResourceExt as _};
use nodetap_core::pod::keys::RESOLVED;
use serde_json::json;
use tokio::sync::mpsc;

use self::family::{Family, Kind, Member, Write};
use crate::cluster::follow::{Change, Subject, follow};
use crate::cluster::health::{Call, Health, Trouble};

/// Who wrote it, in the API server's words.
const MANAGER: &str = "nodetap-controller";
/// Writes at a time.
const WRITES: usize = 8;
/// Changes that wait to be looked at; the watches wait then.
const CHANGES: usize = 256;
/// How long one write may take.
const ANSWER: Duration = Duration::from_secs(15);
/// After a write that failed: for all of them, because the API server is one.
const PAUSE: Duration = Duration::from_secs(2);

/// What was seen of one kind of object.
type Seen = (Kind, Change<Member>);

/// Watches and writes, for ever: while we lead.
pub(super) async fn resolve(client: Client, health: Health) {
    let (seen_tx, seen) = mpsc::channel(CHANGES);
    let watches =
        [Kind::Pod, Kind::Deployment, Kind::ReplicaSet, Kind::StatefulSet, Kind::DaemonSet, Kind::Job, Kind::CronJob];
    let watches = join_all(watches.map(|kind| watch(kind, client.clone(), health.clone(), seen_tx.clone())));
    drop(seen_tx);
    tokio::join!(watches, write(client, health.clone(), seen));
}

async fn watch(kind: Kind, client: Client, health: Health, seen: mpsc::Sender<Seen>) {
    match kind {
        Kind::Pod => of::<Pod>(kind, client, health, seen).await,
        Kind::Deployment => of::<Deployment>(kind, client, health, seen).await,
        Kind::ReplicaSet => of::<ReplicaSet>(kind, client, health, seen).await,
        Kind::StatefulSet => of::<StatefulSet>(kind, client, health, seen).await,
        Kind::DaemonSet => of::<DaemonSet>(kind, client, health, seen).await,
        Kind::Job => of::<Job>(kind, client, health, seen).await,
        Kind::CronJob => of::<CronJob>(kind, client, health, seen).await,
    }
}

async fn of<K>(kind: Kind, client: Client, health: Health, seen: mpsc::Sender<Seen>)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let subject =
        Subject { api: Api::<PartialObjectMeta<K>>::all(client), call: Call::Workloads, fields: None, labels: None };
    let keep = |object: PartialObjectMeta<K>| member(&object);
    let tell = async |change| seen.send((kind, change)).await.is_ok();
    follow(subject, health, keep, tell).await;
}

fn member<K>(object: &PartialObjectMeta<K>) -> Option<Member> {
    let metadata = &object.metadata;
    let owners = metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
    Some(Member {
        uid: metadata.uid.clone()?,
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
        owner: owner.map(|owner| (owner.kind.clone(), owner.uid.clone())),
        annotations: family::ours(metadata.annotations.clone().unwrap_or_default()),
        going: metadata.deletion_timestamp.is_some(),
    })
}

async fn write(client: Client, health: Health, mut seen: mpsc::Receiver<Seen>) {
    let mut family = Family::default();
    let mut waiting: VecDeque<Write> = VecDeque::new();
    let mut sending = FuturesUnordered::new();
    // One write to a pod at a time: of two, nobody knows which comes last.
    let mut busy: BTreeSet<String> = BTreeSet::new();
    let mut pause: Option<Instant> = None;
    loop {
        let room = sending.len() < WRITES && pause.is_none_or(|until| until <= Instant::now());
        if room && let Some(write) = waiting.pop_front() {
            busy.insert(write.uid.clone());
            sending.push(patch(client.clone(), write));
            continue;
        }
        let until = pause.filter(|until| *until > Instant::now());
        tokio::select! {
            change = seen.recv() => match change {
                None => return,
                Some((kind, change)) => {
                    for pod in family.apply(kind, change) {
                        waiting.retain(|write| write.uid != pod);
                        if !busy.contains(&pod) {
                            waiting.extend(family.write(&pod));
                        }
                    }
                }
            },
            Some((written, answer)) = sending.next() => {
                busy.remove(&written.uid);
                match answer {
                    Ok(()) => {
                        health.well(Call::Resolved);
                        family.written(&written);
                    }
                    // It is gone, or another one has its name: the watch will say so.
                    Err(trouble) if matches!(trouble.class, "404" | "409") => continue,
                    Err(trouble) => {
                        pause = Some(Instant::now() + trouble.wait.unwrap_or(PAUSE));
                        health.ill(Call::Resolved, trouble);
                    }
                }
                // Its workload may say something else by now.
                waiting.extend(family.write(&written.uid));
            }
            () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now).into()), if until.is_some() => {}
        }
    }
}

async fn patch(client: Client, write: Write) -> (Write, Result<(), Trouble>) {
    let pods = Api::<Pod>::namespaced(client, &write.namespace);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    // The uid is a condition: another pod of this name is left alone.
    let patch = Patch::Merge(json!({"metadata": {"uid": write.uid, "annotations": {RESOLVED: write.text}}}));
    let sent = pods.patch_metadata(&write.name, &params, &patch);
    let answer = match tokio::time::timeout(ANSWER, sent).await {
        Ok(Ok(pod)) => {
            tracing::debug!(namespace = write.namespace, pod = pod.name_any(), text = write.text, "resolved");
            Ok(())
        }
        Ok(Err(error)) => Err(Trouble::of(&error)),
        Err(_) => Err(Trouble { class: "unreachable", text: "no answer in time".into(), wait: None }),
    };
    (write, answer)
}
