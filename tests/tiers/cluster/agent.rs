//! The agent and pods without a kubelet: what is annotated is captured, and what becomes of it afterwards.

use std::time::{Duration, Instant};

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::bars::bar;
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::pod;
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, records};
use serde_json::{Value, json};

use crate::support::{annotated, asks, asks_through, of_pod, serving};

#[test]
fn a_running_pod_that_is_annotated_is_captured_in_and_out_without_a_restart() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let web = cluster.bare_pod(&pod::manifest(&shop, "web", &[("app", 8080)])).unwrap();
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let (_web, _peer) = (serving(&web, "app"), serving(&peer, "app"));
    let agent = Agent::ready(cluster, &node, 0, &[]).unwrap();
    let before = web.object().unwrap();

    let asked = Instant::now();
    web.annotate(&json!({"nodetap.io/inject": "true"})).unwrap();
    let target = agent.until(&web, "capturing").unwrap();
    let took = asked.elapsed();
    bar(took < Duration::from_secs(1), &format!("captured {took:?} after the annotation"));
    assert_eq!(target["mode"], "transparent");

    let at = format!("{}:8080", web.address()).parse().unwrap();
    let inbound = http::get_over(peer.dial(at).unwrap(), "/in").unwrap();
    assert_eq!(String::from_utf8(inbound).unwrap(), format!("::ffff:{}", peer.address()));
    let outbound = asks(&web, "app", &format!("http://{}:8080/out", peer.address()));
    assert_eq!(outbound, format!("::ffff:{}", web.address()));

    let found = records::eventually_of_kind(&node.records, "exchange", 2).unwrap();
    let found = of_pod(&found, "web");
    assert_eq!(found.len(), 2, "{found:?}");
    let directions: Vec<_> = found.iter().map(|record| record["direction"].as_str().unwrap()).collect();
    assert!(directions.contains(&"inbound") && directions.contains(&"outbound"), "{directions:?}");
    for record in found {
        assert_eq!((&record["target"]["namespace"], &record["via"]), (&json!(shop), &json!("transparent")));
    }
    let after = web.object().unwrap();
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);
    let said =
        eventually(DEADLINE, "the condition", || web.condition().filter(|said| said["status"] == "True")).unwrap();
    let message: Value = serde_json::from_str(said["message"].as_str().unwrap()).unwrap();
    assert_eq!((&message["mode"], &message["ports"]), (&json!("transparent"), &json!([8080])));

    web.annotate(&json!({"nodetap.io/inject": null})).unwrap();
    eventually(DEADLINE, "the end of capture", || web.condition().filter(|said| said["status"] == "False")).unwrap();
    agent.end().unwrap();
}

#[test]
fn a_dual_pod_is_captured_where_it_was_told_to_go_and_what_goes_past_is_counted() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let asked = json!({
        "sidecar.speedscale.com/inject": "true", "sidecar.speedscale.com/capture-mode": "proxy",
        "sidecar.speedscale.com/proxy-type": "dual", "sidecar.speedscale.com/proxy-protocol": "tcp:http",
        "sidecar.speedscale.com/proxy-host": "localhost", "sidecar.speedscale.com/proxy-port": "8080",
    });
    let web = cluster.bare_pod(&annotated(&shop, "web", &asked)).unwrap();
    let peer = cluster.bare_pod(&pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let (_web, _peer) = (serving(&web, "app"), serving(&peer, "app"));
    let agent = Agent::ready(cluster, &node, 2, &[]).unwrap();
    let target = agent.until(&web, "capturing").unwrap();
    assert_eq!(target["listeners"], json!(["inbound port 4143", "outbound port 4140"]));
    let at = format!("{}:4143", web.address()).parse().unwrap();
    http::get_over(peer.dial(at).unwrap(), "/in").unwrap();
    let url = format!("http://{}:8080/out", peer.address());
    let answer = asks_through(&web, "app", &url, "http://127.0.0.1:4140");
    assert_eq!(answer, format!("::ffff:{}", web.address()));
    // The application's own choice: past the proxy.
    asks(&web, "app", &url);
    let found = records::eventually_of_kind(&node.records, "exchange", 2).unwrap();
    let mut ways: Vec<_> = found.iter().map(|one| (one["direction"].as_str(), one["via"].as_str())).collect();
    ways.sort_unstable();
    assert_eq!(ways, [(Some("inbound"), Some("reverse")), (Some("outbound"), Some("forward-http"))]);
    let past = records::eventually_of_kind(&node.records, "connection", 1).unwrap();
    assert_eq!((past[0]["via"].as_str(), past[0]["process"]["name"].as_str()), (Some("direct"), Some("python3")));
    let count = |direction: &str, route: &str| {
        let labels = format!("namespace=\"{shop}\",pod=\"web\",direction=\"{direction}\",route=\"{route}\"");
        agent.metric(&format!("nodetap_connections_total{{{labels}}}")).unwrap()
    };
    assert_eq!((count("in", "proxy"), count("out", "proxy")), (1.0, 1.0));
    assert_eq!(count("out", "bypass"), 1.0);
    agent.end().unwrap();
}

#[test]
fn a_typo_is_told_to_the_pods_owner_and_its_traffic_is_left_alone() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let annotations = json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": "transparant"});
    let web = cluster.bare_pod(&annotated(&shop, "web", &annotations)).unwrap();
    let _web = serving(&web, "app");
    let agent = Agent::ready(cluster, &node, 1, &[]).unwrap();
    agent.until(&web, "refused").unwrap();
    let events = format!("/api/v1/namespaces/{shop}/events");
    let event = eventually(DEADLINE, "an Event", || {
        let events = cluster.api("GET", &events, None).ok()?;
        events["items"].as_array()?.iter().find(|event| event["involvedObject"]["uid"] == web.uid()).cloned()
    });
    let event = event.unwrap();
    let note = event["message"].as_str().unwrap();
    for word in ["nodetap.io/proxy-type", "transparant", "transparent, reverse, forward, dual"] {
        assert!(note.contains(word), "{word} in {note}");
    }
    assert_eq!(event["type"], "Warning");
    let at = format!("{}:8080", web.address()).parse().unwrap();
    http::get_over(web.dial(at).unwrap(), "/").unwrap();
    assert!(records::exchanges(&node.records).unwrap().is_empty());
    agent.end().unwrap();
}
