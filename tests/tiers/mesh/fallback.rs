//! A pod with a listener in the place of its port, under Istio, whose agent dies: its application answers there until the
//! next agent is back.

use std::time::{Duration, Instant};

use nodetap_tests::agent::{Agent, GRACE, Node, pins};
use nodetap_tests::bars::bar;
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::load::{Failed, Load, now};
use nodetap_tests::controller::{NAMESPACE, Replica};
use nodetap_tests::mesh::served::Served;
use nodetap_tests::process::send;
use nodetap_tests::records;
use nodetap_tests::wait::{DEADLINE, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::sidecars::{dual, installed, until_calls_us};
use crate::support::TRAFFIC;

const RATE: u32 = 200;
/// From when an agent is back to when it captures.
const RESUMES: Duration = Duration::from_secs(5);

fn inbound(node: &Node) -> usize {
    let all = records::exchanges(&node.records).unwrap();
    all.iter().filter(|one| one["direction"] == "inbound").count()
}

/// Pins that are there of a pod.
fn pinned(cluster: &Cluster, uid: &str) -> usize {
    pins(cluster).iter().filter(|name| name.starts_with(uid)).count()
}

#[test]
fn a_dual_pod_is_served_while_no_agent_runs_and_captured_again_as_soon_as_one_is_back() {
    let mesh = installed();
    let cluster = mesh.cluster();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap().of(NAMESPACE));
    let mut annotations = dual();
    // What callers keep open would stay with the application.
    annotations["nodetap.io/reset-older-connections"] = "true".into();
    let mut web = Served::new(mesh, &shop, "web", &annotations).unwrap();
    let peer = Served::new(mesh, &shop, "peer", &json!({})).unwrap();
    peer.reaches(&web).unwrap();
    let agent = Agent::ready(cluster, &node, 6, &[]).unwrap();
    let replica = Replica::start(cluster, "falls-back").unwrap();
    until_calls_us(&web, &replica, true);
    agent.until(web.member.pod(), "capturing").unwrap();
    let pinned = |uid: &str| pinned(cluster, uid);
    assert_eq!(pinned(web.member.pod().uid()), 1, "{}", agent.log());

    let mut load = Load::start(TRAFFIC, peer.member.pod(), (&web.address, 80), RATE, None).unwrap();
    load.attempts(400).unwrap();
    let worker = agent.worker().unwrap();
    let killed = now();
    // The keeper first: it would replace the worker.
    send(agent.keeper(), Signal::KILL).unwrap();
    drop(send(worker, Signal::KILL));
    load.attempts(600).unwrap();
    let restarts = now();
    web.restart().unwrap();
    let restarted = now();
    load.attempts(600).unwrap();

    let again = Agent::ready(cluster, &node, 7, &[]).unwrap();
    let back = Instant::now();
    let before = inbound(&node);
    let resumed = eventually(DEADLINE, "a record", || (inbound(&node) > before).then(|| back.elapsed()));
    let took = resumed.unwrap_or_else(|error| panic!("{error}: {}", again.log()));
    let line =
        format!("nodetap_connections_total{{namespace=\"{shop}\",pod=\"web\",direction=\"in\",route=\"fallback\"}}");
    let past = again.metric(&line).unwrap();
    // Callers' connections to the application are brought back as soon as they rest.
    load.attempts(1_000).unwrap();
    let count = |load: &mut Load| (load.so_far().unwrap(), inbound(&node));
    let earlier = count(&mut load);
    load.attempts(400).unwrap();
    let later = count(&mut load);
    let (asked, recorded) = (later.0 - earlier.0, later.1 - earlier.1);
    let (attempts, failed) = load.stop().unwrap();
    let (first, rest): (Vec<_>, Vec<_>) = failed.into_iter().partition(|failed| failed.was_open_at(killed));
    let while_restarting = |failed: &Failed| failed.ended >= restarts && failed.begun <= restarted + 0.05;
    let (theirs, late): (Vec<_>, Vec<_>) = rest.into_iter().partition(while_restarting);
    println!(
        "{attempts} attempts: {} failed in flight, {} while the application restarted ({:.0} ms), {} others; {past} \
         connections went past; captured again {took:?} after the agent is back, of {asked} requests later {recorded}",
        first.len(),
        theirs.len(),
        (restarted - restarts) * 1e3,
        late.len()
    );
    assert!(late.is_empty(), "{late:?}; {}", again.log());
    bar(took <= RESUMES, &format!("captured again {took:?} after the agent is back"));
    assert!(past >= 1.0, "{}", again.log());
    // Where callers never let a connection rest, they keep it.
    bar(recorded > 0, &format!("of {asked} requests later {recorded} are recorded"));
    let losses: Vec<Value> = records::losses(&node.records).unwrap();
    assert!(losses.iter().any(|loss| loss["reason"] == "fallback"), "{losses:?}");
    // The next one took its place, and stays when its agent ends; what is left of a pod that is gone goes with the next.
    let uid = web.member.pod().uid().to_owned();
    assert_eq!(pinned(&uid), 1);
    again.end().unwrap();
    assert_eq!(pinned(&uid), 1);
    drop(web);
    let last = Agent::ready(cluster, &node, 8, &[]).unwrap();
    eventually(DEADLINE, "no pin of a pod that is gone", || (pinned(&uid) == 0).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", last.log()));
    last.end().unwrap();
}

#[test]
fn an_agent_that_ends_with_none_after_it_fails_nothing_of_a_dual_pod_but_what_is_open_when_its_time_is_over() {
    let mesh = installed();
    let cluster = mesh.cluster();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap().of(NAMESPACE));
    let web = Served::new(mesh, &shop, "web", &dual()).unwrap();
    let peer = Served::new(mesh, &shop, "peer", &json!({})).unwrap();
    peer.reaches(&web).unwrap();
    let agent = Agent::ready(cluster, &node, 14, &[]).unwrap();
    let replica = Replica::start(cluster, "outlives").unwrap();
    until_calls_us(&web, &replica, true);
    agent.until(web.member.pod(), "capturing").unwrap();
    assert_eq!(pinned(cluster, web.member.pod().uid()), 1, "{}", agent.log());

    // Envoy keeps its connections; who calls as Envoy does, but once on each, notices whether our listener is heard. The
    // pod's own proxy has nobody who answers in its place.
    let load =
        |from: &Served, to: (&str, u16), proxy| Load::start(TRAFFIC, from.member.pod(), to, RATE, proxy).unwrap();
    let mut loads = [
        ("through Envoy", true, load(&peer, (&web.address, 80), None)),
        ("as Envoy", true, load(&web, ("127.0.0.1", 4143), None)),
        ("by its proxy", false, load(&web, (&peer.address, 80), Some(4140))),
    ];
    let go_on = |loads: &mut [(&str, bool, Load)]| loads.iter_mut().for_each(|(.., load)| load.attempts(400).unwrap());
    go_on(&mut loads);
    let told = now();
    let said = agent.end().unwrap();
    let ended = now();
    go_on(&mut loads);
    // What waited for us for half of our time was not under way: nobody heard it.
    let cut = ended.min(told + GRACE.as_secs_f64());
    let under_way = |failed: &Failed| failed.begun >= f64::midpoint(told, cut) && failed.ended >= cut;
    for (name, is_answered_later, load) in loads {
        let (attempts, failed) = load.stop().unwrap();
        let excused = |failed: &Failed| under_way(failed) && (failed.begun <= ended + 0.05 || !is_answered_later);
        let (open, late): (Vec<_>, Vec<_>) = failed.into_iter().partition(excused);
        println!(
            "{name}: {attempts} attempts; the agent ended {:.1} s after it was told to: {} failed in flight, {} others",
            ended - told,
            open.iter().filter(|failed| failed.begun <= ended).count(),
            late.len()
        );
        assert!(late.is_empty(), "{name}: told at {told}, ended at {ended}: {late:?}; {said}");
    }
}
