//! A transparent pod beside Istio, called and calling without a pause, while capture comes and goes and its agent dies or
//! hangs: what begins a moment later does not notice.

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::bars::bar;
use nodetap_tests::cluster::load::{Failed, Load, now};
use nodetap_tests::mesh::Mesh;
use nodetap_tests::mesh::served::Served;
use nodetap_tests::process::{Stopped, send};
use nodetap_tests::records;
use nodetap_tests::wait::{DEADLINE, eventually};
use rustix::process::Signal;
use serde_json::json;

use crate::support::TRAFFIC;

/// Requests a second, in and out each.
const RATE: u32 = 200;
/// Of each load, between two things that happen: a second's worth, where the machine keeps up.
const SOME: u64 = RATE as u64;
/// What begins so many seconds after an agent was stopped is not for it any more.
const HANGS: f64 = 2.5;

/// Through Envoy, to a pod and from it.
struct Loads {
    begun: f64,
    all: [(&'static str, Load); 2],
}

impl Loads {
    fn start(web: &Served, peer: &Served) -> Self {
        let load = |from: &Served, to: &Served| {
            Load::start(TRAFFIC, from.member.pod(), (&to.address, 80), RATE, None).unwrap()
        };
        Self { begun: now(), all: [("in", load(peer, web)), ("out", load(web, peer))] }
    }

    fn go_on(&mut self, more: u64) {
        self.all.iter_mut().for_each(|(_, load)| load.attempts(more).unwrap());
    }

    /// Ends them; those that failed, but for those that were bound to.
    #[allow(clippy::print_stdout, reason = "figures are for whoever reads the tests' output")]
    fn end(self, bound_to: impl Fn(&Failed) -> bool) -> Vec<(&'static str, Failed)> {
        let mut others = Vec::new();
        for (name, load) in self.all {
            let (attempts, failed) = load.stop().unwrap();
            let (bound, other): (Vec<_>, Vec<_>) = failed.into_iter().partition(&bound_to);
            let rate = f64::from(u32::try_from(attempts).unwrap()) / (now() - self.begun);
            let (bound, count) = (bound.len(), other.len());
            println!("{name}: {attempts} attempts, {rate:.0} a second, {bound} failed in flight, {count} others");
            assert!(attempts >= SOME, "{name}: {attempts} attempts");
            others.extend(other.into_iter().map(|failed| (name, failed)));
        }
        others
    }
}

/// A pod that is captured, another one that is not, and the agent; each of the two reaches the other.
fn captured<'a>(mesh: &'a Mesh, namespace: &str, node: &Node, number: u16) -> (Served, Served, Agent<'a>) {
    let web = Served::new(mesh, namespace, "web", &json!({"nodetap.io/inject": "true"})).unwrap();
    let peer = Served::new(mesh, namespace, "peer", &json!({})).unwrap();
    let agent = Agent::ready(mesh.cluster(), node, number, &[]).unwrap();
    agent.until(web.member.pod(), "capturing").unwrap();
    // Envoy keeps its connections to the application: those are captured that it makes from now on.
    web.reaches(&peer).unwrap();
    peer.reaches(&web).unwrap();
    (web, peer, agent)
}

/// How many exchanges of a direction are recorded.
fn recorded(node: &Node, direction: &str) -> usize {
    let all = records::exchanges(&node.records).unwrap_or_default();
    all.iter().filter(|one| one["direction"] == direction).count()
}

/// Waits until more of what the pod opens is recorded: Envoy keeps its connections into the pod for longer.
fn captures_again(node: &Node) {
    let before = recorded(node, "outbound");
    eventually(DEADLINE, "more records", || (recorded(node, "outbound") > before).then_some(())).unwrap();
}

#[test]
fn capture_comes_goes_and_dies_under_load_and_what_begins_later_does_not_fail() {
    let mesh = Mesh::shared().unwrap();
    let (shop, node) = (mesh.cluster().namespace().unwrap(), Node::new().unwrap());
    let (web, peer, agent) = captured(mesh, &shop, &node, 1);
    let mut loads = Loads::start(&web, &peer);
    loads.go_on(SOME);
    let worker = agent.worker().unwrap();
    let killed = now();
    // The keeper first: it would replace the worker.
    send(agent.keeper(), Signal::KILL).unwrap();
    drop(send(worker, Signal::KILL));
    loads.go_on(SOME);
    // On, off, and on again.
    let again = Agent::ready(mesh.cluster(), &node, 2, &[]).unwrap();
    again.until(web.member.pod(), "capturing").unwrap();
    loads.go_on(SOME);
    let annotate = |inject| {
        web.member.pod().annotate(&json!({"nodetap.io/inject": inject})).unwrap();
        let status = if inject == Some("true") { "True" } else { "False" };
        eventually(DEADLINE, status, || web.member.pod().condition().filter(|said| said["status"] == status)).unwrap();
    };
    annotate(None);
    loads.go_on(SOME);
    annotate(Some("true"));
    captures_again(&node);
    loads.go_on(SOME);
    let late = loads.end(|failed| failed.was_open_at(killed));
    assert!(late.is_empty(), "{late:?}");
    for direction in ["inbound", "outbound"] {
        assert!(recorded(&node, direction) > 0, "nothing {direction} was recorded");
    }
    again.end().unwrap();
}

#[test]
fn a_worker_that_hangs_is_replaced_under_load_and_what_begins_later_does_not_fail() {
    let mesh = Mesh::shared().unwrap();
    let (shop, node) = (mesh.cluster().namespace().unwrap(), Node::new().unwrap());
    let (web, peer, agent) = captured(mesh, &shop, &node, 12);
    let mut loads = Loads::start(&web, &peer);
    loads.go_on(SOME);
    let worker = agent.worker().unwrap();
    let at = now();
    let stopped = Stopped::new(&[worker]).unwrap();
    eventually(DEADLINE, "another worker", || agent.worker().ok().filter(|other| *other != worker)).unwrap();
    let replaced = now();
    drop(stopped);
    agent.until(web.member.pod(), "capturing").unwrap();
    captures_again(&node);
    loads.go_on(2 * SOME);
    let late = loads.end(|failed| failed.begun < replaced.max(at + HANGS));
    println!("replaced {:.2} s after it was stopped", replaced - at);
    assert!(late.is_empty(), "{late:?}; {}", agent.log());
    bar(replaced < at + HANGS, &format!("replaced {:.2} s after it was stopped", replaced - at));
    agent.end().unwrap();
}

#[test]
fn while_keeper_and_worker_hang_connections_that_begin_later_go_on_without_them() {
    let mesh = Mesh::shared().unwrap();
    let cluster = mesh.cluster();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    // Envoy would send requests to connections that it has kept, and those hang with us: here each is for one request.
    let rule = |name: &str| {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {name}, namespace: {shop}}}, \
             spec: {{host: {name}, trafficPolicy: {{connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}}}}}}}"
        );
        cluster.apply(&text).unwrap();
    };
    rule("web");
    rule("peer");
    let (web, peer, agent) = captured(mesh, &shop, &node, 13);
    let mut loads = Loads::start(&web, &peer);
    loads.go_on(SOME);
    let before = ["inbound", "outbound"].map(|direction| recorded(&node, direction));

    let worker = agent.worker().unwrap();
    let at = now();
    // The keeper first: it would replace the worker.
    let stopped = Stopped::new(&[agent.keeper(), worker]).unwrap();
    eventually(DEADLINE, "the time after which nobody waits for us", || (now() >= at + HANGS).then_some(())).unwrap();
    // Those that wait for us wait for as long as a client does.
    let mut later = Loads::start(&web, &peer);
    later.go_on(2 * SOME);
    let late = later.end(|_| false);
    assert!(late.is_empty(), "{late:?}");
    loads.go_on(SOME);

    // And when they go on.
    let continued = now();
    drop(stopped);
    agent.until(web.member.pod(), "capturing").unwrap();
    captures_again(&node);
    let resumed = now();
    loads.go_on(SOME);
    let of_that = |failed: &Failed| failed.begun < resumed && failed.ended >= continued;
    let late = loads.end(|failed| failed.begun < at + HANGS || of_that(failed));
    assert!(late.is_empty(), "{late:?}; {}", agent.log());
    let after = ["inbound", "outbound"].map(|direction| recorded(&node, direction));
    assert!(before.iter().zip(&after).all(|(before, after)| *before > 0 && after > before), "{before:?} {after:?}");
    agent.end().unwrap();
}
