//! `nodetap controller`: every replica serves the aggregated API ([`api`]: asks all agents, shows one namespace); the one
//! that holds the Lease ([`election`]) writes: certificates ([`certificates`]), the APIService's authority
//! ([`api_service`]), what workloads say, on their pods ([`resolve`]), Istio's Sidecars ([`sidecars`]), and the roots that
//! pods are to trust, in namespaces that ask for them ([`trust_bundle`]). [`uninstall`] takes away what was written on
//! objects of others. While no controller runs, agents capture as they did; what is missing is the API, and changes to
//! workloads.

mod agents;
mod api;
mod api_service;
mod certificates;
mod election;
mod form;
mod front_proxy;
mod live;
mod merge;
mod metrics;
pub mod options;
mod resolve;
pub(crate) mod sidecars;
mod source;
#[cfg(test)]
mod tests;
mod trust_bundle;
mod uninstall;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use nodetap_core::mesh::snapshot::Settings;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::{oneshot, watch};

use self::agents::follow_agents;
use self::api::Ready;
use self::certificates::{CONTROLLER_SECRET, Certificates};
use self::election::Candidate;
use self::front_proxy::FrontProxy;
use self::metrics::{Answers, Numbers};
use self::options::Controller;
use crate::cluster::follow::{Change, Subject, follow};
use crate::cluster::health::{Call, Health, Trouble};
use crate::cluster::{self, Connection, client};
use crate::query::identity::Identity;
use crate::telemetry::{self, Metrics, Serving};

/// How often certificates are looked at.
const LOOK: Duration = Duration::from_secs(60);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);
/// From the signal to the end: the API server's list of our addresses lags behind.
const GRACE: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Cluster(#[from] client::Error),
    #[error(transparent)]
    Uninstall(#[from] uninstall::Error),
    #[error("cannot read the cluster: {0}")]
    Read(#[source] Box<kube::Error>),
    #[error(transparent)]
    Metrics(#[from] telemetry::Error),
    #[error("cannot {what}: {source}")]
    Internal { what: &'static str, source: io::Error },
}

/// Runs until a signal says to end.
///
/// # Errors
/// When it cannot begin.
pub fn controller(options: &Controller) -> Result<u8, Failure> {
    let internal = |what| move |source| Failure::Internal { what, source };
    if options.dry_run || options.uninstall {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(internal("make a runtime"))?;
        let text =
            runtime.block_on(async { if options.uninstall { undo(options).await } else { dry_run(options).await } })?;
        io::stdout().write_all(text.as_bytes()).map_err(internal("print"))?;
        return Ok(0);
    }
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(internal("handle signals"))?;
    let listener = TcpListener::bind(options.listen);
    let listener = listener.map_err(|source| Failure::Listen { address: options.listen, source })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(internal("make a runtime"))?;
    let (end_tx, end) = oneshot::channel();
    let waiting = std::thread::Builder::new().name("nodetap-signals".into()).spawn(move || {
        signals.forever().next();
        let _ = end_tx.send(());
    });
    waiting.map_err(internal("make a thread"))?;
    runtime.block_on(run(options, listener, end))?;
    // What still waits for a name server must not keep us.
    runtime.shutdown_background();
    Ok(0)
}

/// What would be written.
async fn dry_run(options: &Controller) -> Result<String, Failure> {
    let connection = cluster::connect(options.kubeconfig.as_deref()).await?;
    let plan = sidecars::print(&connection, &settings(options), options.output).await;
    plan.map_err(|error| Failure::Read(Box::new(error)))
}

/// What was taken away, or would be.
async fn undo(options: &Controller) -> Result<String, Failure> {
    if options.namespace.is_none() && std::env::var_os("POD_NAMESPACE").is_none() {
        return Err(uninstall::Error::Where.into());
    }
    let connection = connection(options).await?;
    if options.dry_run {
        return Ok(uninstall::print(&connection).await?);
    }
    let Connection { client, namespace } = &connection;
    let candidate =
        Candidate::new(Api::<Lease>::namespaced(client.clone(), namespace), identity(options), Health::default());
    uninstall::run(&connection, &candidate, Duration::from_secs(options.drain)).await?;
    Ok("nothing of nodetap's is left on objects that are not its own\n".into())
}

async fn connection(options: &Controller) -> Result<Connection, Failure> {
    let mut connection = cluster::connect(options.kubeconfig.as_deref()).await?;
    if let Some(namespace) = options.namespace.clone().or_else(|| std::env::var("POD_NAMESPACE").ok()) {
        connection.namespace = namespace;
    }
    Ok(connection)
}

fn settings(options: &Controller) -> Settings {
    Settings {
        root_namespace: options.istio_root_namespace.clone(),
        egress_hosts: options.egress_host.iter().cloned().collect(),
    }
}

async fn run(options: &Controller, listener: TcpListener, end: oneshot::Receiver<()>) -> Result<(), Failure> {
    let connection = connection(options).await?;
    let Connection { client, namespace } = &connection;
    let health = Health::default();
    let (ready_tx, ready) = watch::channel(None);
    let (agents_tx, agents) = watch::channel(None);
    let (lead_tx, lead) = watch::channel(false);
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    let candidate = Candidate::new(leases, identity(options), health.clone());
    let answers = Answers::default();
    let numbers =
        Numbers { leads: lead.clone(), agents: agents.clone(), health: health.clone(), answers: answers.clone() };
    let _numbers = options.metrics.map(|address| serve_numbers(address, numbers)).transpose()?;
    let serving = async {
        match api::Api::new(ready, agents, answers).serve(listener).await {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "the API cannot be served"),
        }
    };
    let all = async {
        tokio::join!(
            serving,
            follow_ready(client.clone(), namespace, health.clone(), ready_tx),
            follow_agents(client.clone(), namespace, health.clone(), agents_tx),
            candidate.run(&lead_tx),
            write(&connection, options, &candidate.identity, health.clone(), lead),
        );
    };
    let mut all = std::pin::pin!(all);
    tokio::select! {
        () = &mut all => {}
        _ = end => {
            candidate.resign().await;
            // Requests that are under way, and those that still come.
            let _ = tokio::time::timeout(GRACE, all).await;
        }
    }
    Ok(())
}

fn serve_numbers(address: SocketAddr, numbers: Numbers) -> Result<Serving, telemetry::Error> {
    let mut metrics = Metrics::default();
    metrics.add(numbers);
    Serving::start(address, metrics)
}

/// What only the leader does; it ends in the midst when the lead is lost.
async fn write(
    connection: &Connection,
    options: &Controller,
    identity: &str,
    health: Health,
    mut lead: watch::Receiver<bool>,
) {
    let Connection { client, namespace } = connection;
    let (service, settings) = (&options.service, settings(options));
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let certificates = Certificates::new(secrets, format!("{service}.{namespace}.svc"));
    while lead.wait_for(|leads| *leads).await.is_ok() {
        let work = async {
            tokio::join!(
                keep(&certificates, client, &health),
                resolve::resolve(client.clone(), health.clone()),
                sidecars::keep(connection, &settings, identity, health.clone()),
                trust_bundle::publish(connection, health.clone()),
            );
        };
        tokio::select! {
            () = work => {}
            _ = lead.wait_for(|leads| !*leads) => {}
        }
    }
}

/// Looks after certificates, for ever.
async fn keep(certificates: &Certificates, client: &Client, health: &Health) {
    loop {
        let wait = match certificates.keep(SystemTime::now()).await {
            Ok(bundle) => {
                health.well(Call::Certificates);
                match api_service::keep(client.clone(), &bundle).await {
                    Ok(()) => {
                        health.well(Call::ApiService);
                        LOOK
                    }
                    Err(error) => {
                        health.ill(Call::ApiService, Trouble::of(&error));
                        AGAIN
                    }
                }
            }
            Err(certificates::Error::Secret { name, source }) => {
                let mut trouble = Trouble::of(&source);
                trouble.text = format!("Secret {name}: {}", trouble.text);
                health.ill(Call::Certificates, trouble);
                AGAIN
            }
            Err(error) => {
                tracing::error!(%error, "certificates");
                AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Puts together what serving needs, and again whenever a part of it changes.
async fn follow_ready(client: Client, namespace: &str, health: Health, ready: watch::Sender<Option<Ready>>) {
    let (identity_tx, identity) = watch::channel(None::<Identity>);
    let (front_tx, front) = watch::channel(None::<FrontProxy>);
    let fields = |name: &str| Some(format!("metadata.name={name}"));
    let secret = Subject {
        api: Api::<Secret>::namespaced(client.clone(), namespace),
        call: Call::Certificates,
        fields: fields(CONTROLLER_SECRET),
        labels: None,
    };
    let map = Subject {
        api: Api::<ConfigMap>::namespaced(client, front_proxy::NAMESPACE),
        call: Call::FrontProxy,
        fields: fields(front_proxy::NAME),
        labels: None,
    };
    // What cannot be used changes nothing: what could be used before is used on.
    let keep_identity = |secret: Secret| {
        certificates::identity(&secret).map_err(|error| tracing::warn!(%error, "Secret {CONTROLLER_SECRET}")).ok()
    };
    let keep_front = |map: ConfigMap| {
        FrontProxy::read(&map).map_err(|error| tracing::warn!(%error, "the API server cannot be known")).ok()
    };
    let make = async |mut identity: watch::Receiver<Option<Identity>>,
                      mut front: watch::Receiver<Option<FrontProxy>>| {
        loop {
            let made = {
                let (identity, front) = (identity.borrow_and_update(), front.borrow_and_update());
                identity.as_ref().zip(front.as_ref()).map(|(identity, front)| made(identity, front))
            };
            match made {
                Some(Ok(now)) => drop(ready.send_replace(Some(now))),
                Some(Err(error)) => tracing::warn!(%error, "the API cannot be served"),
                None => {}
            }
            let changed = tokio::select! {
                changed = identity.changed() => changed,
                changed = front.changed() => changed,
            };
            if changed.is_err() || ready.is_closed() {
                return;
            }
        }
    };
    tokio::join!(
        follow(secret, health.clone(), keep_identity, async |change| newest(change, &identity_tx)),
        follow(map, health, keep_front, async |change| newest(change, &front_tx)),
        make(identity, front),
    );
}

fn newest<V>(change: Change<V>, place: &watch::Sender<Option<V>>) -> bool {
    match change {
        Change::All(all) => all.into_iter().for_each(|value| drop(place.send_replace(Some(value)))),
        Change::Applied(value) => drop(place.send_replace(Some(value))),
        Change::Gone(_) => {}
    }
    !place.is_closed()
}

fn made(identity: &Identity, front: &FrontProxy) -> Result<Ready, front_proxy::Error> {
    let serving = Arc::new(front.serving(identity)?);
    Ok(Ready { serving, asking: Arc::new(identity.asking()?), front_proxy: Arc::new(front.clone()) })
}

/// Ours alone, also when a replica is replaced by one of its name.
fn identity(options: &Controller) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let name = options.identity.clone().or_else(|| std::env::var("POD_NAME").ok()).unwrap_or_else(host);
    let mut bytes = [0; 8];
    // Without randomness the name has to do.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{name}_{:016x}", u64::from_ne_bytes(bytes))
}
