//! What a pod goes through while it is captured: containers that restart, come later, or stay beside the others, a
//! sandbox that is made anew, users of its own, and traffic that no proxy sees.

use std::net::SocketAddr;
use std::process::Command;

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, records};
use serde_json::{Value, json};

use crate::support::{annotated, asks, serving};

/// Sends one datagram to the address and port that are named; from a socket that is connected there when a third word
/// is given.
const SEND: &str = "import socket, sys\n\
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
    to = (sys.argv[1], int(sys.argv[2]))\n\
    s.connect(to) if len(sys.argv) > 3 else None\n\
    s.send(b'hello') if len(sys.argv) > 3 else s.sendto(b'hello', to)\n";

/// Digits of a container's id.
const ID: usize = 64;

fn wanted() -> Value {
    json!({"nodetap.io/inject": "true"})
}

/// Calls the pod until it is seen to be recorded: what it goes through takes its time.
fn is_recorded(node: &Node, from: &BarePod<'_>, to: SocketAddr, word: &str) -> Value {
    let mut calls = 0;
    let found = eventually(DEADLINE, "a record of a call", || {
        calls += 1;
        let path = format!("/{word}-{calls}");
        http::get_over(from.dial(to).ok()?, &path).ok()?;
        let exchanges = records::exchanges(&node.records).unwrap();
        exchanges.into_iter().find(|one| one["request"]["url"].as_str().unwrap().contains(&format!("/{word}-")))
    });
    found.unwrap()
}

/// Names of the containers that the hooks are on.
fn containers(agent: &Agent<'_>, pod: &BarePod<'_>, expected: &[&str]) {
    let mut last = Value::Null;
    let seen = eventually(DEADLINE, "containers", || {
        last = agent.targets().ok()?.into_iter().find(|target| target["uid"] == pod.uid())?["containers"].clone();
        let all: Vec<&str> = last.as_array()?.iter().filter_map(Value::as_str).collect();
        // The sandbox's own group has no name that the API server knows; nothing runs there.
        let (unnamed, mut names): (Vec<&str>, Vec<&str>) = all.into_iter().partition(|name| name.len() == ID);
        names.sort_unstable();
        (names == expected && unnamed.len() <= 1).then_some(())
    });
    seen.unwrap_or_else(|error| panic!("{error}: {last} and not {expected:?}"));
}

#[test]
fn a_container_that_restarts_and_a_sandbox_that_is_made_anew_are_captured_again() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let mut web = cluster.bare_pod(&annotated(&shop, "web", &wanted())).unwrap();
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let (first, _peer) = (serving(&web, "app"), serving(&peer, "app"));
    let agent = Agent::ready(cluster, &node, 40, &[]).unwrap();
    agent.until(&web, "capturing").unwrap();
    let here = format!("{}:8080", web.address()).parse().unwrap();
    is_recorded(&node, &peer, here, "first");

    // Another control group in the same network namespace.
    web.restart("app").unwrap();
    drop(first);
    let second = serving(&web, "app");
    is_recorded(&node, &peer, here, "restarted");
    containers(&agent, &web, &["app"]);

    // Another network namespace with the same addresses, and other control groups.
    let before = agent.until(&web, "capturing").unwrap()["netns"].clone();
    // Held open: the number of one that is gone may be given to the next.
    let _held = std::fs::File::open(web.netns()).unwrap();
    web.renew_sandbox().unwrap();
    drop(second);
    let _third = serving(&web, "app");
    let record = is_recorded(&node, &peer, here, "renewed");
    assert_eq!(record["target"]["name"], "web");
    let now = agent.until(&web, "capturing").unwrap();
    assert_ne!(now["netns"], before);
    asks(&web, "app", &format!("http://{}:8080/out-again", peer.address()));
    let out = eventually(DEADLINE, "what it calls", || {
        let exchanges = records::exchanges(&node.records).ok()?;
        exchanges.into_iter().find(|one| one["request"]["url"].as_str().unwrap().ends_with("/out-again"))
    });
    assert_eq!(out.unwrap()["direction"], "outbound");
    agent.end().unwrap();
}

#[test]
fn containers_beside_the_application_are_captured_as_soon_as_they_run() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let mut manifest = annotated(&shop, "web", &wanted());
    manifest["spec"]["initContainers"] = json!([
        {"name": "setup", "image": "none"},
        {"name": "helper", "image": "none", "restartPolicy": "Always"},
        {"name": "istio-proxy", "image": "none", "restartPolicy": "Always"},
    ]);
    let mut web = cluster.bare_pod(&manifest).unwrap();
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let (_web, _peer) = (serving(&web, "app"), serving(&peer, "app"));
    let agent = Agent::ready(cluster, &node, 41, &[]).unwrap();
    // The one that has ended has no control group; a proxy of somebody else's is left alone.
    agent.until(&web, "capturing").unwrap();
    containers(&agent, &web, &["app", "helper"]);
    web.debug("debugger").unwrap();
    containers(&agent, &web, &["app", "debugger", "helper"]);
    for name in ["app", "debugger", "helper", "istio-proxy"] {
        asks(&web, name, &format!("http://{}:8080/of-{name}", peer.address()));
    }
    let found = records::eventually_of_kind(&node.records, "exchange", 3).unwrap();
    let mut paths: Vec<&str> =
        found.iter().filter_map(|one| one["request"]["url"].as_str()?.rsplit('/').next()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["of-app", "of-debugger", "of-helper"]);
    web.restart("helper").unwrap();
    asks(&web, "app", &format!("http://{}:8080/after", peer.address()));
    eventually(DEADLINE, "the helper that restarted", || {
        asks(&web, "helper", &format!("http://{}:8080/helper-again", peer.address()));
        let found = records::exchanges(&node.records).ok()?;
        found.iter().any(|one| one["request"]["url"].as_str().unwrap().ends_with("/helper-again")).then_some(())
    })
    .unwrap();
    agent.end().unwrap();
}

#[test]
fn a_pod_with_users_of_its_own_is_captured_in_and_out() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let _peer = serving(&peer, "app");
    let agent = Agent::ready(cluster, &node, 42, &[]).unwrap();
    for (name, mode, port) in [("transparent", "transparent", 8080), ("dual", "dual", 4143)] {
        let asked = json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": mode});
        let mut manifest = annotated(&shop, name, &asked);
        manifest["spec"]["hostUsers"] = false.into();
        let web = cluster.bare_pod(&manifest).unwrap();
        let _web = serving(&web, "app");
        agent.until(&web, "capturing").unwrap();
        let here = format!("{}:{port}", web.address()).parse().unwrap();
        let record = is_recorded(&node, &peer, here, &format!("in-{name}"));
        assert_eq!((&record["target"]["name"], &record["direction"]), (&json!(name), &json!("inbound")));
        let url = format!("http://{}:8080/out-{name}", peer.address());
        if mode == "dual" {
            crate::support::asks_through(&web, "app", &url, "http://127.0.0.1:4140");
        } else {
            asks(&web, "app", &url);
        }
        let record = eventually(DEADLINE, "what it calls", || {
            let exchanges = records::exchanges(&node.records).ok()?;
            exchanges.into_iter().find(|one| one["request"]["url"].as_str().unwrap().ends_with(&format!("/out-{name}")))
        });
        assert_eq!(record.unwrap()["target"]["name"], name);
    }
    agent.end().unwrap();
}

#[test]
fn datagrams_of_a_pod_are_counted_with_where_they_went() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let web = cluster.bare_pod(&annotated(&shop, "web", &wanted())).unwrap();
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let _web = serving(&web, "app");
    let agent = Agent::ready(cluster, &node, 43, &[]).unwrap();
    agent.until(&web, "capturing").unwrap();
    for (port, connected) in [("5301", false), ("5302", true)] {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", SEND, &peer.address(), port]).args(connected.then_some("connected"));
        assert_eq!(web.start("app", &python).unwrap().finish().unwrap().code(), 0);
    }
    let past = eventually(DEADLINE, "both in the table", || {
        let target = agent.targets().ok()?.into_iter().find(|target| target["uid"] == web.uid())?;
        let past: Vec<Value> = target["bypasses"].as_array()?.clone();
        let to = |port: u16| {
            let destination = json!(format!("{}:{port}", peer.address()));
            past.iter().find(|one| one["destination"] == destination && one["reason"] == "datagram").cloned()
        };
        Some([to(5301)?, to(5302)?])
    });
    for one in past.unwrap() {
        assert_eq!((&one["process"], &one["count"]), (&json!("python3"), &json!(1)));
    }
    let labels = format!("namespace=\"{shop}\",pod=\"web\",direction=\"out\",route=\"datagram\"");
    assert!(agent.metric(&format!("nodetap_connections_total{{{labels}}}")).unwrap() >= 2.0);
    agent.end().unwrap();
}
