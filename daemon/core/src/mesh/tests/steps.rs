//! In which order things are written, and that nothing else is.

use serde_json::json;

use super::{apply, hosts, map, pod, service, sidecar, verified};
use crate::mesh::desired::Desired;
use crate::mesh::diff::{Observed, Step, diff};
use crate::mesh::names;
use crate::mesh::sidecar::Sidecar;
use crate::mesh::snapshot::{Capture, Snapshot};

fn steps(snapshot: &Snapshot) -> Vec<Step> {
    diff(&Desired::of(snapshot), &Observed::of(snapshot))
}

fn words(steps: &[Step]) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::Unlabel { pod } => format!("unlabel {}", pod.name),
        Step::Apply(ours) => format!("apply {}", ours.name),
        Step::Label { pod, .. } => format!("label {}", pod.name),
        Step::Delete { name, .. } => format!("delete {name}"),
    };
    steps.iter().map(word).collect()
}

/// Does all that is to be done, and says it.
fn settle(snapshot: &mut Snapshot) -> Vec<String> {
    let steps = steps(snapshot);
    let words = words(&steps);
    for step in steps {
        apply(snapshot, step, 7);
    }
    assert_eq!(self::steps(snapshot), []);
    words
}

fn shop() -> Snapshot {
    let services = vec![service("web", 1, &[("8080", "http")])];
    Snapshot { pods: vec![pod("web-1"), pod("web-2")], services, ..Snapshot::default() }
}

#[test]
fn the_object_comes_before_labels_and_goes_after_them() {
    let mut shop = shop();
    assert_eq!(settle(&mut shop), ["apply nodetap-deployment-web", "label web-1", "label web-2"]);
    shop.pods[0].capture = Capture::None;
    assert_eq!(settle(&mut shop), ["unlabel web-1"]);
    shop.pods[1].capture = Capture::Stale("its node is not ready".into());
    assert_eq!(settle(&mut shop), ["unlabel web-2", "delete nodetap-deployment-web"]);
}

#[test]
fn a_pod_loses_its_label_before_the_object_moves_away_from_it() {
    let mut shop = shop();
    settle(&mut shop);
    shop.pods.push(pod("web-3"));
    shop.pods[1].capture = verified(&[(8080, 4150)]);
    shop.pods[2].capture = verified(&[(8080, 4150)]);
    let did = settle(&mut shop);
    assert_eq!(did, ["unlabel web-1", "apply nodetap-deployment-web", "label web-3"]);
}

#[test]
fn ours_follows_its_base_and_what_others_did_to_it_is_undone() {
    let mut shop = shop();
    settle(&mut shop);
    shop.sidecars.push(sidecar("shop/default", 1, &hosts(&["./*"])));
    assert_eq!(settle(&mut shop), ["apply nodetap-deployment-web"]);
    shop.sidecars[0].spec.rest.insert("egress".into(), json!([{"hosts": ["*/*"]}]));
    assert_eq!(settle(&mut shop), ["apply nodetap-deployment-web"]);
    shop.sidecars[0].spec.workload_selector = None;
    assert_eq!(settle(&mut shop), ["apply nodetap-deployment-web"]);
    // Labels and annotations of others are theirs.
    shop.sidecars[0].labels.insert("team".into(), "a".into());
    shop.sidecars[0].annotations.insert("team".into(), "a".into());
    assert_eq!(steps(&shop), []);
    shop.sidecars.remove(0);
    assert_eq!(settle(&mut shop), ["apply nodetap-deployment-web"]);
    shop.pods[0].labels.insert(names::LABEL.into(), "deployment-other".into());
    assert_eq!(settle(&mut shop), ["unlabel web-1", "label web-1"]);
}

#[test]
fn what_is_not_ours_is_never_touched() {
    let mut shop = shop();
    let managed = map(&[names::MANAGED]);
    shop.sidecars = vec![
        // Of ours nothing but the label, nothing but the name, and one that is ours by both and of no use any more.
        Sidecar { labels: managed.clone(), ..sidecar("mall/theirs", 1, &json!({"workloadSelector": {}})) },
        sidecar("mall/nodetap-deployment-web", 1, &json!({"workloadSelector": {}})),
        Sidecar { labels: managed, ..sidecar("mall/nodetap-deployment-old", 1, &json!({})) },
    ];
    let did = settle(&mut shop);
    assert_eq!(did, ["apply nodetap-deployment-web", "label web-1", "label web-2", "delete nodetap-deployment-old"]);
    // What loses our label in somebody's hands is theirs from then on: the pods are Istio's own again.
    let ours = shop.sidecars.iter_mut().find(|one| one.namespace == "shop").unwrap();
    ours.labels.clear();
    assert_eq!(settle(&mut shop), ["unlabel web-1", "unlabel web-2"]);
}
