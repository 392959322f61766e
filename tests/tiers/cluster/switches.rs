//! What is switched while pods are captured: all capture of the cluster, connections that are older, what the node calls;
//! and what Services say of a pod's ports.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, nodetap, process, records};
use serde_json::{Value, json};

use crate::support::{annotated, serving};

/// The namespace that the agents of these tests call their own.
const OURS: &str = "default";

/// `nodetap pause`; capture goes on when the value is gone.
struct Paused<'a>(&'a Cluster);

impl<'a> Paused<'a> {
    fn all(cluster: &'a Cluster) -> Self {
        say(cluster, &["pause", "--all"]);
        Self(cluster)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        drop(self.0.api("DELETE", &format!("/api/v1/namespaces/{OURS}/configmaps/nodetap-pause"), None));
    }
}

fn say(cluster: &Cluster, words: &[&str]) {
    let mut command = nodetap::command(words);
    command.args(["--namespace", OURS, "--kubeconfig"]).arg(cluster.kubeconfig());
    let said = cluster.start(&command).unwrap().finish().unwrap();
    assert_eq!(said.code(), 0, "{}", said.err);
}

fn recorded(node: &Node, end: &str) -> bool {
    let exchanges = records::exchanges(&node.records).unwrap();
    exchanges.iter().any(|one| one["request"]["url"].as_str().unwrap().ends_with(end))
}

/// Calls until a call is recorded.
fn until_recorded(node: &Node, peer: &BarePod<'_>, to: &str, word: &str) {
    let (to, mut calls) = (to.parse().unwrap(), 0);
    let found = eventually(DEADLINE, word, || {
        calls += 1;
        let path = format!("/{word}-{calls}");
        http::get_over(peer.dial(to).ok()?, &path).ok()?;
        eventually(Duration::from_secs(1), "a record", || recorded(node, &path).then_some(())).ok()
    });
    found.unwrap();
}

#[test]
fn a_pause_stops_all_capture_and_a_resume_goes_on_also_for_an_agent_that_begins_meanwhile() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let modes = [("steered", "transparent", 8080), ("dual", "dual", 4143)];
    let webs = modes.map(|(name, mode, port)| {
        let asked = json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": mode});
        (cluster.bare_pod(&annotated(&shop, name, &asked)).unwrap(), port)
    });
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let _servers = [serving(&webs[0].0, "app"), serving(&webs[1].0, "app")];
    let to = |(web, port): &(BarePod<'_>, u16)| format!("{}:{port}", web.address());
    let agent = Agent::ready(cluster, &node, 50, &[]).unwrap();
    webs.iter().for_each(|web| drop(agent.until(&web.0, "capturing").unwrap()));
    webs.iter().for_each(|web| until_recorded(&node, &peer, &to(web), "before"));

    let paused = Paused::all(cluster);
    for (web, _) in &webs {
        let said = eventually(DEADLINE, "a condition that says so", || {
            web.condition().filter(|said| said["status"] == "False")
        });
        // Callers of the reverse proxy are served for a while.
        let reason = said.unwrap()["reason"].clone();
        assert!(["Paused", "Draining"].contains(&reason.as_str().unwrap()), "{reason}");
    }
    assert!(agent.page("/readyz").unwrap().contains("paused"));
    assert!(
        agent.page("/metrics").unwrap().lines().any(|line| line.starts_with("nodetap_paused") && line.ends_with(" 1"))
    );
    for web in &webs {
        let dialled = peer.dial(to(web).parse().unwrap()).unwrap();
        http::get_over(dialled, "/paused").unwrap();
    }
    agent.end().unwrap();
    let agent = Agent::ready(cluster, &node, 51, &[]).unwrap();
    http::get_over(peer.dial(to(&webs[0]).parse().unwrap()).unwrap(), "/paused").unwrap();
    say(cluster, &["resume"]);
    webs.iter().for_each(|web| until_recorded(&node, &peer, &to(web), "resumed"));
    assert!(!recorded(&node, "/paused"));
    drop(paused);
    agent.end().unwrap();
}

/// Asks over a connection that stays open.
fn asks(stream: &mut TcpStream, path: &str) -> std::io::Result<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())?;
    let head = http::read_head(stream).ok_or(std::io::ErrorKind::ConnectionReset)?;
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    stream.read_exact(&mut vec![0; length.ok_or(std::io::ErrorKind::UnexpectedEof)?])
}

#[test]
fn connections_that_are_older_are_counted_and_closed_only_where_that_is_asked_for() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let webs = ["kept", "closed"].map(|name| cluster.bare_pod(&annotated(&shop, name, &json!({}))).unwrap());
    let _servers = [serving(&webs[0], "app"), serving(&webs[1], "app")];
    let agent = Agent::ready(cluster, &node, 52, &[]).unwrap();
    let mut pools = webs.each_ref().map(|web| {
        let mut pooled = peer.dial(format!("{}:8080", web.address()).parse().unwrap()).unwrap();
        asks(&mut pooled, "/before").unwrap();
        pooled
    });
    for (web, reset) in webs.iter().zip(["false", "true"]) {
        web.annotate(&json!({"nodetap.io/inject": "true", "nodetap.io/reset-older-connections": reset})).unwrap();
        agent.until(web, "capturing").unwrap();
        let name = web.path().rsplit('/').next().unwrap();
        let labels = format!("namespace=\"{shop}\",pod=\"{name}\",direction=\"in\",route=\"before_attach\"");
        let line = format!("nodetap_connections_total{{{labels}}}");
        eventually(DEADLINE, "that it is counted", || agent.metric(&line).ok().filter(|count| *count >= 1.0)).unwrap();
    }
    let [kept, closed] = &mut pools;
    // Idle for a while, and looked at every half minute: then a caller's pool is told by a reset.
    closed.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let begun = Instant::now();
    let error = closed.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    println!("closed {:?} after it was asked for", begun.elapsed());
    asks(kept, "/kept").unwrap();
    until_recorded(&node, &peer, &format!("{}:8080", webs[1].address()), "new");
    assert!(!recorded(&node, "/kept") && !recorded(&node, "/before"));
    agent.end().unwrap();
}

/// Listens on two ports.
const TWO: &str = "import socket, signal\n\
    a, b = (socket.create_server(('', port)) for port in (8080, 9090))\n\
    print('listening', flush=True)\nsignal.pause()\n";

#[test]
fn ports_that_neither_annotation_nor_manifest_names_are_those_that_services_send_to() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let mut manifest = pod::manifest(&shop, "web", &[("app", 0)]);
    manifest["metadata"]["annotations"] = json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": "reverse"});
    let web = cluster.bare_pod(&manifest).unwrap();
    let mut python = std::process::Command::new("/usr/bin/python3");
    let program = web.start("app", python.args(["-c", TWO])).unwrap();
    program.line(process::Stream::Out, "that it listens", |line| (line == "listening").then_some(())).unwrap();
    let agent = Agent::ready(cluster, &node, 53, &[]).unwrap();
    agent.until(&web, "capturing").unwrap();
    let ports = |expected: Value| {
        let mut last = Value::Null;
        let seen = eventually(DEADLINE, "ports", || {
            let said = web.condition()?;
            last = serde_json::from_str(said["message"].as_str()?).ok()?;
            (last["ports"] == expected).then_some(())
        });
        seen.unwrap_or_else(|error| panic!("{error}: {expected} and not {last}"));
    };
    ports(json!([8080, 9090]));
    let service = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {shop}}}, \
         spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 9090}}]}}}}"
    );
    cluster.apply(&service).unwrap();
    ports(json!([9090]));
    cluster.kubectl(&["-n", &shop, "delete", "service", "web"]).unwrap();
    ports(json!([8080, 9090]));
    agent.end().unwrap();
}
