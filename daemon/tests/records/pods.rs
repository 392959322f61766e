//! Records of pods: shown with their namespaces, chosen by namespace, name and labels.

use std::collections::BTreeMap;
use std::path::Path;

use nodetap_core::exchange::TargetKind;

use super::*;

fn pod(namespace: &str, name: &str, labels: &[(&str, &str)]) -> Arc<Target> {
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Arc::new(Target {
        kind: TargetKind::Pod,
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
        workload: Some("Deployment/web".into()),
        node: Some("n1".into()),
        labels,
    })
}

/// The exchanges of the others, a third of them each pod's.
fn of_pods() -> (tempfile::TempDir, PathBuf, usize) {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("nodetap/01KD3000000000000000000000");
    let (recorder, recording) =
        Recorder::start(Settings::new(folder.clone(), Target::command("node")), vec![]).unwrap();
    let pods = [
        pod("shop", "web-1", &[("app", "web"), ("tier", "front")]),
        pod("shop", "api-1", &[("app", "api")]),
        pod("other", "web-1", &[("app", "web")]),
    ];
    let mut count = 0;
    for event in events() {
        let Event::Exchange(mut exchange) = event else { continue };
        let connection = Connection {
            target: Arc::clone(&pods[count % 3]),
            container: Some("app".into()),
            client_name: Some("shop/client".into()),
            ..(*exchange.connection).clone()
        };
        exchange.connection = Arc::new(connection);
        recorder.record(Event::Exchange(exchange));
        count += 1;
    }
    let lost = |target: &Arc<Target>, exchanges| {
        let (target, reason) = (Arc::clone(target), "too_many_connections".into());
        Event::Loss(Loss { time: 1, until: 2, target, reason, exchanges, bytes: 0 })
    };
    recorder.record(lost(&pods[0], 3));
    recorder.record(lost(&pods[2], 4));
    recording.close();
    (home, folder, count)
}

/// That something was lost is said on stderr.
fn shown(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, &[arguments, &["--from", folder.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn count(folder: &Path, arguments: &[&str]) -> usize {
    let listed = shown(folder, &[&["ls", "-o", "json"], arguments].concat());
    for command in [&["tail", "-o", "json", "--no-follow", "--lines", "1000"][..], &["export"]] {
        let other = shown(folder, &[command, arguments].concat());
        assert_eq!(other.lines().count(), listed.lines().count(), "{arguments:?}");
    }
    listed.lines().count()
}

#[test]
fn pods_are_chosen_by_namespace_name_and_labels() {
    let (_home, folder, all) = of_pods();
    let third = |number: usize| (all + 2 - number) / 3;
    assert_eq!(count(&folder, &[]), all);
    assert_eq!(count(&folder, &["-n", "shop"]), third(0) + third(1));
    assert_eq!(count(&folder, &["web-1", "-n", "shop"]), third(0));
    assert_eq!(count(&folder, &["web-*"]), third(0) + third(2));
    assert_eq!(count(&folder, &["-l", "app=web"]), third(0) + third(2));
    assert_eq!(count(&folder, &["-l", "app in (web,api),!tier"]), third(1) + third(2));
    assert!(count(&folder, &["-l", "app=web", "-n", "other", "--method", "GET"]) < third(2));
    assert_eq!(count(&folder, &["nobody"]), 0);
    let bad = run(&folder, &["ls", "-l", "app within (x)", "--from", "."]);
    assert_eq!(bad.status.code(), Some(2));
    let said = String::from_utf8(bad.stderr).unwrap();
    assert!(said.contains("app within (x)") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_pod_is_shown_with_its_namespace() {
    let (_home, folder, _) = of_pods();
    let table = shown(&folder, &["ls", "-n", "shop", "web-1"]);
    let mut lines = table.lines();
    assert!(lines.next().is_some_and(|heading| heading.contains("POD") && !heading.contains("PROCESS")), "{table}");
    assert!(lines.all(|line| line.contains(" shop/web-1 ")), "{table}");
    let wide = shown(&folder, &["ls", "-o", "wide"]);
    assert!(wide.contains("python3[4711]") && wide.contains(" other/web-1 "), "{wide}");
    let id = ids(&shown(&folder, &["ls", "-o", "json", "-n", "other"]))[0].clone();
    let page = shown(&folder, &["show", &id]);
    for part in ["python3[4711] of other/web-1\n", "container app of Deployment/web on n1\n", "(shop/client) →"] {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }
    let har = shown(&folder, &["export", "--format", "har", "-n", "other"]);
    assert!(har.contains(r#""_target":"other/web-1""#));
    let losses = shown(&folder, &["ls", "--losses", "-n", "other"]);
    assert!(losses.contains("other/web-1") && !losses.contains("shop/web-1"), "{losses}");
}
