//! Who answers for a reverse listener when we do not, and what is left of that.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nodetap::capture::{Fallback, Pins, Way, bring_back, put};
use nodetap::netlink::listeners::listeners;
use nodetap::netns::Netns;

use super::pod::{ADDRESS, Actor, Agent, Pod};
use crate::place::eventually;

const OURS: &str = "127.0.0.1:4143";
const UID: &str = "5f1c0c5e-0000-4000-8000-000000000001";
/// From the last heartbeat to when nobody waits for us any more, and a little.
const STALE: Duration = Duration::from_millis(2_500);

/// A BPF file system of a test's own.
struct Mounted {
    folder: PathBuf,
}

impl Mounted {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pins-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mounted = Self { folder };
        let done = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&mounted.folder).status().unwrap();
        assert!(done.success());
        mounted
    }

    fn pins(&self) -> Pins {
        Pins::open(&self.folder.join("nodetap")).unwrap()
    }

    fn left(&self) -> usize {
        fs::read_dir(self.folder.join("nodetap")).unwrap().count()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.folder).status());
        drop(fs::remove_dir(&self.folder));
    }
}

/// A pod with a listener of ours before port 8080 of its application.
struct Case {
    // In this order: what is attached and mounted goes before the pod.
    mounted: Mounted,
    netns: Netns,
    pod: Pod,
    actor: Actor,
    agent: Agent,
}

impl Case {
    fn new(name: &str) -> Self {
        let (agent, actor, pod) = (Agent::start(), Actor::start(), Pod::new(name));
        Self { mounted: Mounted::new(name), netns: Netns::open(pod.namespace.file()).unwrap(), pod, actor, agent }
    }

    fn listener(&self) -> TcpListener {
        self.netns.listener(OURS.parse().unwrap(), 64).unwrap()
    }

    fn application(&mut self, name: &str) {
        // Not where our callers go: the address does not matter.
        assert_eq!(self.actor.does(&self.pod, &format!("listen {name} {ADDRESS} 8080")), "listens");
    }

    /// As an agent does, with what the application listens on already.
    fn fall_back(&self, listener: &TcpListener) -> Fallback {
        let pins = self.mounted.pins().next(UID);
        let way = Way { address: OURS.parse().unwrap(), listener, application: 8080 };
        let fallback = self.agent.hooks.fall_back(&self.netns, &self.pod.group.path, pins, &[way]).unwrap();
        let all = self.netns.enter(listeners).unwrap();
        let behind: Vec<_> = all.into_values().filter(|one| one.address.port() == 8080).collect();
        assert_eq!(put(&fallback, &behind, &[self.actor.pid()]), behind.len());
        fallback
    }

    /// What an agent leaves that was there and is gone.
    fn leave(&self) {
        let listener = self.listener();
        drop(self.fall_back(&listener));
    }

    fn does(&mut self, command: &str) -> String {
        self.actor.does(&self.pod, command)
    }

    fn get(&mut self) -> String {
        self.does("get 127.0.0.1 4143 /")
    }
}

/// Answers one connection.
fn answer(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nours").unwrap();
}

/// What whoever answers at our address says, if that is soon.
fn ask(netns: &Netns) -> Option<String> {
    let address: SocketAddr = OURS.parse().unwrap();
    let mut stream = netns.enter(|| TcpStream::connect(address)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: pod\r\n\r\n").ok()?;
    let mut text = [0; 1024];
    let length = stream.read(&mut text).ok().filter(|length| *length > 0)?;
    Some(String::from_utf8_lossy(&text[..length]).into_owned())
}

#[test]
fn the_application_answers_at_our_listener_the_moment_that_this_is_gone_and_is_counted() {
    let mut case = Case::new("gone");
    case.application("app");
    let listener = case.listener();
    let fallback = case.fall_back(&listener);
    let server = std::thread::spawn(move || {
        answer(&listener);
        drop(listener);
    });
    assert_eq!(case.get(), "ours");
    server.join().unwrap();
    for _ in 0..3 {
        assert_eq!(case.get(), "app 127.0.0.1");
    }
    let past = fallback.bypassed();
    assert_eq!(past.connections, 3);
    assert!(past.first_ns > 0 && past.first_ns < past.last_ns, "{past:?}");
    // Only at our address.
    assert_eq!(case.does(&format!("get {ADDRESS} 4143 /")), "error ConnectionRefusedError");
    fallback.remove().unwrap();
    assert_eq!(case.get(), "error ConnectionRefusedError");
    assert_eq!(case.mounted.left(), 0);
}

#[test]
fn an_agent_that_is_stopped_steps_aside_though_its_listener_would_take_connections() {
    let mut case = Case::new("stopped");
    case.application("app");
    let listener = case.listener();
    let fallback = case.fall_back(&listener);
    assert_eq!(ask(&case.netns), None, "nobody serves the listener");
    let stopped = Instant::now();
    // No heartbeat from here on.
    drop(fallback);
    let said = eventually("the application answers", || ask(&case.netns));
    let took = stopped.elapsed();
    println!("the application answered {took:?} after the last heartbeat");
    assert!(said.ends_with("app 127.0.0.1") && took <= STALE, "{said} after {took:?}");
}

#[test]
fn an_application_that_restarts_while_nobody_runs_answers_again() {
    let mut case = Case::new("restart");
    case.application("old");
    case.leave();
    assert_eq!(case.get(), "old 127.0.0.1");
    assert_eq!(case.does("close old"), "closed");
    assert_eq!(case.get(), "error ConnectionRefusedError");
    case.application("new");
    assert_eq!(case.get(), "new 127.0.0.1");
    // One that takes both families is as good.
    assert_eq!(case.does("close new"), "closed");
    assert_eq!(case.does("listen both :: 8080"), "listens");
    assert!(case.get().starts_with("both "), "the IPv6 listener");
}

#[test]
fn the_next_agent_takes_over_what_was_left_and_nothing_stays_when_the_pod_is_gone() {
    let mut case = Case::new("next");
    case.application("app");
    case.leave();
    // Its caller keeps one connection, and one more comes and goes.
    assert_eq!(case.does("open kept 127.0.0.1 4143"), "app 127.0.0.1");
    assert_eq!(case.get(), "app 127.0.0.1");
    let listener = case.listener();
    let fallback = case.fall_back(&listener);
    let past = case.mounted.pins().replace(UID, Some(fallback.pins()));
    assert_eq!(past.iter().map(|past| past.connections).collect::<Vec<_>>(), [2]);
    assert_eq!(case.mounted.left(), 1);
    let ours = BTreeSet::from([OURS.parse().unwrap()]);
    let back = bring_back(&case.netns, &case.pod.group.path, &ours, Duration::from_secs(4)).unwrap();
    assert_eq!((back.ended, back.busy), (1, 0));
    assert_ne!(case.does("again kept"), "app 127.0.0.1");
    let server = std::thread::spawn(move || answer(&listener));
    assert_eq!(case.get(), "ours");
    server.join().unwrap();
    assert_eq!(fallback.bypassed().connections, 0);
    // The agent ends, and then the pod.
    drop(fallback);
    let pins = case.mounted.pins();
    assert_eq!(pins.pods(), BTreeSet::from([UID.to_owned()]));
    assert_eq!(pins.replace(UID, None).len(), 1);
    assert_eq!(case.mounted.left(), 0);
    assert_eq!(case.get(), "error ConnectionRefusedError");
}

#[test]
fn what_is_brought_back_is_not_ended_while_its_caller_is_awake() {
    let mut case = Case::new("awake");
    case.application("app");
    case.leave();
    let ours = BTreeSet::from([OURS.parse().unwrap()]);
    assert_eq!(case.does("spin"), "spins");
    assert_eq!(case.does("open kept 127.0.0.1 4143"), "app 127.0.0.1");
    let bring = |case: &Case, patience| bring_back(&case.netns, &case.pod.group.path, &ours, patience).unwrap();
    let back = bring(&case, Duration::from_millis(500));
    assert_eq!((back.ended, back.busy), (0, 1));
    assert_eq!(case.does("again kept"), "app 127.0.0.1");
    assert_eq!(case.does("rest"), "rests");
    let back = bring(&case, Duration::from_millis(1_900));
    assert_eq!((back.ended, back.busy), (1, 0));
    assert_ne!(case.does("again kept"), "app 127.0.0.1");
}

#[test]
fn the_application_answers_at_once_when_we_step_aside_though_our_socket_is_there() {
    let mut case = Case::new("aside");
    case.application("app");
    let listener = case.listener();
    let fallback = case.fall_back(&listener);
    assert_eq!(ask(&case.netns), None, "nobody accepts");
    fallback.step_aside().unwrap();
    assert_eq!(case.get(), "app 127.0.0.1");
    // No heartbeat of ours changes that any more.
    let asked_for = Instant::now();
    while asked_for.elapsed() < Duration::from_millis(1200) {
        assert_eq!(case.get(), "app 127.0.0.1");
    }
    drop(fallback);
    assert_eq!(case.get(), "app 127.0.0.1");
}
