//! The agent dies, hangs, or gives way to the next one, while connections flow through it.

use std::time::{Duration, Instant};

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::bars::bar;
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::load::{Failed, Load, now};
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::process::send;
use nodetap_tests::records;
use nodetap_tests::wait::{DEADLINE, eventually};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{TRAFFIC, annotated, answering};

const TRANSPARENT: &str = r#"{"nodetap.io/inject": "true"}"#;
const DUAL: &str = r#"{"nodetap.io/inject": "true", "nodetap.io/proxy-type": "dual", "nodetap.io/proxy-port": "8080"}"#;

/// Connections a second, in and out each.
const RATE: u32 = 500;
/// Attempts of each load between two things that happen: a second's worth, where the machine keeps up.
const SOME: u64 = RATE as u64;

fn captured<'a>(cluster: &'a Cluster, namespace: &str, annotations: &str) -> BarePod<'a> {
    let annotations: Value = serde_json::from_str(annotations).unwrap();
    cluster.bare_pod(&annotated(namespace, "web", &annotations)).unwrap()
}

/// Losses of a time in which nobody captured.
fn outages(node: &Node, reason: &str) -> Vec<Value> {
    let losses = records::losses(&node.records).unwrap();
    losses.into_iter().filter(|loss| loss["reason"] == reason).collect()
}

#[test]
fn keeper_and_worker_are_killed_and_connections_that_begin_later_go_on_without_them() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let web = captured(cluster, &shop, TRANSPARENT);
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let (_web, _peer) = (answering(&web), answering(&peer));
    let agent = Agent::ready(cluster, &node, 10, &[]).unwrap();
    agent.until(&web, "capturing").unwrap();
    let mut inbound = Load::start(TRAFFIC, &peer, (&web.address(), 8080), RATE, None).unwrap();
    let mut outbound = Load::start(TRAFFIC, &web, (&peer.address(), 8080), RATE, None).unwrap();
    [&mut inbound, &mut outbound].into_iter().for_each(|load| load.attempts(SOME).unwrap());

    let worker = agent.worker().unwrap();
    let killed = now();
    // The keeper first: it would replace the worker.
    send(agent.keeper(), Signal::KILL).unwrap();
    drop(send(worker, Signal::KILL));
    [&mut inbound, &mut outbound].into_iter().for_each(|load| load.attempts(SOME).unwrap());
    let started = Instant::now();
    let again = Agent::start(cluster, &node, 11, &[]).unwrap();
    again.until(&web, "capturing").unwrap();
    let resumed = started.elapsed();
    [&mut inbound, &mut outbound].into_iter().for_each(|load| load.attempts(SOME).unwrap());
    for (name, load) in [("in", inbound), ("out", outbound)] {
        let (attempts, failed) = load.stop().unwrap();
        let late: Vec<_> = failed.iter().filter(|failed| !failed.was_open_at(killed)).collect();
        println!(
            "{name}: {attempts} attempts, {} failed in flight, {} begun later",
            failed.len() - late.len(),
            late.len()
        );
        assert!(attempts > 500 && late.is_empty(), "{name}: {attempts} attempts, {late:?}");
    }
    println!("capture resumed {resumed:?} after the start");
    let outages = eventually(DEADLINE, "the loss", || {
        let found = outages(&node, "agent_down");
        (!found.is_empty()).then_some(found)
    });
    let outages = outages.unwrap();
    assert_eq!(outages.len(), 1, "{outages:?}");
    assert!(outages[0]["time"].as_str() < outages[0]["until"].as_str(), "{outages:?}");
    again.end().unwrap();
    bar(resumed < Duration::from_secs(2), &format!("capture resumed after {resumed:?}"));
}

#[test]
fn a_killed_worker_of_dual_pods_is_replaced_and_queued_connections_are_served() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let web = captured(cluster, &shop, DUAL);
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let (_web, _peer) = (answering(&web), answering(&peer));
    let agent = Agent::ready(cluster, &node, 12, &[]).unwrap();
    agent.until(&web, "capturing").unwrap();
    let mut inbound = Load::start(TRAFFIC, &peer, (&web.address(), 4143), RATE, None).unwrap();
    let mut outbound = Load::start(TRAFFIC, &web, (&peer.address(), 8080), RATE, Some(4140)).unwrap();
    [&mut inbound, &mut outbound].into_iter().for_each(|load| load.attempts(SOME).unwrap());
    let worker = agent.worker().unwrap();
    let killed = now();
    send(worker, Signal::KILL).unwrap();
    eventually(DEADLINE, "another worker", || agent.worker().ok().filter(|other| *other != worker)).unwrap();
    agent.until(&web, "capturing").unwrap();
    [&mut inbound, &mut outbound].into_iter().for_each(|load| load.attempts(SOME).unwrap());
    // A worker that is stopped is as good as dead.
    let stopped = now();
    let worker = agent.worker().unwrap();
    send(worker, Signal::STOP).unwrap();
    eventually(DEADLINE, "another worker", || agent.worker().ok().filter(|other| *other != worker)).unwrap();
    agent.until(&web, "capturing").unwrap();
    [&mut inbound, &mut outbound].into_iter().for_each(|load| load.attempts(SOME).unwrap());
    for (name, load) in [("in", inbound), ("out", outbound)] {
        let (attempts, failed) = load.stop().unwrap();
        let accepted = |failed: &&Failed| failed.was_open_at(killed) || failed.was_open_at(stopped);
        let unexcused: Vec<_> = failed.iter().filter(|failed| !accepted(failed)).collect();
        println!(
            "{name}: {attempts} attempts, {} accepted and cut, {} others",
            failed.len() - unexcused.len(),
            unexcused.len()
        );
        assert!(attempts > 200 && unexcused.is_empty(), "{name}: {attempts} attempts, {unexcused:?}");
    }
    agent.end().unwrap();
}

#[test]
fn an_agent_gives_way_to_the_next_one_without_a_failed_connection() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let web = captured(cluster, &shop, TRANSPARENT);
    let dual: Value = serde_json::from_str(DUAL).unwrap();
    let dual = cluster.bare_pod(&annotated(&shop, "dual", &dual)).unwrap();
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let _servers = [answering(&web), answering(&dual), answering(&peer)];
    let old = Agent::ready(cluster, &node, 13, &[]).unwrap();
    old.until(&web, "capturing").unwrap();
    old.until(&dual, "capturing").unwrap();
    let mut loads = [
        ("transparent in", Load::start(TRAFFIC, &peer, (&web.address(), 8080), RATE / 2, None).unwrap()),
        ("transparent out", Load::start(TRAFFIC, &web, (&peer.address(), 8080), RATE / 2, None).unwrap()),
        ("dual in", Load::start(TRAFFIC, &peer, (&dual.address(), 4143), RATE / 2, None).unwrap()),
        ("dual out", Load::start(TRAFFIC, &dual, (&peer.address(), 8080), RATE / 2, Some(4140)).unwrap()),
    ];
    loads.iter_mut().for_each(|(_, load)| load.attempts(SOME / 2).unwrap());
    let new = Agent::ready(cluster, &node, 14, &[]).unwrap();
    new.until(&web, "capturing").unwrap();
    new.until(&dual, "capturing").unwrap();
    // As a DaemonSet does with maxSurge: the old one ends once the new one is ready.
    old.end().unwrap();
    loads.iter_mut().for_each(|(_, load)| load.attempts(SOME / 2).unwrap());
    for (name, load) in loads {
        let (attempts, failed) = load.stop().unwrap();
        println!("{name}: {attempts} attempts, {} failed", failed.len());
        assert!(attempts > 100 && failed.is_empty(), "{name}: {failed:?}");
    }
    assert_eq!(outages(&node, "agent_down"), <Vec<Value>>::new());
    assert!(outages(&node, "agent_handover").len() <= 1);
    let found = records::exchanges(&node.records).unwrap();
    let of = |name: &str| found.iter().filter(|record| record["target"]["name"] == name).count();
    assert!(of("web") > 100 && of("dual") > 100, "{} and {}", of("web"), of("dual"));
    new.end().unwrap();
}
