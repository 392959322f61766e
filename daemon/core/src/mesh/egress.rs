//! Hosts that captured pods are to reach besides those that they reach today. Nothing of the user's is taken away, but for
//! a `~/*`: beside it no other host means anything.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Everything: what a pod without a Sidecar reaches.
pub const ALL: &str = "*/*";
/// Nothing.
const NONE: &str = "~/*";

/// Makes sure that there is egress, which Istio otherwise takes for `*/*`, and that `extra` is in it.
///
/// # Errors
/// Says what of the egress is not as Istio describes it.
pub fn complete(spec: &mut Map<String, Value>, extra: &BTreeSet<String>) -> Result<(), String> {
    let egress = spec.entry("egress").or_insert_with(|| json!([]));
    if egress.is_null() {
        *egress = json!([]);
    }
    let listeners = egress.as_array_mut().ok_or("egress is no list")?;
    if listeners.is_empty() {
        listeners.push(json!({"hosts": [ALL]}));
    }
    add(listeners, extra).map(drop)
}

/// What was added to an egress, so that just that can be taken away again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// Behind the hosts that were there.
    pub hosts: Vec<String>,
    /// In the place of a `~/*`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nothing: bool,
    /// In a listener that was not there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub listener: bool,
}

/// Adds those of `extra` that are not reached; nothing when all are. No listeners are no restriction: all is reached.
///
/// # Errors
/// Says what of the egress is not as Istio describes it; then nothing was changed.
pub fn add(listeners: &mut Vec<Value>, extra: &BTreeSet<String>) -> Result<Option<Added>, String> {
    if listeners.is_empty() || extra.is_empty() {
        return Ok(None);
    }
    // The one without a port is for everything that no other one has, and stands last.
    let listener = listeners.last().is_none_or(|last| last.get("port").is_some_and(|port| !port.is_null()));
    let mut made = json!({"hosts": []});
    let last = if listener { Some(&mut made) } else { listeners.last_mut() };
    let there = last.and_then(|last| last.get_mut("hosts")).and_then(Value::as_array_mut);
    let there = there.filter(|there| listener || !there.is_empty()).ok_or("egress has a listener without hosts")?;
    let is_covered = |host: &str| there.iter().filter_map(Value::as_str).any(|one| covers(one, host));
    let missing: Vec<String> = extra.iter().filter(|host| !is_covered(host)).cloned().collect();
    if missing.is_empty() {
        return Ok(None);
    }
    // `tools/*` and one of its hosts come together: the second adds nothing.
    let widest = |host: &&String| !missing.iter().any(|other| other != *host && covers(other, host));
    let hosts: Vec<String> = missing.iter().filter(widest).cloned().collect();
    let before = there.len();
    there.retain(|host| host != NONE);
    let nothing = there.len() < before;
    there.extend(hosts.iter().map(|host| json!(host)));
    if listener {
        listeners.push(made);
    }
    Ok(Some(Added { hosts, nothing, listener }))
}

/// Does it say both that nothing is reached and what is? Versions of Istio differ about what that means.
pub fn is_ambiguous(listeners: &[Value]) -> bool {
    let hosts = listeners.last().and_then(|last| last["hosts"].as_array());
    hosts.is_some_and(|hosts| hosts.len() > 1 && hosts.iter().any(|host| host == NONE))
}

/// Takes away what was added, as far as it is still there: whatever else was changed since stays as it is.
pub fn withdraw(listeners: &mut Vec<Value>, added: &Added) {
    let alone = listeners.len() == 1;
    let last = listeners.last_mut().filter(|last| last.get("port").is_none_or(Value::is_null));
    let Some(there) = last.and_then(|last| last.get_mut("hosts")).and_then(Value::as_array_mut) else { return };
    let mut left = there.clone();
    for host in &added.hosts {
        // One, and the last: another one of the same name is the user's.
        if let Some(at) = left.iter().rposition(|one| one == host) {
            left.remove(at);
        }
    }
    if left.len() == there.len() {
        return;
    }
    if left.is_empty() && added.nothing {
        left.push(json!(NONE));
    }
    match (left.is_empty(), added.listener && !alone) {
        (false, _) => *there = left,
        (true, true) => drop(listeners.pop()),
        // Somebody has taken away all others, and these are theirs now: Istio takes no listener without hosts, and no
        // listener at all would be everything.
        (true, false) => {}
    }
}

/// All hosts of it, for people.
pub fn hosts(listeners: &[Value]) -> String {
    let hosts = listeners.iter().flat_map(|one| one["hosts"].as_array().into_iter().flatten());
    hosts.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// Is all that was added still there?
pub fn has(listeners: &[Value], added: &Added) -> bool {
    let last = listeners.last().filter(|last| last.get("port").is_none_or(Value::is_null));
    let hosts = last.and_then(|last| last["hosts"].as_array());
    hosts.is_some_and(|hosts| added.hosts.iter().all(|host| hosts.iter().any(|one| one == host)))
}

fn covers(one: &str, host: &str) -> bool {
    let all_of = |namespace: &str| one.split_once('/') == Some((namespace, "*"));
    one == ALL || one == host || host.split_once('/').is_some_and(|(namespace, _)| all_of(namespace))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(egress: Value, extra: &[&str]) -> Result<Value, String> {
        let mut spec = Map::new();
        if !egress.is_null() {
            spec.insert("egress".into(), egress);
        }
        let extra = extra.iter().map(|host| (*host).to_owned()).collect();
        complete(&mut spec, &extra).map(|()| spec["egress"].clone())
    }

    #[test]
    fn hosts_are_added_where_they_mean_something_and_nothing_else_changes() {
        let tools = ["tools/*"];
        let hosts = |hosts: &[&str]| json!([{"hosts": hosts}]);
        assert_eq!(completed(Value::Null, &[]).unwrap(), hosts(&["*/*"]));
        assert_eq!(completed(json!([]), &tools).unwrap(), hosts(&["*/*"]));
        assert_eq!(completed(hosts(&["./*"]), &[]).unwrap(), hosts(&["./*"]));
        assert_eq!(completed(hosts(&["./*"]), &tools).unwrap(), hosts(&["./*", "tools/*"]));
        assert_eq!(completed(hosts(&["./*", "*/*"]), &tools).unwrap(), hosts(&["./*", "*/*"]));
        assert_eq!(completed(hosts(&["~/*"]), &[]).unwrap(), hosts(&["~/*"]));
        assert_eq!(completed(hosts(&["~/*"]), &tools).unwrap(), hosts(&["tools/*"]));
        assert_eq!(completed(hosts(&["tools/*"]), &["tools/a.b", "tools/*"]).unwrap(), hosts(&["tools/*"]));
        let ported = json!([{"port": {"number": 80}, "hosts": ["*/*"]}]);
        let with = json!([{"port": {"number": 80}, "hosts": ["*/*"]}, {"hosts": ["tools/*"]}]);
        assert_eq!(completed(ported, &tools).unwrap(), with);
        assert!(completed(json!("all"), &tools).is_err());
        assert!(completed(json!([{}]), &tools).is_err());
    }
}
