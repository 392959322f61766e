//! Uninstalled with the rights that `deploy/uninstall` gives: what users have is as it was, and no pod is sent to listeners
//! that end.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nodetap_tests::cluster::{Cluster, NODE, Reach};
use nodetap_tests::controller::{NAMESPACE, Replica};
use nodetap_tests::nodetap;
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::{Value, json};

use crate::istio::{TOOLS, captured, installed, sidecar, until, written};

const USER: &str = "system:serviceaccount:nodetap:nodetap-uninstall";
const RIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/uninstall/rbac.yaml");
/// Seconds; the Job waits for 50.
const DRAIN: Duration = Duration::from_secs(3);

/// `nodetap controller --uninstall`, as the Job.
fn uninstall(cluster: &Cluster, options: &[&str]) -> Output {
    let kubeconfig = cluster.kubeconfig_for(USER, Some("system:serviceaccounts"), Reach::Inside).unwrap();
    let mut command: Command =
        nodetap::command(&["controller", "--uninstall", "--namespace", NAMESPACE, "--kubeconfig"]);
    command.arg(kubeconfig).args(options);
    cluster.host().enter_network(&command).output().unwrap()
}

fn text(of: &[u8]) -> String {
    String::from_utf8_lossy(of).into_owned()
}

/// What a user has in a namespace, as they would write it.
fn manifests(namespace: &str) -> Value {
    let asks = json!({"nodetap.io/manage-egress": "true"});
    let pod = json!({
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "none"}]},
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": {"name": "default", "namespace": namespace, "annotations": asks},
            "spec": {"egress": [{"hosts": ["./*"]}]},
        },
        {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": namespace, "annotations": {"nodetap.io/inject": "true"}},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": pod},
        },
    ]})
}

/// Labels, annotations and conditions of pods, by their names.
fn pods(cluster: &Cluster, namespace: &str) -> Value {
    let list = cluster.api("GET", &format!("/api/v1/namespaces/{namespace}/pods"), None).unwrap();
    let one = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let conditions: Vec<&str> = conditions.filter_map(|one| one["type"].as_str()).collect();
        let metadata = &pod["metadata"];
        let ours = |of: &Value| of.as_object().into_iter().flatten().any(|(key, _)| key.starts_with("nodetap.io/"));
        json!({"name": metadata["name"], "labels": metadata["labels"], "marked": ours(&metadata["annotations"]), "conditions": conditions})
    };
    list["items"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn what_users_have_is_as_before_and_no_pod_is_sent_to_listeners_that_end() {
    let (cluster, _turn) = installed();
    cluster.kubectl(&["-n", NAMESPACE, "apply", "-f", RIGHTS]).unwrap();
    let agents = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "nodetap-agent", "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": "nodetap-agent"}}, "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": "nodetap-agent"}},
            "spec": {"nodeSelector": {"no": "where"}, "containers": [{"name": "agent", "image": "none"}]},
        }},
    });
    cluster.apply(&agents.to_string()).unwrap();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": format!("nodetap-agent-{NODE}"), "namespace": NAMESPACE},
        "spec": {"holderIdentity": "it", "leaseDurationSeconds": 3600},
    });
    cluster.apply(&lease.to_string()).unwrap();
    let shop = cluster.namespace().unwrap();
    let place = written(cluster, &shop, &manifests(&shop));
    let place: &Path = &place;
    let user = ["--server-side", "--field-manager", "alice", "-f", place.to_str().unwrap()];
    cluster.kubectl(&[&["apply"][..], &user].concat()).unwrap();
    let listeners = json!([{"for": "inbound", "port": 4143, "application": 8080, "addresses": ["127.0.0.1", "::1"]}]);
    let _web = captured(cluster, &shop, &json!({"mode": "dual", "listeners": listeners}).to_string());

    let replica = Replica::start_with(cluster, "before", &TOOLS).unwrap();
    until(cluster, &replica, &shop, &["./*", "tools/*"]);
    let marked = eventually(DEADLINE, "all that we write", || {
        let all = pods(cluster, &shop);
        let has = |test: &dyn Fn(&Value) -> bool| all.as_array().unwrap().iter().any(test);
        let labelled = has(&|pod| pod["labels"]["nodetap.io/sidecar"] == "pod-web");
        (labelled && has(&|pod| pod["marked"] == true)).then_some(all)
    });
    let marked = marked.unwrap_or_else(|error| panic!("{error}: {}; {}", pods(cluster, &shop), replica.log()));
    // While a controller holds the Lease, nothing is taken away: it would write it again. That it is killed frees it.
    replica.kill().unwrap();

    let dry = uninstall(cluster, &["--dry-run"]);
    let said = text(&dry.stdout);
    let lines = [
        format!("pod {shop}/web: the label goes"),
        format!("Sidecar {shop}/nodetap-pod-web: deleted"),
        format!("Sidecar {shop}/default: our hosts go, egress is ./*"),
        format!("DaemonSet {NAMESPACE}/nodetap-agent: deleted"),
        format!("pod {shop}/web: our condition and annotation go"),
    ];
    let at: Vec<Option<usize>> = lines.iter().map(|line| said.find(line.as_str())).collect();
    assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{said}{}", text(&dry.stderr));
    assert_eq!(pods(cluster, &shop), marked, "a dry run wrote something");

    let begun = Instant::now();
    let done = uninstall(cluster, &["--drain", &DRAIN.as_secs().to_string()]);
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
    println!("uninstalled in {:?}", begun.elapsed());
    assert!(begun.elapsed() > DRAIN, "agents did not serve on");
    let clean = pods(cluster, &shop);
    assert!(!clean.to_string().contains("nodetap.io") && !clean.to_string().contains("true"), "{clean}");
    let path = format!("/apis/networking.istio.io/v1/namespaces/{shop}/sidecars");
    assert_eq!(cluster.api("GET", &path, None).unwrap()["items"].as_array().unwrap().len(), 1);
    assert_eq!(sidecar(cluster, &shop)["metadata"]["annotations"], json!({"nodetap.io/manage-egress": "true"}));
    // It fails where there is a difference.
    let difference = cluster.kubectl(&[&["diff"][..], &user].concat());
    assert_eq!(difference.unwrap_or_else(|error| panic!("{error:#}")), "");
    let gone = cluster.kubectl(&["-n", NAMESPACE, "get", "daemonset", "nodetap-agent"]).unwrap_err().to_string();
    assert!(gone.contains("NotFound"), "{gone}");

    // In this order, and with nothing that it may not do.
    let calls = cluster.audit().unwrap().into_iter().filter(|event| event["user"]["username"] == USER);
    let calls: Vec<Value> = calls.collect();
    assert!(calls.iter().all(|event| event["responseStatus"]["code"] != 403), "{calls:?}");
    let when = |verb: &str, resource: &str, part: &str| {
        let found = calls.iter().find(|event| {
            let object = &event["objectRef"];
            let here = object["namespace"] == shop.as_str() || object["namespace"] == NAMESPACE;
            here && event["verb"] == verb
                && object["resource"] == resource
                && object["subresource"].as_str().unwrap_or_default() == part
        });
        let found = found.unwrap_or_else(|| panic!("no {verb} {resource}/{part} in {calls:?}"));
        found["requestReceivedTimestamp"].as_str().unwrap().to_owned()
    };
    let order =
        [("patch", "pods", ""), ("delete", "sidecars", ""), ("delete", "daemonsets", ""), ("patch", "pods", "status")];
    let times = order.map(|(verb, resource, part)| when(verb, resource, part));
    assert!(times.is_sorted(), "{times:?}");
    // Where nothing is left, nothing is waited for.
    let again = uninstall(cluster, &["--drain", "3600"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
}
