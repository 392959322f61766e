//! Hosts come to a user's Sidecar when they ask for it, and go again; nothing else of it is touched, whatever happens to it
//! meanwhile.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{hosts, map, pod, sidecar};
use crate::mesh::desired::Desired;
use crate::mesh::managed::{Change, Managed};
use crate::mesh::names::{ADDED_EGRESS, MANAGE_EGRESS, MANAGED};
use crate::mesh::sidecar::Sidecar;
use crate::mesh::snapshot::{Settings, Snapshot};
use crate::pod::dice::Dice;

const CASES: u64 = 10_000;
const HOSTS: [&str; 5] = ["./*", "a/*", "tools/a.b", "istio-system/*", "other/x.y"];
const EXTRA: [&str; 4] = ["tools/*", "tools/a.b", "a/*", "more/*"];

fn settings(hosts: &[&str]) -> Settings {
    Settings { egress_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), ..Settings::default() }
}

fn with(sidecar: Sidecar, extra: &[&str]) -> Snapshot {
    Snapshot { settings: settings(extra), sidecars: vec![sidecar], ..Snapshot::default() }
}

fn asking(egress: &Value) -> Sidecar {
    Sidecar { annotations: map(&[(MANAGE_EGRESS, "true")]), ..sidecar("shop/default", 1, egress) }
}

fn managed(snapshot: &Snapshot) -> Managed {
    Managed::of(snapshot, &Desired::of(snapshot))
}

fn write(sidecar: &mut Sidecar, change: &Change) {
    assert_eq!((&sidecar.namespace, &sidecar.name), (&change.namespace, &change.name));
    if let Some(egress) = &change.egress {
        sidecar.spec.rest.insert("egress".into(), json!(egress));
    }
    match &change.added {
        Some(text) => drop(sidecar.annotations.insert(ADDED_EGRESS.into(), text.clone())),
        None => drop(sidecar.annotations.remove(ADDED_EGRESS)),
    }
}

/// Does what is to be done; how many writes that was.
fn settle(snapshot: &mut Snapshot) -> usize {
    let changes = managed(snapshot).changes;
    for change in &changes {
        write(snapshot.sidecars.iter_mut().find(|one| one.name == change.name).unwrap(), change);
    }
    assert_eq!(managed(snapshot).changes, [], "{snapshot:?}");
    changes.len()
}

fn reached(snapshot: &Snapshot) -> Value {
    snapshot.sidecars[0].spec.rest.get("egress").cloned().unwrap_or_default()
}

fn any_egress(dice: &mut Dice) -> Value {
    let listener = |dice: &mut Dice, at: usize, count: usize| {
        let mut hosts: Vec<&str> = (0..=dice.roll(3)).map(|_| *dice.pick(&HOSTS)).collect();
        if dice.one_in(5) {
            hosts = vec!["~/*"];
        }
        if dice.one_in(12) {
            hosts.push("*/*");
        }
        let mut listener = json!({"hosts": hosts});
        if at + 1 < count || dice.one_in(4) {
            listener["port"] = json!({"number": 80 + at});
        }
        listener
    };
    let count = dice.roll(4);
    Value::Array((0..count).map(|at| listener(dice, at, count)).collect())
}

fn any_extra(dice: &mut Dice) -> BTreeSet<String> {
    (0..=dice.roll(2)).map(|_| (*dice.pick(&EXTRA)).to_owned()).collect()
}

fn each(mut check: impl FnMut(&mut Dice, Snapshot)) {
    for seed in 0..CASES {
        let dice = &mut Dice::of(seed);
        let mut snapshot = with(asking(&json!({"egress": any_egress(dice)})), &[]);
        snapshot.settings.egress_hosts = any_extra(dice);
        check(dice, snapshot);
    }
}

#[test]
fn hosts_come_when_they_are_asked_for_and_the_list_is_as_before_when_that_goes() {
    let mut written = 0;
    each(|dice, mut snapshot| {
        let before = snapshot.clone();
        written += settle(&mut snapshot);
        match dice.roll(3) {
            0 => drop(snapshot.sidecars[0].annotations.remove(MANAGE_EGRESS)),
            1 => drop(snapshot.sidecars[0].annotations.insert(MANAGE_EGRESS.into(), "false".into())),
            _ => snapshot.settings.egress_hosts.clear(),
        }
        settle(&mut snapshot);
        assert_eq!(reached(&snapshot), reached(&before));
        assert_eq!(snapshot.sidecars[0].annotations.get(ADDED_EGRESS), None);
    });
    assert!(written > 5000, "{written}");
}

#[test]
fn another_configuration_leads_to_what_it_alone_would_have_led_to() {
    each(|dice, mut snapshot| {
        let mut alone = snapshot.clone();
        settle(&mut snapshot);
        snapshot.settings.egress_hosts = any_extra(dice);
        alone.settings = snapshot.settings.clone();
        settle(&mut snapshot);
        settle(&mut alone);
        assert_eq!(snapshot.sidecars, alone.sidecars);
    });
}

#[test]
fn what_a_user_changes_meanwhile_is_kept() {
    each(|dice, mut snapshot| {
        let mut without = snapshot.clone();
        settle(&mut snapshot);
        let egress = |one: &mut Snapshot| one.sidecars[0].spec.rest["egress"].as_array().unwrap().clone();
        let (theirs, ours) = (egress(&mut without), egress(&mut snapshot));
        if theirs.is_empty() {
            return;
        }
        let whole = dice.one_in(4).then(|| any_egress(dice));
        let edit = |listeners: Vec<Value>, at: usize| -> Value {
            let mut listeners = listeners;
            match &whole {
                // As `kubectl apply` does: the list of the manifest, and nothing of what was there.
                Some(whole) => return whole.clone(),
                None => listeners[at]["hosts"].as_array_mut().unwrap().insert(0, json!("new/*")),
            }
            json!(listeners)
        };
        let at = dice.roll(theirs.len());
        without.sidecars[0].spec.rest.insert("egress".into(), edit(theirs, at));
        snapshot.sidecars[0].spec.rest.insert("egress".into(), edit(ours, at));
        snapshot.sidecars[0].annotations.remove(MANAGE_EGRESS);
        settle(&mut snapshot);
        let all = |one: &Snapshot| {
            let listeners = reached(one).as_array().unwrap().clone();
            let hosts = listeners.iter().flat_map(|listener| listener["hosts"].as_array().unwrap().clone());
            let mut hosts: Vec<String> = hosts.map(|host| host.as_str().unwrap().to_owned()).collect();
            hosts.sort_unstable();
            hosts
        };
        let (mut left, mut wanted) = (all(&snapshot), all(&without));
        // Beside what they added, "nothing" would take that away again: it does not come back then.
        left.retain(|host| host != "~/*");
        wanted.retain(|host| host != "~/*");
        if whole.is_some() {
            // Whether one of these is ours or in the new list by itself, nobody can tell.
            wanted.retain(|host| left.contains(host) || !snapshot.settings.egress_hosts.contains(host));
            wanted.dedup();
            left.dedup();
        }
        assert_eq!(left, wanted);
    });
}

#[test]
fn nothing_is_written_unasked_or_to_one_of_ours() {
    let plain = with(sidecar("shop/default", 1, &hosts(&["./*"])), &["tools/*"]);
    assert_eq!(managed(&plain), Managed::default());
    let mut ours = asking(&hosts(&["./*"]));
    (ours.name, ours.labels) = ("nodetap-deployment-web".into(), map(&[MANAGED]));
    assert_eq!(managed(&with(ours, &["tools/*"])), Managed::default());
    // What restricts nothing needs nothing.
    assert_eq!(managed(&with(asking(&json!({})), &["tools/*"])), Managed::default());
    assert_eq!(managed(&with(asking(&hosts(&["*/*"])), &["tools/*"])), Managed::default());
}

#[test]
fn hosts_of_the_users_own_stay_when_ours_go() {
    let mut shop = with(asking(&hosts(&["./*"])), &["tools/*"]);
    assert_eq!(settle(&mut shop), 1);
    assert_eq!(reached(&shop), json!([{"hosts": ["./*", "tools/*"]}]));
    // They list the same, and more, and ask no longer.
    shop.sidecars[0].spec.rest.insert("egress".into(), json!([{"hosts": ["tools/*", "./*", "tools/*", "b/*"]}]));
    shop.sidecars[0].annotations.remove(MANAGE_EGRESS);
    settle(&mut shop);
    assert_eq!(reached(&shop), json!([{"hosts": ["tools/*", "./*", "b/*"]}]));
    // All but ours was taken away: a listener without hosts is none.
    let mut shop = with(asking(&hosts(&["./*"])), &["tools/*"]);
    settle(&mut shop);
    shop.sidecars[0].spec.rest.insert("egress".into(), json!([{"hosts": ["tools/*"]}]));
    shop.sidecars[0].annotations.remove(MANAGE_EGRESS);
    settle(&mut shop);
    assert_eq!(reached(&shop), json!([{"hosts": ["tools/*"]}]));
}

#[test]
fn whoever_does_not_ask_is_told_the_exact_patch_where_a_captured_pod_is_concerned() {
    let told = |egress: &Value| {
        let mut shop = with(sidecar("shop/default", 1, egress), &["tools/*"]);
        let mut one = pod("web-1");
        (one.captured, one.capture) = (true, crate::mesh::snapshot::Capture::None);
        shop.pods = vec![one];
        let managed = managed(&shop);
        assert_eq!(managed.changes, []);
        managed.notices.into_values().map(|notice| notice.said.to_string()).collect::<String>()
    };
    let said = told(&hosts(&["./*"]));
    let patch = r#"kubectl -n shop patch sidecar default --type json -p '[{"op":"add","path":"/spec/egress/0/hosts/-","value":"tools/*"}]'"#;
    assert!(said.ends_with(patch), "{said}");
    let said = told(&hosts(&["~/*"]));
    assert!(said.ends_with(r#"'[{"op":"replace","path":"/spec/egress/0/hosts","value":["tools/*"]}]'"#), "{said}");
    let said = told(&json!({"egress": [{"port": {"number": 80}, "hosts": ["./*"]}]}));
    assert!(said.ends_with(r#"'[{"op":"add","path":"/spec/egress/-","value":{"hosts":["tools/*"]}}]'"#), "{said}");
    assert_eq!(told(&hosts(&["*/*"])), "");
}

#[test]
fn what_cannot_be_understood_is_said_and_left_alone() {
    let one = |key: &str, value: &str, egress: &Value| {
        let mut one = sidecar("shop/default", 1, egress);
        one.annotations = map(&[(MANAGE_EGRESS, "true")]);
        one.annotations.insert(key.into(), value.into());
        let managed = managed(&with(one, &["tools/*"]));
        assert_eq!(managed.changes, []);
        managed.notices.into_values().map(|notice| notice.said.reason()).collect::<String>()
    };
    assert_eq!(one(MANAGE_EGRESS, "yes", &hosts(&["./*"])), "ManageEgressInvalid");
    assert_eq!(one(ADDED_EGRESS, "x", &hosts(&["./*"])), "AddedEgressInvalid");
    assert_eq!(one("a", "b", &hosts(&["./*", "~/*"])), "EgressUnreadable");
    assert_eq!(one("a", "b", &json!({"egress": "all"})), "EgressUnreadable");
    assert_eq!(one("a", "b", &json!({"egress": [{}]})), "EgressUnreadable");
}
