//! Everything of ours goes, in an order that keeps pods served, and nothing else does.

use std::collections::BTreeSet;

use serde_json::json;

use super::{apply, hosts, map, pod, service, sidecar};
use crate::mesh::desired::Desired;
use crate::mesh::diff::{Observed, diff};
use crate::mesh::names::{self, ADDED_EGRESS, MANAGE_EGRESS};
use crate::mesh::snapshot::Snapshot;
use crate::mesh::uninstall::Uninstall;

#[test]
fn labels_go_first_then_sidecars_and_objects_of_users_are_as_before() {
    let mut theirs = sidecar("shop/default", 1, &hosts(&["./*", "tools/*"]));
    theirs.annotations = map(&[(MANAGE_EGRESS, "true"), (ADDED_EGRESS, r#"{"hosts":["tools/*"]}"#)]);
    let mut shop = Snapshot {
        pods: vec![pod("web-1"), pod("web-2")],
        services: vec![service("web", 1, &[("8080", "http")])],
        sidecars: vec![theirs],
        ..Snapshot::default()
    };
    shop.settings.egress_hosts = BTreeSet::from(["tools/*".to_owned()]);
    for step in diff(&Desired::of(&shop), &Observed::of(&shop)) {
        apply(&mut shop, step, 2);
    }
    assert!(shop.pods.iter().all(|pod| pod.labels.contains_key(names::LABEL)));
    let marked = BTreeSet::from([shop.pods[0].key.clone()]);
    let plan = Uninstall::of(shop.clone(), marked.clone());
    let expected = "pod shop/web-1: the label goes\npod shop/web-2: the label goes\n\
        Sidecar shop/nodetap-deployment-web: deleted\nSidecar shop/default: our hosts go, egress is ./*\n\
        pod shop/web-1: our condition and annotation go\n";
    assert_eq!(plan.to_string(), expected);
    assert!(!plan.is_apart());
    for step in plan.steps {
        apply(&mut shop, step, 3);
    }
    let change = &plan.egress[0];
    assert_eq!((&change.egress, &change.added), (&json!([{"hosts": ["./*"]}]).as_array().cloned(), &None));
    shop.sidecars[0].annotations.remove(ADDED_EGRESS);
    assert_eq!(Uninstall::of(shop, BTreeSet::new()), Uninstall::default());
}

#[test]
fn where_nothing_of_ours_is_nothing_goes() {
    let theirs = vec![sidecar("shop/default", 1, &hosts(&["./*"])), sidecar("shop/nodetap-x", 1, &hosts(&["./*"]))];
    let shop = Snapshot { pods: vec![pod("web-1")], sidecars: theirs, ..Snapshot::default() };
    let plan = Uninstall::of(shop, BTreeSet::new());
    assert!(plan.is_apart() && plan.to_string().is_empty(), "{plan}");
}
