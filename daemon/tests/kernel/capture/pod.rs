//! A pod as far as the hooks see one, and the program in it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nodetap::capture::{Attached, BeforeAttach, Counts, Hooks, Options, POD_PACE, Steer, Target, random};
use nodetap::netns::Netns;
use nodetap_core::exchange::{self, Event};
use nodetap_proxy::engine::{Engine, Group as Served, GroupLimits, Served as Serving, Settings};
use nodetap_proxy::sink::Sink;
use nodetap_proxy::tap::Limits;
use nodetap_proxy::tls::Policy;

use crate::place::{Group, Namespace};

/// The address of every pod: pods of different nodes have equal ones, and those of one node one after the other.
pub(crate) const ADDRESS: &str = "10.7.1.1";
/// For connections that are open when capture ends.
const GRACE: Duration = Duration::from_millis(100);

/// The programs of all pods of a test.
pub(crate) struct Actor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Where it is.
    home: Option<Group>,
}

impl Actor {
    pub(crate) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/capture/actor.py");
        let mut child =
            Command::new("/usr/bin/python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut actor = Self { child, input, output, home: Some(Group::new()) };
        assert_eq!(actor.line(), "ready");
        actor
    }

    /// What it answers to a command; it can be in one pod at a time.
    pub(crate) fn does(&mut self, pod: &Pod, command: &str) -> String {
        self.does_in(pod, &pod.group, command)
    }

    /// As [`Actor::does`], in another container of the pod.
    pub(crate) fn does_in(&mut self, pod: &Pod, group: &Group, command: &str) -> String {
        let entered = self.command(&format!("enter {} {}", group.path.display(), pod.namespace.name()));
        assert_eq!(entered, "entered");
        self.command(command)
    }

    /// Leaves the pod that it is in, so that its group can be removed.
    pub(crate) fn leaves(&mut self, pod: &Pod) {
        let home = self.home.as_ref().unwrap().path.display().to_string();
        assert_eq!(self.command(&format!("enter {home} {}", pod.namespace.name())), "entered");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn command(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        self.home = None;
    }
}

/// A network namespace and a control group in it.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: Namespace,
    pub(crate) group: Group,
}

impl Pod {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: Namespace::with(&format!("{ADDRESS}/24")), group: Group::new() }
    }
}

/// What was recorded of one pod.
#[derive(Debug, Default)]
pub(crate) struct Records(Mutex<Vec<Event>>);

impl Records {
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Exchanges so far, as `direction path`.
    pub(crate) fn exchanges(&self) -> Vec<String> {
        let name = |event: &Event| match event {
            Event::Exchange(exchange) => {
                let head = String::from_utf8_lossy(&exchange.request.head);
                Some(format!("{:?} {}", exchange.connection.direction, head.split(' ').nth(1).unwrap()))
            }
            _ => None,
        };
        let mut all: Vec<String> = self.all().iter().filter_map(name).collect();
        all.sort();
        all
    }

    /// Connections that were not steered and have ended.
    pub(crate) fn connections(&self) -> usize {
        self.all().iter().filter(|event| matches!(event, Event::Connection(_))).count()
    }
}

impl Sink for Records {
    fn record(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    fn lost(&self, reason: &'static str, exchanges: u64, _: u64) {
        eprintln!("lost {exchanges}: {reason}");
    }
}

/// One agent, as far as capture is concerned.
pub(crate) struct Agent {
    pub(crate) hooks: Hooks,
    engine: Engine,
}

impl Agent {
    pub(crate) fn start() -> Self {
        let engine = Engine::start(Settings { workers: 2, limits: Limits::default() }, random).unwrap();
        Self { hooks: Hooks::start(None, engine.liveness()).unwrap(), engine }
    }

    /// Captures a pod, without steering anything yet.
    pub(crate) fn attach(&self, pod: &Pod) -> Captured {
        let namespace = Arc::new(Netns::open(pod.namespace.file()).unwrap());
        let called = exchange::Target::command(pod.name.clone());
        let options = Options { target: called, tls: Policy::Untouched, pace: POD_PACE };
        let mut target = self.hooks.target(namespace, options).unwrap();
        let attached = target.attach(&pod.group.path).unwrap();
        let records = Arc::new(Records::default());
        target.record_to(Arc::clone(&records) as Arc<dyn Sink>);
        let (steering, sink) = (target.steering(), Arc::clone(&records) as Arc<dyn Sink>);
        let group = Served { steering, sink, limits: GroupLimits::default() };
        let serving = self.engine.serve(target.take_listeners(), group).unwrap();
        Captured { serving, attached, target, records }
    }

    /// Captures a pod as the agent does.
    pub(crate) fn capture(&self, pod: &Pod) -> Captured {
        let captured = self.attach(pod);
        captured.target.steer(Steer { inbound: true, outbound: true, loopback: false }).unwrap();
        captured
    }
}

/// A captured pod.
pub(crate) struct Captured {
    serving: Serving,
    pub(crate) attached: Attached,
    pub(crate) target: Target,
    pub(crate) records: Arc<Records>,
}

impl Captured {
    pub(crate) fn counts(&self) -> Counts {
        self.target.counts()
    }

    pub(crate) fn before_attach(&self) -> BeforeAttach {
        self.target.before_attach()
    }

    /// Ends as the agent ends it.
    pub(crate) fn end(self) -> Arc<Records> {
        self.target.steer(Steer::default()).unwrap();
        self.serving.drain(GRACE, || false);
        self.records
    }
}
