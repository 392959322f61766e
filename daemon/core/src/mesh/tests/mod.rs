mod managed;
mod random;
mod routes;
mod setups;
mod steps;
mod uninstall;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::diff::Step;
use super::protocol::Protocol;
use super::sidecar::{Sidecar, Spec};
use super::snapshot::{Capture, Endpoint, Mesh, Pod, PodKey, Service, ServicePort, Snapshot, Target, Workload};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn verified(pairs: &[(u16, u16)]) -> Capture {
    Capture::Verified(pairs.iter().map(|(app, port)| (*app, Endpoint { port: *port, v4: true, v6: true })).collect())
}

/// A pod of the Deployment `web` whose listener answers for 8080.
fn pod(name: &str) -> Pod {
    Pod {
        key: PodKey { namespace: "shop".into(), name: name.into(), uid: format!("uid-{name}") },
        workload: Workload { kind: "Deployment".into(), name: "web".into() },
        labels: map(&[("app", "web")]),
        node_labels: map(&[("kubernetes.io/hostname", "n1")]),
        mesh: Mesh::Sidecar { native: false },
        addresses: BTreeSet::from(["10.0.0.5".parse().unwrap()]),
        named_ports: BTreeMap::from([("web".to_owned(), 8080)]),
        ready: true,
        capture: verified(&[(8080, 4143)]),
        ..Pod::default()
    }
}

/// A Service `NAME:PROTOCOL`: each port with its number or name.
fn service(name: &str, created: i64, ports: &[(&str, &str)]) -> Service {
    let port = |(target, protocol): &(&str, &str)| ServicePort {
        protocol: Protocol::named(protocol),
        target: target.parse().map_or_else(|_| Target::Name((*target).to_owned()), Target::Number),
    };
    Service {
        namespace: "shop".into(),
        name: name.into(),
        created,
        selector: map(&[("app", "web")]),
        ports: ports.iter().map(port).collect(),
    }
}

/// A Sidecar `NAMESPACE/NAME` of somebody's.
fn sidecar(full_name: &str, created: i64, spec: &Value) -> Sidecar {
    let (namespace, name) = full_name.split_once('/').unwrap();
    let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), format!("uid-{full_name}"));
    Sidecar { namespace, name, uid, created, spec: Spec::read(spec).unwrap(), ..Sidecar::default() }
}

fn hosts(hosts: &[&str]) -> Value {
    json!({"egress": [{"hosts": hosts}]})
}

/// What the cluster is after a step.
fn apply(snapshot: &mut Snapshot, step: Step, now: i64) {
    let mut label = |pod: &PodKey, value: Option<String>| {
        let found = snapshot.pods.iter_mut().filter(|one| one.key == *pod);
        found.for_each(|one| match value.clone() {
            Some(value) => drop(one.labels.insert(super::names::LABEL.into(), value)),
            None => drop(one.labels.remove(super::names::LABEL)),
        });
    };
    match step {
        Step::Unlabel { pod } => label(&pod, None),
        Step::Label { pod, value } => label(&pod, Some(value)),
        Step::Delete { uid, .. } => {
            let found = snapshot.sidecars.iter().position(|one| one.uid == uid).unwrap();
            assert!(snapshot.sidecars.remove(found).is_ours());
        }
        Step::Apply(ours) => {
            let at = snapshot.sidecars.iter().position(|one| one.namespace == ours.namespace && one.name == ours.name);
            // As the API server keeps it: through JSON.
            let spec = Spec::read(&ours.spec.json()).unwrap();
            let at = at.unwrap_or_else(|| {
                let uid = format!("uid-{now}-{}", snapshot.sidecars.len());
                snapshot.sidecars.push(Sidecar { uid, created: now, ..Sidecar::default() });
                snapshot.sidecars.len() - 1
            });
            let one = &mut snapshot.sidecars[at];
            assert!(one.name.is_empty() || one.is_ours(), "{one:?}");
            (one.namespace, one.name, one.spec, one.unreadable) = (ours.namespace, ours.name, spec, None);
            one.labels.extend(ours.labels);
            one.annotations.remove(super::names::BASE);
            one.annotations.extend(ours.annotations);
        }
    }
}
