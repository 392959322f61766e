//! What is advised about VirtualServices, and that nothing is where a Service has routes inside, or none at all.

use serde_json::{Value, json};

use super::{pod, service};
use crate::mesh::desired::Desired;
use crate::mesh::finding::{Finding, Weight};
use crate::mesh::routes::VirtualService;
use crate::mesh::snapshot::{Capture, Service, Snapshot};

/// `NAMESPACE/NAME`, its hosts and gateways, and where it leads.
fn routes(full_name: &str, hosts: &[&str], gateways: &[&str], to: &str) -> VirtualService {
    let (namespace, name) = full_name.split_once('/').unwrap();
    let spec = json!({"hosts": hosts, "gateways": gateways, "http": [{"route": [{"destination": {"host": to}}]}]});
    VirtualService::read(namespace.into(), name.into(), &spec)
}

/// What is said of a pod behind the Service `web`.
fn said(all: &[VirtualService]) -> String {
    let mut one = pod("web-1");
    (one.captured, one.capture) = (true, Capture::None);
    let other = Service { selector: super::map(&[("app", "other")]), ..service("other", 1, &[("8080", "http")]) };
    let services = vec![service("web", 1, &[("8080", "http")]), other];
    let snapshot =
        Snapshot { pods: vec![one.clone()], services, virtual_services: all.to_vec(), ..Snapshot::default() };
    let found = Desired::of(&snapshot).findings.into_values().flatten().collect::<Vec<Finding>>();
    assert!(found.iter().all(|finding| finding.weight() == Weight::Advice), "{found:?}");
    let mut without = snapshot.clone();
    without.pods[0].captured = false;
    assert!(Desired::of(&without).findings.is_empty(), "nobody asked");
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

const INSIDE: &str = "web.shop.svc.cluster.local";

#[test]
fn the_missing_host_is_named_with_the_object_and_the_line_to_add() {
    let outside = || routes("shop/public", &["shop.example.com"], &["infra/edge"], "web");
    let text = said(&[outside()]);
    assert!(text.contains("VirtualService shop/public") && text.contains("Service web"), "{text}");
    assert!(text.contains(&format!("`- {INSIDE}` to its spec.hosts and `- mesh` to its spec.gateways")), "{text}");
    let text = said(&[routes("shop/public", &["shop.example.com"], &["edge", "mesh"], "web")]);
    assert!(text.contains(&format!("add `- {INSIDE}` to its spec.hosts")) && !text.contains("gateways"), "{text}");
    let text = said(&[routes("shop/public", &["shop.example.com", "web"], &["edge"], "web")]);
    assert!(text.contains("add `- mesh` to its spec.gateways") && !text.contains("to its spec.hosts"), "{text}");
    // From another namespace, by its long name.
    assert_ne!(said(&[routes("mall/public", &["shop.example.com"], &["edge"], INSIDE)]), "");
    assert_ne!(said(&[outside(), routes("shop/other", &["other"], &[], "other")]), "");
}

#[test]
fn nothing_is_said_where_there_are_routes_inside_or_none_from_outside() {
    for (name, all) in [
        ("none", vec![]),
        ("inside only", vec![routes("shop/web", &["web"], &[], "web")]),
        ("both in one", vec![routes("shop/web", &["shop.example.com", INSIDE], &["edge", "mesh"], "web")]),
        (
            "one each",
            vec![routes("shop/a", &["x.example.com"], &["edge"], "web"), routes("shop/b", &["web"], &[], "web")],
        ),
        ("all hosts", vec![routes("shop/web", &["*"], &["edge", "mesh"], "web")]),
        ("all of the namespace", vec![routes("shop/web", &["*.shop.svc.cluster.local"], &["edge", "mesh"], "web")]),
        ("another Service", vec![routes("shop/other", &["x.example.com"], &["edge"], "other")]),
        ("the name in another namespace", vec![routes("mall/web", &["x.example.com"], &["edge"], "web")]),
        ("a longer name", vec![routes("shop/webs", &["x.example.com"], &["edge"], "web2.shop.svc.cluster.local")]),
    ] {
        assert_eq!(said(&all), "", "{name}");
    }
}

#[test]
fn a_spec_of_anything_is_read_without_complaint() {
    for spec in
        [json!(null), json!([]), json!({"hosts": 1, "http": [1, {"route": {}}, {"route": [{"destination": 1}]}]})]
    {
        let read = VirtualService::read("shop".into(), "web".into(), &spec);
        assert_eq!(read, VirtualService { namespace: "shop".into(), name: "web".into(), ..VirtualService::default() });
    }
    // What passes TLS or TCP on for callers from outside need not fit calls from inside.
    let spec: Value = json!({
        "hosts": ["a"], "gateways": ["g"], "http": [{"route": [{"destination": {"host": "d"}}]}],
        "tls": [{"route": [{"destination": {"host": "b"}}]}], "tcp": [{"route": [{"destination": {"host": "c"}}]}],
    });
    let read = VirtualService::read("shop".into(), "web".into(), &spec);
    assert_eq!(read.destinations.into_iter().collect::<Vec<_>>(), ["d"]);
}
