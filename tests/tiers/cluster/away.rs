//! An agent that begins while the API server is away: it captures what the one before it captured, as far as that is
//! still there, and claims no more.

use std::os::unix::fs::MetadataExt as _;

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::cluster::Cluster;
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, records};
use rustix::process::Signal;
use serde_json::json;

use crate::support::{annotated, asks_through, serving};

#[test]
fn an_agent_that_restarts_while_the_api_server_is_away_goes_on_with_what_is_still_there() {
    let cluster = Cluster::up().unwrap();
    let node = Node::new().unwrap();
    let wanted = json!({"nodetap.io/inject": "true"});
    let dual = json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": "dual"});
    let web = cluster.bare_pod(&annotated("default", "web", &wanted)).unwrap();
    let proxied = cluster.bare_pod(&annotated("default", "proxied", &dual)).unwrap();
    let mut gone = cluster.bare_pod(&annotated("default", "gone", &wanted)).unwrap();
    let peer = cluster.bare_pod(&annotated("default", "peer", &json!({}))).unwrap();
    let _servers = [&web, &proxied, &peer].map(|pod| serving(pod, "app"));
    let ends = serving(&gone, "app");
    let agent = Agent::ready(&cluster, &node, 60, &[]).unwrap();
    [&web, &proxied, &gone].iter().for_each(|pod| drop(agent.until(pod, "capturing").unwrap()));
    let file = node.records.join("last-pods.json");
    eventually(DEADLINE, "that all are written down", || {
        let text = std::fs::read_to_string(&file).ok()?;
        ["web", "proxied", "gone"].iter().all(|name| text.contains(&format!("\"{name}\""))).then_some(())
    })
    .unwrap();
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&file).unwrap().contains("\"peer\""));

    cluster.api_server_away().unwrap();
    agent.signal(Signal::KILL).unwrap();
    drop(agent);
    drop(ends);
    gone.end_unseen().unwrap();
    let agent = Agent::start(&cluster, &node, 61, &[]).unwrap();
    for pod in [&web, &proxied] {
        agent.until(pod, "capturing").unwrap();
    }
    let at = format!("{}:8080", web.address()).parse().unwrap();
    http::get_over(peer.dial(at).unwrap(), "/away").unwrap();
    let at = format!("{}:4143", proxied.address()).parse().unwrap();
    http::get_over(peer.dial(at).unwrap(), "/away").unwrap();
    let url = format!("http://{}:8080/away", peer.address());
    asks_through(&proxied, "app", &url, "http://127.0.0.1:4140");
    let found = records::eventually_of_kind(&node.records, "exchange", 3).unwrap();
    assert!(found.iter().all(|one| one["target"]["name"] != "peer"), "{found:?}");
    // Of what is gone nothing is claimed, and the agent is not ready: it knows that it knows too little.
    let targets = agent.targets().unwrap();
    let state = |name: &str| targets.iter().find(|one| one["pod"] == name).map(|one| one["state"].clone());
    assert_ne!(state("gone"), Some(json!("capturing")));
    assert!(agent.page("/readyz").is_err());

    cluster.api_server_back().unwrap();
    agent.until_ready().unwrap();
    web.annotate(&json!({"nodetap.io/inject": "false"})).unwrap();
    eventually(DEADLINE, "that it hears again", || {
        let targets = agent.targets().ok()?;
        targets.iter().all(|one| one["pod"] != "web").then_some(())
    })
    .unwrap();
    drop(gone);
    agent.end().unwrap();
}
