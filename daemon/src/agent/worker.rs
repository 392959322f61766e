//! The worker: everything is put together here. Threads: the data plane's, the recorder's and the observer's; one for
//! the API server and whoever asks for records; one each for the node's control groups, for the keeper's words and for
//! our own heartbeat; and this one, which supervises.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use nodetap_proxy::engine::{Engine, Liveness, Settings as EngineSettings};
use nodetap_proxy::tap::Limits;

use super::admin;
use super::failure::Failure;
use super::link::Link;
use super::metrics::Numbers;
use super::options::Agent;
use super::remembered::Memory;
use super::supervisor::{Event, Parts, SecretName, Supervisor};
use super::view::View;
use super::wire::{Channel, Message};
use crate::capture::{Hooks, Pins, random};
use crate::cluster::report::Reporter;
use crate::cluster::{self, Connection, Health, namespaces, pause, pods, services};
use crate::kubepods::{Finder, Limits as TreeLimits, Proc, Tree};
use crate::store::{self, Recorder};

/// Questions for Secrets that wait, at most: they are asked again.
const SECRETS: usize = 64;
/// Events that wait for the supervisor, at most; who has more to tell waits.
const EVENTS: usize = 1024;
/// How long whoever tells it something from the API server's thread waits before it tries again.
const FULL: Duration = Duration::from_millis(5);
/// How often we tell the keeper that we run: four times as often as it wants to hear it.
const BEAT: Duration = Duration::from_millis(250);
/// A data plane that is silent for so long hangs.
const HUNG: Duration = Duration::from_millis(900);
/// The same for the supervisor, which may be busy with many pods.
const BUSY: Duration = Duration::from_secs(15);
/// How often the node's control groups are looked at as a whole.
const LOOK: Duration = Duration::from_secs(30);
/// How long a worker waits for the list of pods before it asks for the node all the same.
const PATIENCE: Duration = Duration::from_secs(3);

/// What this thing is called among what has to happen before we are ready.
pub(super) const PODS: &str = "the list of pods";
pub(super) const NODE: &str = "the node: another agent has it";

/// Captures until the keeper says to end.
///
/// # Errors
/// When something cannot be started.
pub(super) fn work(options: &Agent, node: String, channel: Option<Channel>) -> Result<u8, Failure> {
    if !options.dry_run {
        super::privileges::check()?;
    }
    crate::run::files::raise_limit();
    let (events, inbox) = sync_channel(EVENTS);
    let engine = Engine::start(EngineSettings { workers: workers(options.workers), limits: limits(options) }, random);
    let engine = engine.map_err(Failure::internal("start the data plane"))?;
    let hooks = if options.dry_run { None } else { Some(Hooks::start(None, engine.liveness())?) };
    let pins = if options.dry_run { None } else { pins(&options.pins) };
    let settings = store::Settings {
        max_store: options.max_store,
        ..store::Settings::new(options.out.clone(), nodetap_core::exchange::Target::command("agent"))
    };
    let (recorder, recording) =
        Recorder::start(settings, vec![]).map_err(|source| Failure::Output { path: options.out.clone(), source })?;
    let (health, reporter) = (Health::default(), Reporter::default());
    let view = View::new(if channel.is_some() { vec![PODS, NODE] } else { vec![PODS] });
    let _serving = options
        .metrics
        .map(|address| {
            let so_far = recording.so_far();
            let numbers = Numbers { view: view.clone(), health: health.clone(), reporter: reporter.clone(), so_far };
            admin::serve(address, numbers, &view, &health)
        })
        .transpose()?;
    let (pulse, open) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let channel = channel.map(Arc::new);
    if let Some(channel) = &channel {
        hear(Arc::clone(channel), events.clone()).map_err(Failure::internal("listen to the keeper"))?;
        let (pulse, open) = (Arc::clone(&pulse), Arc::clone(&open));
        let beat = Beat { channel: Arc::clone(channel), liveness: engine.liveness(), pulse, open };
        beat.start().map_err(Failure::internal("show the keeper that we run"))?;
    }
    let finder = Finder::new(Proc::at(&options.proc))?;
    watch_cgroups(options.cgroup.as_deref(), events.clone())?;
    let (secrets, asked) = tokio::sync::mpsc::channel(SECRETS);
    let (services_wanted, services) = tokio::sync::watch::channel(false);
    let control =
        Control { options: options.clone(), node: node.clone(), health, reporter: reporter.clone(), services };
    control.start(events.clone(), asked)?;
    let parts = Parts {
        memory: Memory::new(&options.out, &node),
        services_wanted,
        node,
        proc: options.proc.clone(),
        dry_run: options.dry_run,
        pod_connections: options.pod_connections,
        pod_bytes: usize::try_from(options.pod_bytes).unwrap_or(usize::MAX),
        engine,
        hooks,
        pins,
        recorder,
        finder,
        reporter,
        view,
        link: Link::new(channel),
        pulse,
        open,
        patience: Instant::now() + PATIENCE,
        secrets,
        events,
    };
    let mut supervisor = Supervisor::new(parts);
    while let Some(event) = supervisor.next(&inbox) {
        if !supervisor.step(event) {
            break;
        }
    }
    supervisor.end();
    let totals = recording.close();
    for error in &totals.errors {
        tracing::error!("{error}");
    }
    supervisor.ended();
    Ok(0)
}

/// Where fallbacks are pinned. Without them an agent does everything else.
fn pins(folder: &Path) -> Option<Pins> {
    let opened = Pins::open(folder);
    let said = opened.inspect_err(|error| {
        tracing::warn!(
            "pods under Istio are not answered at their inbound ports while no agent runs: cannot use {}: {error}; \
             mount one (mount -t bpf bpf /sys/fs/bpf), and see that our container has it",
            folder.display()
        );
    });
    said.ok()
}

fn workers(wanted: Option<u16>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    wanted.map_or_else(processors, usize::from)
}

fn limits(options: &Agent) -> Limits {
    let body = usize::try_from(options.max_body).unwrap_or(usize::MAX);
    let Limits { waiting, .. } = Limits::default();
    Limits { body, waiting: waiting.max(body.saturating_mul(4)), ..Limits::default() }
}

/// Tells the supervisor what the keeper says, until that is gone.
fn hear(channel: Arc<Channel>, events: SyncSender<Event>) -> io::Result<()> {
    std::thread::Builder::new().name("nodetap-keeper".into()).spawn(move || {
        loop {
            match channel.receive() {
                Ok(Some((message, fd))) => {
                    if events.send(Event::Keeper(message, fd)).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!("a message of the keeper is none that is known");
                }
                Ok(None) | Err(_) => {
                    let _ = events.send(Event::KeeperGone);
                    return;
                }
            }
        }
    })?;
    Ok(())
}

/// Our own heartbeat: given only while the data plane runs and the supervisor gets on.
struct Beat {
    channel: Arc<Channel>,
    liveness: Liveness,
    /// Counted up by the supervisor whenever it has done something.
    pulse: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
}

impl Beat {
    fn start(self) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("nodetap-beat".into());
        thread.spawn(move || {
            let (mut seen, mut since) = (0, Instant::now());
            loop {
                let pulse = self.pulse.load(Ordering::Relaxed);
                if pulse != seen {
                    (seen, since) = (pulse, Instant::now());
                }
                if self.liveness.silence() < HUNG && since.elapsed() < BUSY {
                    let open = self.open.load(Ordering::Relaxed);
                    if self.channel.send(&Message::Beat(open), None).is_err() {
                        return;
                    }
                }
                std::thread::sleep(BEAT);
            }
        })?;
        Ok(())
    }
}

/// Tells the supervisor of control groups as they come and go.
fn watch_cgroups(root: Option<&Path>, events: SyncSender<Event>) -> Result<(), Failure> {
    let mut tree = match root {
        Some(root) => Tree::watch(root, TreeLimits::default())?,
        None => Tree::mounted(TreeLimits::default())?,
    };
    let thread = std::thread::Builder::new().name("nodetap-cgroups".into());
    let spawned = thread.spawn(move || {
        let mut looked = Instant::now();
        loop {
            for event in tree.events() {
                if events.send(Event::Cgroup(event)).is_err() {
                    return;
                }
            }
            tree.wait(LOOK);
            // inotify loses nothing that it does not say, but what it could not watch it does not see.
            if looked.elapsed() >= LOOK {
                tree.look();
                looked = Instant::now();
            }
        }
    });
    spawned.map(drop).map_err(Failure::internal("watch control groups"))
}

/// Secrets that the supervisor asks for.
type Asked = tokio::sync::mpsc::Receiver<BTreeSet<SecretName>>;

/// The thread of the API server, and of whoever asks for records.
struct Control {
    options: Agent,
    node: String,
    health: Health,
    reporter: Reporter,
    /// Are Services of interest?
    services: tokio::sync::watch::Receiver<bool>,
}

impl Control {
    fn start(self, events: SyncSender<Event>, asked: Asked) -> Result<(), Failure> {
        let query = self
            .options
            .query
            .map(|address| TcpListener::bind(address).map_err(|source| Failure::Query { address, source }));
        let query = query.transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::internal("start the thread for the API server"))?;
        let connection = runtime.block_on(cluster::connect(self.options.kubeconfig.as_deref()))?;
        let thread = std::thread::Builder::new().name("nodetap-control".into());
        let spawned = thread.spawn(move || runtime.block_on(self.run(connection, events, query, asked)));
        spawned.map(drop).map_err(Failure::internal("start the thread for the API server"))
    }

    async fn run(self, connection: Connection, events: SyncSender<Event>, query: Option<TcpListener>, asked: Asked) {
        let namespace = self.options.namespace().unwrap_or_else(|| connection.namespace.clone());
        let connection = Connection { namespace: namespace.clone(), ..connection };
        let (client, health) = (connection.client.clone(), self.health.clone());
        let told = events.clone();
        let pods = pods::follow_node(client.clone(), &self.node, health.clone(), async move |change| {
            tell(&told, Event::Pods(change)).await
        });
        let told = events.clone();
        let spaces = namespaces::follow_all(client.clone(), health.clone(), async move |change| {
            tell(&told, Event::Namespaces(change)).await
        });
        let told = events.clone();
        let services =
            services::follow_all(client.clone(), self.services.clone(), health.clone(), async move |change| {
                tell(&told, Event::Services(change)).await
            });
        let told = events.clone();
        let paused = pause::follow_switch(client.clone(), &namespace, health.clone(), async move |paused| {
            tell(&told, Event::Paused(paused)).await
        });
        if self.options.dry_run {
            tokio::join!(pods, spaces, services, paused);
            return;
        }
        let report = self.reporter.run(client.clone(), self.node.clone(), health.clone());
        let holder = std::env::var("POD_NAME").unwrap_or_else(|_| format!("pid-{}", std::process::id()));
        let lease = cluster::lease::renew(
            connection.clone(),
            format!("{}{}", cluster::lease::AGENT, self.node),
            holder,
            health.clone(),
        );
        let secrets = super::secrets::follow(asked, connection.clone(), health.clone(), events);
        let records = super::serve::records(query, self.options.out.clone(), connection, health);
        tokio::join!(pods, spaces, services, paused, report, lease, secrets, records);
    }
}

/// Waits without keeping the thread from what else it does.
pub(super) async fn tell(events: &SyncSender<Event>, event: Event) -> bool {
    let mut event = event;
    loop {
        match events.try_send(event) {
            Ok(()) => return true,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(back)) => event = back,
        }
        tokio::time::sleep(FULL).await;
    }
}
