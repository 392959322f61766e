//! A pod under `transparent`, beside Istio: it needs no Sidecar, and the mesh sees no difference.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::cluster::load::{Load, now};
use nodetap_tests::mesh::Mesh;
use nodetap_tests::mesh::served::Served;
use nodetap_tests::process::send;
use nodetap_tests::records;
use nodetap_tests::wait::{DEADLINE, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{TRAFFIC, without_ids};

/// What Envoy says of a request, but for what is another at each: times, ports that clients have, ids.
fn telling(line: &Value) -> Value {
    let host = |name: &str| line[name].as_str().unwrap_or_default().rsplit_once(':').map(|(host, _)| host.to_owned());
    let same = |name: &str| line[name].clone();
    json!({
        "path": same("path"), "code": same("response_code"), "flags": same("response_flags"),
        "cluster": same("upstream_cluster"), "local": same("downstream_local_address"),
        "to": same("upstream_host"), "from": host("downstream_remote_address"),
        "name": same("requested_server_name"),
    })
}

/// What a member's Envoy tells of the requests to a path.
fn told(of: &Served, path: &str, count: usize) -> Vec<Value> {
    let found = eventually(DEADLINE, "Envoy's log", || {
        let logged = of.member.logged().ok()?;
        let found: Vec<Value> = logged.iter().filter(|line| line["path"] == path).map(telling).collect();
        (found.len() >= count).then_some(found)
    });
    found.unwrap_or_else(|error| panic!("{error}: {path} in {:?}", of.member.logged()))
}

/// What was recorded of requests to a path.
fn of_path(node: &Node, path: &str) -> Vec<Value> {
    let found = records::exchanges(&node.records).unwrap_or_default();
    found.into_iter().filter(|one| one["request"]["url"].as_str().is_some_and(|url| url.ends_with(path))).collect()
}

#[test]
fn a_pod_is_captured_in_and_out_and_neither_the_mesh_nor_the_programs_see_a_difference() {
    let mesh = Mesh::shared().unwrap();
    let (shop, node) = (mesh.cluster().namespace().unwrap(), Node::new().unwrap());
    let web = Served::new(mesh, &shop, "web", &json!({})).unwrap();
    let peer = Served::new(mesh, &shop, "peer", &json!({})).unwrap();
    web.reaches(&peer).unwrap();
    peer.reaches(&web).unwrap();
    let before = [peer.asks(&web, "/same").unwrap(), web.asks(&peer, "/same").unwrap()];
    let envoys_before = [told(&web, "/same", 2), told(&peer, "/same", 2)];

    let agent = Agent::ready(mesh.cluster(), &node, 0, &[]).unwrap();
    // Envoy keeps connections to the application: without the second one, those would go on as they are.
    let asked = json!({"nodetap.io/inject": "true", "nodetap.io/reset-older-connections": "true"});
    web.member.pod().annotate(&asked).unwrap();
    agent.until(web.member.pod(), "capturing").unwrap();
    let said =
        eventually(DEADLINE, "the condition", || web.member.pod().condition().filter(|said| said["status"] == "True"));
    assert_eq!(said.unwrap()["reason"], "Capturing");

    // They are closed once they were idle for a while.
    eventually(DEADLINE, "the end of Envoy's older connections", || {
        let page = web.member.admin("/clusters").ok()?;
        let mut open = page.lines().filter(|line| line.starts_with("inbound|8080||") && line.contains("::cx_active::"));
        open.all(|line| line.ends_with("::0")).then_some(())
    })
    .unwrap();
    let with = [peer.asks(&web, "/same").unwrap(), web.asks(&peer, "/same").unwrap()];
    assert_eq!(with.map(without_ids), before.map(without_ids));
    let envoys_with = [told(&web, "/same", 4), told(&peer, "/same", 4)];
    for (before, with) in envoys_before.iter().zip(&envoys_with) {
        let mut with: Vec<String> = with[before.len()..].iter().map(ToString::to_string).collect();
        let mut before: Vec<String> = before.iter().map(ToString::to_string).collect();
        with.sort_unstable();
        before.sort_unstable();
        assert_eq!(with, before);
    }
    let found =
        eventually(DEADLINE, "records", || Some(of_path(&node, "/same")).filter(|found| found.len() >= 2)).unwrap();
    let mut ways: Vec<_> = found.iter().map(|one| (one["direction"].as_str(), one["via"].as_str())).collect();
    ways.sort_unstable();
    // A loop would be recorded, and logged by Envoy, at each of its turns.
    assert_eq!(ways, [(Some("inbound"), Some("transparent")), (Some("outbound"), Some("transparent"))], "{found:?}");
    agent.end().unwrap();
}

#[test]
fn capture_comes_goes_and_dies_under_load_and_what_begins_later_does_not_fail() {
    let mesh = Mesh::shared().unwrap();
    let (shop, node) = (mesh.cluster().namespace().unwrap(), Node::new().unwrap());
    let web = Served::new(mesh, &shop, "web", &json!({"nodetap.io/inject": "true"})).unwrap();
    let peer = Served::new(mesh, &shop, "peer", &json!({})).unwrap();
    let agent = Agent::ready(mesh.cluster(), &node, 1, &[]).unwrap();
    agent.until(web.member.pod(), "capturing").unwrap();
    // Envoy keeps its connections to the application: those are captured that it makes from now on.
    web.reaches(&peer).unwrap();
    peer.reaches(&web).unwrap();
    let load =
        |from: &Served, to: &Served| Load::start(TRAFFIC, from.member.pod(), (&to.address, 80), 100, None).unwrap();
    let (inbound, outbound) = (load(&peer, &web), load(&web, &peer));
    let begun = Instant::now();
    sleep(Duration::from_secs(1));
    let worker = agent.worker().unwrap();
    let killed = now();
    // The keeper first: it would replace the worker.
    send(agent.keeper(), Signal::KILL).unwrap();
    drop(send(worker, Signal::KILL));
    sleep(Duration::from_secs(1));
    // On, and off.
    let again = Agent::ready(mesh.cluster(), &node, 2, &[]).unwrap();
    again.until(web.member.pod(), "capturing").unwrap();
    sleep(Duration::from_secs(1));
    web.member.pod().annotate(&json!({"nodetap.io/inject": null})).unwrap();
    eventually(DEADLINE, "the end of capture", || {
        web.member.pod().condition().filter(|said| said["status"] == "False")
    })
    .unwrap();
    sleep(Duration::from_secs(1));
    let took = begun.elapsed().as_secs_f64();
    for (name, load) in [("in", inbound), ("out", outbound)] {
        let (attempts, failed) = load.stop().unwrap();
        let late: Vec<_> = failed.iter().filter(|failed| !failed.was_open_at(killed)).collect();
        let rate = f64::from(u32::try_from(attempts).unwrap()) / took;
        println!(
            "{name}: {attempts} attempts, {rate:.0} a second, {} failed in flight, {} others",
            failed.len() - late.len(),
            late.len()
        );
        assert!(attempts > 100 && late.is_empty(), "{name}: {late:?}");
    }
    let found = records::exchanges(&node.records).unwrap();
    for direction in ["inbound", "outbound"] {
        assert!(found.iter().any(|one| one["direction"] == direction), "nothing {direction} was recorded");
    }
    again.end().unwrap();
}
