//! `nodetap run`: a command, its control group, the hooks on it, the data plane behind them, and the recording.

mod failure;
mod ignored;
pub(crate) mod listen;
mod metrics;
mod observe;
pub mod options;
mod passed;
mod processes;
pub(crate) mod recording;
mod steer;
mod trusted;
mod upkeep;

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nodetap_core::exchange::Target;
use nodetap_core::ulid::{Ulid, UlidSource};
use nodetap_proxy::engine::{Engine, Group, GroupLimits, Served, Settings};
use nodetap_proxy::tls::Policy;
use rustix::event::{EventfdFlags, eventfd};

pub use failure::Failure;

use self::ignored::IgnoredHosts;
use self::listen::Listeners;
use self::observe::Observer;
use self::options::Run;
use self::processes::Processes;
use self::recording::{Recording, RecordingSink};
use self::steer::KernelSteering;
use self::trusted::Trusted;
use self::upkeep::Upkeep;
use crate::cgroup::Cgroup;
use crate::child::{self, Identity};
use crate::probes::{Maps, Probes, Ring};
use crate::signals::{Forwarding, Hurry};

/// After the command has ended: how long its last connections may take.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// The same while processes of the command still run.
const GRACE_WITH_OTHERS: Duration = Duration::from_secs(5);
/// Set for the command, so that a second `nodetap run` within it knows.
const NESTED: &str = "NODETAP_RUN";

/// Runs the command and gives back its exit code.
///
/// # Errors
/// When it could not be started under capture; nothing of ours is left then.
pub fn run(options: &Run) -> Result<u8, Failure> {
    if std::env::var_os(NESTED).is_some() {
        return Err(Failure::Usage(
            "this command runs under `nodetap run` already: its traffic is recorded there".into(),
        ));
    }
    let sudo_uid = std::env::var("SUDO_UID").ok();
    let identity = Identity::choose(options.user.as_deref(), sudo_uid.as_deref())?;
    let ignored = IgnoredHosts::resolve(&options.ignore_host).map_err(Failure::Usage)?;
    let mut signals = Forwarding::begin().map_err(Failure::internal("handle signals"))?;
    let files = listen::raise_file_limit();
    let id = new_id();
    let cgroup = Arc::new(Cgroup::make(id)?);
    let trusted = Trusted::prepare(&options.tls, cgroup.path(), identity.as_ref(), id)?;
    let policy = trusted.as_ref().map_or(Policy::Untouched, |trusted| Policy::Open(Arc::clone(&trusted.outbound)));
    let capture = Capture::prepare(options, ignored, &cgroup, id, identity.as_ref(), policy)?;
    if let Some(signal) = signals.early() {
        capture.end(&cgroup, &Hurry::default());
        return Ok(child::signal_exit_code(signal));
    }
    let environment = trusted.as_ref().map_or(&[][..], |trusted| &trusted.environment);
    let started = start(options, &cgroup, identity.as_ref(), files, environment);
    let ended = started.and_then(|mut child| {
        let hurry = signals.to(child.id()).map_err(Failure::internal("forward signals"))?;
        let status = child.wait().map_err(Failure::internal("wait for the command"))?;
        hurry.command_ended();
        Ok((child::exit_code(status), hurry))
    });
    let hurry = ended.as_ref().map(|(_, hurry)| hurry.clone()).unwrap_or_default();
    capture.end(&cgroup, &hurry);
    // What the command was given to trust goes last.
    drop(trusted);
    ended.map(|(code, _)| code)
}

fn start(
    options: &Run,
    cgroup: &Cgroup,
    identity: Option<&Identity>,
    files: Option<(u64, u64)>,
    environment: &[(&'static str, OsString)],
) -> Result<std::process::Child, Failure> {
    let nested = (NESTED, OsString::from("1"));
    let environment = environment.iter().chain([&nested]);
    child::start(&options.command, cgroup.path(), identity, files, environment)
        .map_err(Failure::internal("start the command's first process"))
}

/// Everything that captures one command.
struct Capture {
    probes: Probes,
    maps: Arc<Maps>,
    engine: Engine,
    served: Served,
    upkeep: Upkeep,
    observer: JoinHandle<()>,
    stop_observer: Arc<OwnedFd>,
    recording: Recording,
}

impl Capture {
    fn prepare(
        options: &Run,
        ignored: IgnoredHosts,
        cgroup: &Arc<Cgroup>,
        id: Ulid,
        identity: Option<&Identity>,
        tls: Policy,
    ) -> Result<Self, Failure> {
        let target = Target::command(target_name(options));
        let listeners = Listeners::open().map_err(Failure::internal("listen on loopback"))?;
        let object = match &options.kernel_object {
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                Failure::Usage(format!("cannot read the kernel object {}: {error}", path.display()))
            })?),
            None => None,
        };
        let (mut probes, maps, ring) = Probes::load(&listeners.ports(), object.as_deref())?;
        let maps = Arc::new(maps);
        for port in &options.ignore_port {
            maps.ignore_port(*port).map_err(Failure::internal("set --ignore-port"))?;
        }
        for (v6, listener) in listeners.inbound() {
            maps.set_inbound(v6, listener)?;
        }
        // Before anything is started that would have to be ended again: nothing is steered yet.
        let netns = File::open("/proc/self/ns/net").map_err(Failure::internal("open the network namespace"))?;
        probes.attach(cgroup.directory(), &netns)?;
        let (recording, sink) = Recording::start(&options.recording, &target, id, identity)?;
        let processes = Arc::new(Processes::default());
        let roles = listeners.roles();
        let steering = KernelSteering::new(Arc::clone(&maps), roles, Arc::clone(&target), Arc::clone(&processes), tls);
        let settings =
            Settings { workers: workers(options.recording.workers), limits: recording::limits(&options.recording) };
        let group =
            Group { steering: Arc::new(steering), sink: Arc::new(sink.clone()), limits: GroupLimits::default() };
        let engine = Engine::start(settings, random).map_err(Failure::internal("start the data plane"))?;
        let served = engine.serve(listeners.into_all(), group).map_err(Failure::internal("wait for connections"))?;
        let upkeep = Upkeep::start(&maps, engine.liveness(), ignored)
            .map_err(Failure::internal("read the routes of this network namespace"))?;
        let stop_observer = Arc::new(
            eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| Failure::internal("make an eventfd")(errno.into()))?,
        );
        let observer = observe(&maps, ring, cgroup, processes, sink, target, &stop_observer)
            .map_err(Failure::internal("start the observer"))?;
        probes.steer(&maps, !options.no_inbound, !options.no_outbound)?;
        Ok(Self { probes, maps, engine, served, upkeep, observer, stop_observer, recording })
    }

    /// Stops steering, lets what is open end, and sums up.
    fn end(mut self, cgroup: &Cgroup, hurry: &Hurry) {
        if let Err(error) = self.probes.steer(&self.maps, false, false) {
            tracing::error!(%error, "cannot switch steering off");
        }
        let others = cgroup.processes().len();
        let drained = self.served.drain(if others == 0 { GRACE } else { GRACE_WITH_OTHERS }, || hurry.is_asked());
        drop(self.engine);
        drop(self.upkeep);
        let _ = rustix::io::write(&*self.stop_observer, &1u64.to_ne_bytes());
        let _ = self.observer.join();
        let counts = self.maps.counts();
        drop(self.probes);
        self.recording.end(&recording::Aftermath {
            others,
            cut: drained.cut,
            strays: drained.strays,
            counts: Some(counts),
        });
    }
}

fn observe(
    maps: &Arc<Maps>,
    ring: Ring,
    cgroup: &Arc<Cgroup>,
    processes: Arc<Processes>,
    sink: RecordingSink,
    target: Arc<Target>,
    stop: &Arc<OwnedFd>,
) -> io::Result<JoinHandle<()>> {
    let mut observer = Observer {
        maps: Arc::clone(maps),
        ring,
        cgroup: Arc::clone(cgroup),
        processes,
        sink,
        target,
        ids: UlidSource::new(random()),
        stop: Arc::clone(stop),
        foreign: BTreeSet::new(),
        others: None,
        v6only: BTreeSet::new(),
        looks: HashMap::new(),
        direct: HashMap::new(),
    };
    observer.sync();
    std::thread::Builder::new().name("nodetap-observe".into()).spawn(move || observer.run())
}

/// The name of the command, without its folder.
fn target_name(options: &Run) -> String {
    let program = options.command.first().map(Path::new);
    program.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
}

pub(crate) fn workers(wanted: Option<u16>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    wanted.map_or_else(processors, usize::from)
}

pub(crate) fn new_id() -> Ulid {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UlidSource::new(random()).next(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// 128 bits from the kernel.
pub(crate) fn random() -> u128 {
    let mut bytes = [0; 16];
    // Without the call (Linux before 3.17) identifiers are still unique within a run.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u128::from_ne_bytes(bytes)
}
