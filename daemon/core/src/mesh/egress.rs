//! Hosts that captured pods are to reach besides those that they reach today. Nothing of the user's is taken away, but for
//! a `~/*`: beside it no other host means anything.

use std::collections::BTreeSet;

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
    if extra.is_empty() {
        return Ok(());
    }
    // The one without a port is for everything that no other one has, and stands last.
    if listeners.last().is_none_or(|last| last.get("port").is_some()) {
        listeners.push(json!({"hosts": []}));
    }
    let hosts = listeners.last_mut().and_then(|last| last.get_mut("hosts"));
    let hosts = hosts.and_then(Value::as_array_mut).ok_or("egress has a listener without hosts")?;
    hosts.retain(|host| host != NONE);
    for host in extra {
        if !hosts.iter().filter_map(Value::as_str).any(|one| covers(one, host)) {
            hosts.push(json!(host));
        }
    }
    Ok(())
}

fn covers(one: &str, host: &str) -> bool {
    let all_of = |namespace: &str| one.split_once('/') == Some((namespace, "*"));
    one == ALL || one == host || host.split_once('/').is_some_and(|(namespace, _)| all_of(namespace))
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
