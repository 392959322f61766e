//! Sidecars of Istio's for pods whose inbound traffic comes to listeners of ours: what is watched becomes a snapshot, and
//! what there should be is decided of it by [`nodetap_core::mesh`]; only what differs is written. Without Istio's resources
//! nothing is watched but their appearance. Objects of users are changed in one place only, [`egress`], and only where they
//! ask for it on that object.

mod egress;
mod known;
mod left;
pub(crate) mod lists;
mod objects;
mod plan;
mod read;
mod tell;
mod write;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service as ServiceObject;
use kube::api::Api;
use nodetap_core::mesh::desired::Desired;
use nodetap_core::mesh::diff::{Observed, diff};
use nodetap_core::mesh::managed::Managed;
use nodetap_core::mesh::snapshot::Settings;
use tokio::sync::mpsc;

use self::known::{Known, Renewed, Seen};
pub(super) use self::left::{Left, left};
use self::objects::{IstioObject as _, NodeObject, PodObject, SidecarObject, SidecarV1, SidecarV1Beta1};
pub(super) use self::plan::print;
use self::tell::Teller;
use crate::cluster::Connection;
use crate::cluster::follow::{Subject, follow};
use crate::cluster::health::{Call, Health, Trouble};
use crate::cluster::lease::AGENT;

/// Istio's resources.
const GROUP: &str = "networking.istio.io";
/// How often it is looked whether they are there.
const LOOK: Duration = Duration::from_secs(10);
/// Changes that wait to be looked at; the watches wait then.
const CHANGES: usize = 256;
/// Several changes come together; each is looked at with those that follow in this time.
const TOGETHER: Duration = Duration::from_millis(100);
/// An agent that says nothing is noticed without a change.
const TICK: Duration = Duration::from_secs(2);
/// After something was refused.
const AGAIN: Duration = Duration::from_secs(5);

/// Which version of Sidecars this cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V1Beta1,
}

/// Watches and writes, for ever: while we lead.
pub(super) async fn keep(connection: &Connection, settings: &Settings, identity: &str, health: Health) {
    let version = loop {
        match version(connection).await {
            Ok(Some(version)) => break version,
            Ok(None) => health.well(Call::Mesh),
            Err(error) => health.ill(Call::Mesh, Trouble::of(&error)),
        }
        tokio::time::sleep(LOOK).await;
    };
    match version {
        Version::V1 => with::<SidecarV1>(connection, settings, identity, health).await,
        Version::V1Beta1 => with::<SidecarV1Beta1>(connection, settings, identity, health).await,
    }
}

/// The newest one that there is.
async fn version(connection: &Connection) -> kube::Result<Option<Version>> {
    for (version, word) in [(Version::V1, "v1"), (Version::V1Beta1, "v1beta1")] {
        match connection.client.list_api_group_resources(&format!("{GROUP}/{word}")).await {
            Ok(list) if list.resources.iter().any(|one| one.name == "sidecars") => return Ok(Some(version)),
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn with<K: SidecarObject>(connection: &Connection, settings: &Settings, identity: &str, health: Health) {
    let (seen_tx, seen) = mpsc::channel(CHANGES);
    tokio::join!(
        watch::<K>(connection, health.clone(), seen_tx),
        decide::<K>(connection, settings, identity, health, seen)
    );
}

async fn watch<K: SidecarObject>(connection: &Connection, health: Health, seen: mpsc::Sender<Seen>) {
    let Connection { client, namespace } = connection;
    macro_rules! follow_all {
        ($api:expr, $keep:expr, $seen:path) => {
            follow_all!($api, $keep, $seen, Call::Mesh)
        };
        ($api:expr, $keep:expr, $seen:path, $call:expr) => {
            follow(
                Subject { api: $api, call: $call, fields: None, labels: None },
                health.clone(),
                $keep,
                async |change| seen.send($seen(change)).await.is_ok(),
            )
        };
    }
    let sidecar = |object: K| {
        let (metadata, spec) = object.parts();
        read::sidecar(metadata, &spec)
    };
    let virtual_service = |object: K::VirtualService| {
        let (metadata, spec) = object.parts();
        read::virtual_service(metadata, &spec)
    };
    let routes = Api::<K::VirtualService>::all(client.clone());
    tokio::join!(
        follow_all!(Api::<PodObject>::all(client.clone()), |object| read::pod(object).map(Box::new), Seen::Pods),
        follow_all!(Api::<ServiceObject>::all(client.clone()), read::service, Seen::Services),
        follow_all!(Api::<K>::all(client.clone()), sidecar, Seen::Sidecars),
        follow_all!(routes, virtual_service, Seen::VirtualServices, Call::Routes),
        follow_all!(Api::<NodeObject>::all(client.clone()), read::node, Seen::Nodes),
        follow_all!(Api::<Lease>::namespaced(client.clone(), namespace), lease, Seen::Leases),
    );
}

/// The node of an agent, and what its Lease says.
fn lease(object: Lease) -> Option<(String, Renewed)> {
    let node = object.metadata.name?.strip_prefix(AGENT)?.to_owned();
    let spec = object.spec?;
    let lasts = u64::try_from(spec.lease_duration_seconds?).ok()?;
    let at = format!("{:?} {:?}", spec.holder_identity, spec.renew_time);
    Some((node, Renewed { at, lasts: Duration::from_secs(lasts) }))
}

async fn decide<K: SidecarObject>(
    connection: &Connection,
    settings: &Settings,
    identity: &str,
    health: Health,
    mut seen: mpsc::Receiver<Seen>,
) {
    let (mut known, mut egress) = (Known::default(), egress::Writer::default());
    let (mut teller, mut cleaned) = (Teller::new(connection, identity), write::Cleaned::default());
    loop {
        tokio::select! {
            first = seen.recv() => match first {
                None => return,
                Some(first) => take(&mut known, first, &mut seen).await,
            },
            () = tokio::time::sleep(TICK) => {}
        }
        let Some(snapshot) = known.snapshot(settings, Instant::now()) else { continue };
        let (desired, observed) = (Desired::of(&snapshot), Observed::of(&snapshot));
        let steps = diff(&desired, &observed);
        let ours: BTreeSet<(String, String)> = observed.sidecars.into_keys().collect();
        let managed = Managed::of(&snapshot, &desired);
        cleaned.retain(|object, _| ours.contains(object));
        let refused = write::all::<K>(&connection.client, steps, &ours, &mut cleaned).await;
        egress.write::<K>(&connection.client, &managed.changes, &health).await;
        teller.of_pods(&snapshot, &desired, &refused).await;
        teller.of_sidecars::<K>(&managed.notices, egress.refused()).await;
        match refused.into_iter().map(|one| one.trouble).next() {
            None => health.well(Call::Sidecar),
            Some(first) => {
                let wait = first.wait.unwrap_or(AGAIN);
                health.ill(Call::Sidecar, first);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Takes in what has come, and what comes with it.
async fn take(known: &mut Known, first: Seen, seen: &mut mpsc::Receiver<Seen>) {
    known.take(first, Instant::now());
    let end = tokio::time::Instant::now() + TOGETHER;
    while let Ok(Some(next)) = tokio::time::timeout_at(end, seen.recv()).await {
        known.take(next, Instant::now());
    }
}
