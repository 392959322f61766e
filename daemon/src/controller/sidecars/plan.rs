//! What would be written, and why, without writing it: for whoever wants to see it first, with the rights to read.

use std::fmt::Write as _;

use kube::Client;
use nodetap_core::mesh::desired::Desired;
use nodetap_core::mesh::diff::{Observed, diff};
use nodetap_core::mesh::managed::Managed;
use nodetap_core::mesh::snapshot::Settings;
use serde_json::{Value, json};

use super::objects::{SidecarObject, SidecarV1, SidecarV1Beta1};
use super::{Version, lists, version, write};
use crate::cluster::Connection;
use crate::controller::options::Output;

/// The plan as text.
///
/// # Errors
/// What the API server says.
pub(in crate::controller) async fn print(
    connection: &Connection,
    settings: &Settings,
    output: Output,
) -> kube::Result<String> {
    let (found, objects) = match version(connection).await? {
        None => return Ok("# this cluster has no Sidecars of Istio's: nothing would be written\n".into()),
        Some(Version::V1) => plan::<SidecarV1>(&connection.client, settings).await?,
        Some(Version::V1Beta1) => plan::<SidecarV1Beta1>(&connection.client, settings).await?,
    };
    Ok(match output {
        Output::Yaml => yaml(&found, &objects),
        Output::Json => format!("{}\n", json(&found, &objects)),
    })
}

/// What there should be, and how many steps lead there.
struct Plan {
    desired: Desired,
    managed: Managed,
    steps: usize,
}

async fn plan<K: SidecarObject>(client: &Client, settings: &Settings) -> kube::Result<(Plan, Vec<Value>)> {
    let snapshot = lists::of::<K>(client, None, settings).await?.snapshot;
    let desired = Desired::of(&snapshot);
    let managed = Managed::of(&snapshot, &desired);
    let steps = diff(&desired, &Observed::of(&snapshot)).len() + managed.changes.len();
    let objects = desired.sidecars.values().map(write::object::<K>).collect();
    Ok((Plan { desired, managed, steps }, objects))
}

/// Writing to a string does not fail.
fn yaml(Plan { desired, managed, steps }: &Plan, objects: &[Value]) -> String {
    let mut text = format!("# {} Sidecars, {steps} steps from here\n", objects.len());
    for (key, findings) in &desired.findings {
        for finding in findings {
            let _ = writeln!(text, "# {}/{}: {finding}", key.namespace, key.name);
        }
    }
    for change in &managed.changes {
        let (egress, added) = (json!(change.egress), change.added.as_deref().unwrap_or("nothing"));
        let _ =
            writeln!(text, "# Sidecar {}/{}: egress {egress}; of that ours: {added}", change.namespace, change.name);
    }
    for ((namespace, name), notice) in &managed.notices {
        let _ = writeln!(text, "# Sidecar {namespace}/{name}: {}", notice.said);
    }
    for (object, ours) in objects.iter().zip(desired.sidecars.values()) {
        let value = ours.spec.workload_selector.iter().flat_map(|selector| selector.labels.values()).next();
        let theirs =
            desired.labels.iter().filter(|(key, label)| key.namespace == ours.namespace && Some(*label) == value);
        let pods: Vec<&str> = theirs.map(|(key, _)| key.name.as_str()).collect();
        let base = ours.annotations.get(nodetap_core::mesh::names::BASE);
        let base = base.map_or("no Sidecar: they reach everything".into(), |base| format!("Sidecar {base}"));
        let object = serde_saphyr::to_string(object).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"));
        let _ = write!(text, "---\n# for {}; made of {base}\n{object}", pods.join(", "));
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

fn json(Plan { desired, managed, steps }: &Plan, objects: &[Value]) -> Value {
    let findings = desired.findings.iter().flat_map(|(key, findings)| {
        findings.iter().map(move |finding| {
            json!({"namespace": key.namespace, "pod": key.name, "reason": finding.reason(), "note": finding.to_string()})
        })
    });
    let labels = desired.labels.iter();
    let labels = labels.map(|(key, value)| json!({"namespace": key.namespace, "pod": key.name, "value": value}));
    let egress = managed.changes.iter().map(|change| {
        json!({"namespace": change.namespace, "sidecar": change.name, "egress": change.egress, "added": change.added})
    });
    let notices = managed.notices.iter().map(|((namespace, name), notice)| {
        let (reason, note) = (notice.said.reason(), notice.said.to_string());
        json!({"namespace": namespace, "sidecar": name, "reason": reason, "note": note})
    });
    json!({
        "sidecars": objects, "labels": labels.collect::<Vec<_>>(), "egress": egress.collect::<Vec<_>>(),
        "findings": findings.chain(notices).collect::<Vec<_>>(), "steps": steps,
    })
}
