//! Pods that have addresses of one family only.

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::{http, records};
use serde_json::json;

use crate::support::{annotated, asks, asks_through, of_pod, serving};

#[test]
fn a_pod_that_has_no_ipv4_address_is_captured_in_and_out() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let of_type = |kind: &str| json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": kind});
    let plain = pod::manifest(&shop, "peer", &[("app", 8080)]);
    let manifests =
        [annotated(&shop, "web", &of_type("transparent")), annotated(&shop, "way", &of_type("dual")), plain];
    let mut pods: Vec<BarePod<'_>> = manifests.iter().map(|manifest| cluster.bare_pod(manifest).unwrap()).collect();
    pods.iter_mut().for_each(|pod| pod.take_ipv4_away().unwrap());
    let [web, way, peer] = &pods[..] else { panic!("three pods") };
    let _servers: Vec<_> = pods.iter().map(|pod| serving(pod, "app")).collect();
    let agent = Agent::ready(cluster, &node, 2, &[]).unwrap();
    for pod in [web, way] {
        agent.until(pod, "capturing").unwrap();
    }
    let url = format!("http://[{}]:8080/out", peer.address6());
    assert_eq!(asks(web, "app", &url), web.address6());
    assert_eq!(asks_through(way, "app", &url, "http://localhost:4140"), way.address6());
    for (pod, port) in [(web, 8080), (way, 4143)] {
        let at = format!("[{}]:{port}", pod.address6()).parse().unwrap();
        http::get_over(peer.dial(at).unwrap(), "/in").unwrap();
    }
    let found = records::eventually_of_kind(&node.records, "exchange", 4).unwrap();
    for (name, ways) in [("web", ["transparent"; 2]), ("way", ["forward-http", "reverse"])] {
        let mut via: Vec<_> = of_pod(&found, name).iter().filter_map(|one| one["via"].as_str()).collect();
        via.sort_unstable();
        assert_eq!(via, ways, "{found:?}");
    }
    for one in found.iter().filter(|one| one["direction"] == "inbound") {
        assert_eq!(one["client"]["address"], peer.address6(), "{one}");
    }
    agent.end().unwrap();
}
