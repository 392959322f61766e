//! Ten thousand clusters at random: what is written never depends on the order of what is known, leads to where nothing is
//! left to write, touches nothing of anybody else's, and gives a pod one Sidecar of ours at most.

use std::collections::BTreeSet;

use serde_json::json;

use super::{apply, map, pod, service, sidecar, verified, webhook};
use crate::mesh::desired::Desired;
use crate::mesh::diff::{Observed, Step, diff};
use crate::mesh::finding::Weight;
use crate::mesh::names;
use crate::mesh::selection::Selected;
use crate::mesh::sidecar::Sidecar;
use crate::mesh::snapshot::{Capture, Mesh, Pod, Service, Settings, Snapshot};
use crate::pod::dice::Dice;

const CASES: u64 = 10_000;
const NAMESPACES: [&str; 3] = ["shop", "mall", "istio-system"];
const WORKLOADS: [&str; 3] = ["web", "db", "job"];
const PORTS: [&str; 6] = ["8080", "9000", "3000", "web", "15090", "7"];
const PROTOCOLS: [&str; 5] = ["http", "tcp", "grpc", "", "http2"];

fn any_pod(dice: &mut Dice, number: usize) -> Pod {
    let mut one = pod(&format!("pod-{number}"));
    one.key.namespace = (*dice.pick(&NAMESPACES)).into();
    one.workload.name = (*dice.pick(&WORKLOADS)).into();
    let (app, tier) = (*dice.pick(&WORKLOADS), *dice.pick(&["a", "b"]));
    one.labels = map(&[("app", app), ("tier", tier)]);
    one.ready = !dice.one_in(5);
    one.mesh = *dice.pick(&[
        Mesh::Sidecar { native: false },
        Mesh::Sidecar { native: true },
        Mesh::Sidecar { native: false },
        Mesh::Ambient,
        Mesh::Gateway,
        Mesh::None,
    ]);
    one.revision = dice.pick(&[None, None, Some("a"), Some("b")]).map(str::to_owned);
    one.capture = match dice.roll(8) {
        0 => Capture::None,
        1 => Capture::Stale("away".into()),
        2 => verified(&[(8080, 4144)]),
        3 => verified(&[(8080, 4143), (9000, 4144)]),
        4 => verified(&[(15090, 4143), (3000, 4145)]),
        _ => verified(&[(8080, 4143)]),
    };
    let keys = ["excludeInboundPorts", "includeInboundPorts", "includeOutboundIPRanges"];
    if dice.one_in(6) {
        let key = format!("traffic.sidecar.istio.io/{}", dice.pick(&keys));
        one.annotations.insert(key, (*dice.pick(&["8080", "*", "", "127.0.0.0/8"])).into());
    }
    if dice.one_in(6) {
        one.labels.insert(names::LABEL.into(), (*dice.pick(&["deployment-web", "deployment-db", "x"])).into());
    }
    one
}

fn any_service(dice: &mut Dice, number: usize) -> Service {
    let ports: Vec<(&str, &str)> = (0..=dice.roll(3)).map(|_| (*dice.pick(&PORTS), *dice.pick(&PROTOCOLS))).collect();
    let mut one = service(&format!("service-{number}"), dice.roll(3) as i64, &ports);
    one.namespace = (*dice.pick(&NAMESPACES)).into();
    one.selector = if dice.one_in(6) { map(&[]) } else { map(&[("app", *dice.pick(&WORKLOADS))]) };
    one
}

fn any_sidecar(dice: &mut Dice, number: usize) -> Sidecar {
    let mut spec = json!({});
    match dice.roll(6) {
        0 => spec["workloadSelector"] = json!({}),
        1 => spec["workloadSelector"] = json!({"labels": {"app": dice.pick(&WORKLOADS)}}),
        2 => spec["workloadSelector"] = json!({"labels": {"app": dice.pick(&WORKLOADS), "tier": "a"}}),
        _ => {}
    }
    if !dice.one_in(4) {
        spec["egress"] = json!([{"hosts": [dice.pick(&["./*", "*/*", "~/*", "a/*"])]}]);
    }
    if dice.one_in(3) {
        spec["outboundTrafficPolicy"] = json!({"mode": dice.pick(&["REGISTRY_ONLY", "ALLOW_ANY"])});
    }
    if dice.one_in(4) {
        spec["ingress"] = json!([{"port": {"number": dice.pick(&[8080, 9000]), "protocol": "HTTP", "name": "x"}}]);
        if dice.one_in(2) {
            spec["ingress"][0]["defaultEndpoint"] = json!(dice.pick(&["127.0.0.1:8080", "127.0.0.1:9", "unix://@x"]));
        }
    }
    let names = [format!("theirs-{number}"), "nodetap-deployment-web".to_owned(), "nodetap-old".to_owned()];
    let name = if dice.one_in(4) { dice.pick(&names).clone() } else { names[0].clone() };
    let mut one = sidecar(&format!("{}/{name}", dice.pick(&NAMESPACES)), dice.roll(4) as i64, &spec);
    if dice.one_in(5) {
        one.labels = map(&[names::MANAGED]);
    }
    if dice.one_in(6) {
        one.labels.insert("istio.io/rev".into(), (*dice.pick(&["a", "b"])).into());
    }
    one
}

fn any_cluster(dice: &mut Dice) -> Snapshot {
    let (pods, services, sidecars) = (dice.roll(8), dice.roll(4), dice.roll(5));
    let mut sidecars: Vec<Sidecar> = (0..sidecars).map(|number| any_sidecar(dice, number)).collect();
    let mut seen = BTreeSet::new();
    sidecars.retain(|one| seen.insert(one.full_name()));
    let hosts = if dice.one_in(3) { BTreeSet::from(["tools/*".to_owned()]) } else { BTreeSet::new() };
    Snapshot {
        settings: Settings { egress_hosts: hosts, ..Settings::default() },
        pods: (0..pods).map(|number| any_pod(dice, number)).collect(),
        services: (0..services).map(|number| any_service(dice, number)).collect(),
        sidecars,
        virtual_services: Vec::new(),
        merbridge: dice.one_in(20),
    }
}

fn each_cluster(mut check: impl FnMut(&mut Dice, Snapshot, u64)) {
    for seed in 0..CASES {
        let dice = &mut Dice::of(seed);
        let snapshot = any_cluster(dice);
        check(dice, snapshot, seed);
    }
}

/// What the cluster has when all that is desired was done.
fn as_desired(desired: &Desired) -> Observed {
    let sidecars = desired.sidecars.iter().map(|(key, ours)| {
        let (labels, annotations, spec) = (ours.labels.clone(), ours.annotations.clone(), ours.spec.clone());
        (key.clone(), Sidecar { labels, annotations, spec, ..Sidecar::default() })
    });
    Observed { sidecars: sidecars.collect(), labels: desired.labels.clone() }
}

#[test]
fn nothing_is_left_to_do_where_all_is_as_it_should_be() {
    let mut some = 0;
    each_cluster(|_, snapshot, seed| {
        let desired = Desired::of(&snapshot);
        some += desired.sidecars.len();
        assert_eq!(diff(&desired, &as_desired(&desired)), [], "{seed}");
    });
    assert!(some > 5000, "{some}");
}

#[test]
fn what_was_planned_and_done_leaves_nothing_to_plan_and_touches_nothing_of_others() {
    each_cluster(|_, mut snapshot, seed| {
        let theirs = |snapshot: &Snapshot| -> Vec<Sidecar> {
            snapshot.sidecars.iter().filter(|one| !one.is_ours()).cloned().collect()
        };
        let before = theirs(&snapshot);
        let steps = diff(&Desired::of(&snapshot), &Observed::of(&snapshot));
        for step in steps {
            if let Step::Apply(ours) = &step {
                assert_eq!(ours.labels, map(&[names::MANAGED]), "{seed}");
            }
            // It asserts by itself that what is changed or deleted has our label.
            apply(&mut snapshot, step, 100);
        }
        assert_eq!(theirs(&snapshot), before, "{seed}");
        assert_eq!(diff(&Desired::of(&snapshot), &Observed::of(&snapshot)), [], "{seed}");
    });
}

#[test]
fn the_order_of_what_is_known_means_nothing() {
    each_cluster(|dice, snapshot, seed| {
        let mut other = snapshot.clone();
        dice.shuffle(&mut other.pods);
        dice.shuffle(&mut other.services);
        dice.shuffle(&mut other.sidecars);
        let (one, two) = (Desired::of(&snapshot), Desired::of(&other));
        assert_eq!(one, two, "{seed}");
        assert_eq!(diff(&one, &Observed::of(&snapshot)), diff(&two, &Observed::of(&other)), "{seed}");
    });
}

#[test]
fn ours_are_accepted_never_overlap_and_reach_what_the_pod_reaches_without_them() {
    each_cluster(|_, snapshot, seed| {
        let desired = Desired::of(&snapshot);
        let mut selectors = BTreeSet::new();
        for ours in desired.sidecars.values() {
            webhook::accepts(ours);
            let labels = ours.spec.workload_selector.clone().unwrap().labels;
            assert!(selectors.insert((ours.namespace.clone(), labels)), "{seed}: two of ours for one pod");
        }
        for (key, value) in &desired.labels {
            let pod = snapshot.pods.iter().find(|pod| pod.key == *key).unwrap();
            let ours = &desired.sidecars[&(key.namespace.clone(), names::sidecar(value))];
            assert!(matches!(pod.mesh, Mesh::Sidecar { .. }) && matches!(pod.capture, Capture::Verified(_)), "{seed}");
            let withdrawn =
                desired.findings.get(key).into_iter().flatten().any(|one| one.weight() == Weight::Withdrawn);
            assert!(!withdrawn, "{seed}");
            let base = match Selected::of(pod, &snapshot) {
                Selected::Workload(_) => panic!("{seed}: a user's own Sidecar is replaced"),
                Selected::Default(base) => base.spec.rest.clone(),
                Selected::Nothing => serde_json::Map::new(),
            };
            for field in ["outboundTrafficPolicy", "inboundConnectionPool"] {
                assert_eq!(ours.spec.rest.get(field), base.get(field), "{seed}");
            }
            if snapshot.settings.egress_hosts.is_empty() {
                let all = json!([{"hosts": ["*/*"]}]);
                assert_eq!(ours.spec.rest["egress"], *base.get("egress").unwrap_or(&all), "{seed}");
            }
            // Every listener that Envoy is sent to answers in this pod.
            let Capture::Verified(endpoints) = &pod.capture else { continue };
            let answering: BTreeSet<String> = endpoints.values().map(|one| format!("127.0.0.1:{}", one.port)).collect();
            let sent = ours.spec.ingress.iter().filter_map(|entry| entry.default_endpoint.clone());
            let to_us: Vec<String> = sent.filter(|endpoint| endpoint.starts_with("127.0.0.1:41")).collect();
            assert!(
                !to_us.is_empty() && to_us.iter().all(|endpoint| answering.contains(endpoint)),
                "{seed}: {to_us:?}"
            );
        }
    });
}
