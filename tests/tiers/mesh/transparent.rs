//! A pod under `transparent`, beside Istio: it needs no Sidecar, and the mesh sees no difference, whatever kind of rules
//! leads to Envoy and whichever family of addresses.

use std::collections::BTreeSet;

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::mesh::served::Served;
use nodetap_tests::mesh::{Mesh, Setup};
use nodetap_tests::records;
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::{Value, json};

use crate::support::without_ids;

/// Whom Envoy's own calls to the application come from.
const ENVOY: &str = "127.0.0.6";
const ENVOY6: &str = "::6";

/// What Envoy says of a request, but for what is another at each: times, ports that clients have, ids.
fn telling(line: &Value) -> Value {
    let host = |name: &str| line[name].as_str().unwrap_or_default().rsplit_once(':').map(|(host, _)| host.to_owned());
    let same = |name: &str| line[name].clone();
    json!({
        "path": same("path"), "code": same("response_code"), "flags": same("response_flags"),
        "cluster": same("upstream_cluster"), "local": same("downstream_local_address"),
        "to": same("upstream_host"), "from": host("downstream_remote_address"), "by": host("upstream_local_address"),
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

/// The tables that Istio's rules stand in.
fn tables(setup: Setup) -> Vec<&'static str> {
    match setup {
        Setup { nftables: true, .. } => vec!["inet istio-proxy-nat"],
        Setup { dual_stack: false, .. } => vec!["ip nat"],
        Setup { dual_stack: true, .. } => vec!["ip nat", "ip6 nat"],
    }
}

fn is_captured_unseen(setup: Setup, number: u16) {
    let mesh = Mesh::shared().unwrap();
    let (shop, node) = (mesh.cluster().namespace().unwrap(), Node::new().unwrap());
    let set_up = |name| Served::set_up(mesh, setup, &shop, name, &json!({})).unwrap();
    let (web, peer) = (set_up("web"), set_up("peer"));
    assert_eq!(web.member.tables().unwrap(), tables(setup));
    web.reaches(&peer).unwrap();
    peer.reaches(&web).unwrap();
    // In, and out.
    let ask = || {
        let all =
            |from: &Served, to: &Served| to.addresses.iter().map(|at| from.asks_at(at, "/same").unwrap()).collect();
        let (inbound, outbound): (Vec<Value>, Vec<Value>) = (all(&peer, &web), all(&web, &peer));
        [inbound, outbound].concat().into_iter().map(without_ids).collect::<Vec<_>>()
    };
    let calls = web.addresses.len() + peer.addresses.len();
    let before = ask();
    let envoys_before = [told(&web, "/same", calls), told(&peer, "/same", calls)];

    let agent = Agent::ready(mesh.cluster(), &node, number, &[]).unwrap();
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
    assert_eq!(ask(), before);
    let envoys_with = [told(&web, "/same", 2 * calls), told(&peer, "/same", 2 * calls)];
    for (before, with) in envoys_before.iter().zip(&envoys_with) {
        let mut with: Vec<String> = with[before.len()..].iter().map(ToString::to_string).collect();
        let mut before: Vec<String> = before.iter().map(ToString::to_string).collect();
        with.sort_unstable();
        before.sort_unstable();
        assert_eq!(with, before);
    }
    let found =
        eventually(DEADLINE, "records", || Some(of_path(&node, "/same")).filter(|found| found.len() >= calls)).unwrap();
    assert!(found.iter().all(|one| one["via"] == "transparent"), "{found:?}");
    // A loop would be recorded, and logged by Envoy, at each of its turns.
    let ends = |direction: &str, end: &str| -> Vec<&str> {
        let of_direction = found.iter().filter(|one| one["direction"] == direction);
        of_direction.map(|one| one[end]["address"].as_str().unwrap()).collect()
    };
    let (callers, mut called) = (ends("inbound", "client"), ends("outbound", "server"));
    assert_eq!((callers.len(), called.len()), (web.addresses.len(), peer.addresses.len()), "{found:?}");
    let envoys = if setup.dual_stack { vec![ENVOY, ENVOY6] } else { vec![ENVOY] };
    assert_eq!(BTreeSet::from_iter(callers), BTreeSet::from_iter(envoys));
    called.sort_unstable();
    let mut addresses = peer.addresses.clone();
    addresses.sort_unstable();
    assert_eq!(called, addresses);
    agent.end().unwrap();
}

#[test]
fn a_pod_is_captured_in_and_out_and_neither_the_mesh_nor_the_programs_see_a_difference() {
    is_captured_unseen(Setup::default(), 0);
}

#[test]
fn a_pod_with_rules_of_nftables_is_captured_and_nobody_sees_a_difference() {
    is_captured_unseen(Setup { nftables: true, ..Setup::default() }, 9);
}

#[test]
fn a_pod_with_both_families_of_addresses_is_captured_in_both_and_nobody_sees_a_difference() {
    is_captured_unseen(Setup { dual_stack: true, ..Setup::default() }, 10);
}

#[test]
fn a_pod_with_both_families_and_rules_of_nftables_is_captured_and_nobody_sees_a_difference() {
    is_captured_unseen(Setup { nftables: true, dual_stack: true }, 11);
}
