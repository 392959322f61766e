//! `nodetap run`: a command, its control group, the hooks on it, the data plane behind them, and the recording.

mod failure;
pub(crate) mod files;
mod metrics;
mod names;
pub mod options;
mod passed;
pub(crate) mod recording;
mod trusted;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nodetap_core::exchange::{self, Direction};
use nodetap_core::ulid::{Ulid, UlidSource};
use nodetap_proxy::engine::{Engine, Group, GroupLimits, Served, Settings};
use nodetap_proxy::tls::Policy;

pub use failure::Failure;

use self::names::Following;
use self::options::Run;
use self::recording::Recording;
use self::trusted::Trusted;
use crate::capture::ignored::IgnoredHosts;
use crate::capture::namespace::Own;
pub(crate) use crate::capture::random;
use crate::capture::{Attached, Hooks, Ignore, Steer, Target};
use crate::cgroup::Cgroup;
use crate::child::{self, Identity};
use crate::signals::{Forwarding, Hurry};

/// After the command has ended: how long its last connections may take.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// The same while processes of the command still run.
const GRACE_WITH_OTHERS: Duration = Duration::from_secs(5);
/// How stale the picture of other programs' listeners may be. They come and go on a whole host, not in a pod.
const PACE: Duration = Duration::from_millis(250);
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
    let files = files::raise_limit();
    let id = new_id();
    let cgroup = Cgroup::make(id)?;
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
    hooks: Hooks,
    target: Target,
    attached: Attached,
    following: Option<Following>,
    engine: Engine,
    served: Served,
    recording: Recording,
}

impl Capture {
    fn prepare(
        options: &Run,
        ignored: IgnoredHosts,
        cgroup: &Cgroup,
        id: Ulid,
        identity: Option<&Identity>,
        tls: Policy,
    ) -> Result<Self, Failure> {
        let called = exchange::Target::command(target_name(options));
        let object = match &options.kernel_object {
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                Failure::Usage(format!("cannot read the kernel object {}: {error}", path.display()))
            })?),
            None => None,
        };
        let settings =
            Settings { workers: workers(options.recording.workers), limits: recording::limits(&options.recording) };
        let engine = Engine::start(settings, random).map_err(Failure::internal("start the data plane"))?;
        let hooks = Hooks::start(object.as_deref(), engine.liveness())?;
        let own = Own::open().map_err(Failure::internal("identify the network namespace"))?;
        let like = crate::capture::Options { target: Arc::clone(&called), tls, pace: PACE };
        let mut target = hooks.target(Arc::new(own), like)?;
        let ignore = Ignore { prefixes: ignored.prefixes(), ports: options.ignore_port.iter().copied().collect() };
        for direction in [Direction::Inbound, Direction::Outbound] {
            target.ignoring().set(direction, &ignore).map_err(Failure::internal("leave alone what was named"))?;
        }
        // Before anything is started that would have to be ended again: nothing is steered yet.
        let attached = target.attach(cgroup.path())?;
        let (recording, sink) = Recording::start(&options.recording, &called, id, identity)?;
        let sink = Arc::new(sink);
        target.record_to(sink.clone());
        let group = Group { steering: target.steering(), sink, limits: GroupLimits::default() };
        let served = engine.serve(target.take_listeners(), group).map_err(Failure::internal("wait for connections"))?;
        let following = Following::start(ignored, ignore.ports, target.ignoring())
            .map_err(Failure::internal("start to look names up"))?;
        target.steer(Steer { inbound: !options.no_inbound, outbound: !options.no_outbound, loopback: true })?;
        Ok(Self { hooks, target, attached, following, engine, served, recording })
    }

    /// Stops steering, lets what is open end, and sums up.
    fn end(self, cgroup: &Cgroup, hurry: &Hurry) {
        if let Err(error) = self.target.steer(Steer::default()) {
            tracing::error!(%error, "cannot switch steering off");
        }
        let others = cgroup.processes().len();
        let drained = self.served.drain(if others == 0 { GRACE } else { GRACE_WITH_OTHERS }, || hurry.is_asked());
        drop((self.engine, self.following));
        let (counts, elsewhere) = (self.target.counts(), self.hooks.elsewhere());
        drop((self.attached, self.target, self.hooks));
        self.recording.end(&recording::Aftermath {
            others,
            cut: drained.cut,
            strays: drained.strays,
            counts: Some(counts),
            elsewhere,
        });
    }
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
