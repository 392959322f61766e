//! The agent and pods without a kubelet: what is annotated is captured, and what becomes of it afterwards.

use std::time::{Duration, Instant};

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::pod;
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, records};
use serde_json::{Value, json};

use crate::support::{annotated, asks, condition, of_pod, serving};

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
    assert!(took < Duration::from_secs(1), "it took {took:?}");
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
        eventually(DEADLINE, "the condition", || condition(&web).filter(|said| said["status"] == "True")).unwrap();
    let message: Value = serde_json::from_str(said["message"].as_str().unwrap()).unwrap();
    assert_eq!((&message["mode"], &message["ports"]), (&json!("transparent"), &json!([8080])));

    web.annotate(&json!({"nodetap.io/inject": null})).unwrap();
    eventually(DEADLINE, "the end of capture", || condition(&web).filter(|said| said["status"] == "False")).unwrap();
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
