//! Beside Istio's resources, without a mesh: what the controller does to objects of users where they ask for it, and what
//! it says where they do not. A cluster of its own, because there is one controller a cluster.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nodetap_tests::bars::bar;
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::cluster::{Cluster, NODE};
use nodetap_tests::controller::{NAMESPACE, Replica, USER, install};
use nodetap_tests::installed;
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::{Value, json};

/// How often hosts come, or go, while somebody else writes.
const ROUNDS: usize = 10;
pub(crate) const TOOLS: [&str; 2] = ["--egress-host", "tools/*"];

/// A cluster with Istio's resources and without a replica.
pub(crate) fn fresh() -> Cluster {
    let cluster = Cluster::up().unwrap();
    let resources = installed::istio().unwrap().join("crds.yaml");
    cluster.kubectl(&["apply", "--server-side", "-f", resources.to_str().unwrap()]).unwrap();
    install(&cluster).unwrap();
    cluster
}

/// One cluster for all, with Istio's resources and without a replica; one test at a time has it.
pub(crate) fn installed() -> (&'static Cluster, MutexGuard<'static, ()>) {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = CLUSTER.get_or_init(fresh);
    (cluster, turn)
}

/// `kubectl apply --server-side` of the Sidecar `default`, as a user.
fn apply(cluster: &Cluster, namespace: &str, by: &str, asks: bool, hosts: &[&str]) -> anyhow::Result<String> {
    let annotations = if asks { json!({"nodetap.io/manage-egress": "true"}) } else { json!({}) };
    let object = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
        "metadata": {"name": "default", "namespace": namespace, "annotations": annotations},
        "spec": {"egress": [{"hosts": hosts}]},
    });
    let place = written(cluster, namespace, &object);
    cluster.kubectl(&["apply", "--server-side", "--field-manager", by, "-f", place.to_str().unwrap()])
}

/// A manifest where kubectl can read it, for as long as the cluster is there.
pub(crate) fn written(cluster: &Cluster, name: &str, object: &Value) -> PathBuf {
    let place = cluster.host().folder().join(format!("manifest-{name}.json"));
    std::fs::write(&place, object.to_string()).unwrap();
    place
}

fn path(namespace: &str) -> String {
    format!("/apis/networking.istio.io/v1/namespaces/{namespace}/sidecars/default")
}

pub(crate) fn sidecar(cluster: &Cluster, namespace: &str) -> Value {
    cluster.api("GET", &path(namespace), None).unwrap()
}

/// Those who own the list, as the API server has it.
fn owners(sidecar: &Value) -> Vec<&str> {
    let all = sidecar["metadata"]["managedFields"].as_array().unwrap().iter();
    let owners = all.filter(|one| one["fieldsV1"]["f:spec"]["f:egress"].is_object());
    owners.map(|one| one["manager"].as_str().unwrap()).collect()
}

/// Waits for these hosts, which the user still owns; how long that took.
pub(crate) fn until(cluster: &Cluster, replica: &Replica<'_>, namespace: &str, hosts: &[&str]) -> Duration {
    let (begun, mut last) = (Instant::now(), Value::Null);
    let found = eventually(DEADLINE, "egress", || {
        last = sidecar(cluster, namespace);
        (last["spec"]["egress"] == json!([{"hosts": hosts}]) && owners(&last) == ["alice"]).then(|| begun.elapsed())
    });
    found.unwrap_or_else(|error| panic!("{error}: {hosts:?} is not {last}; it logged: {}", replica.log()))
}

#[test]
fn hosts_come_to_a_sidecar_that_asks_and_go_again_and_no_apply_of_the_users_is_refused_for_it() {
    let (cluster, _turn) = installed();
    let shop = cluster.namespace().unwrap();
    apply(cluster, &shop, "alice", false, &["./*"]).unwrap();
    // Why ours is none: lists are atomic, and whoever made the object owns this one.
    let refused = apply(cluster, &shop, "nodetap-egress", false, &["./*", "tools/*"]).unwrap_err().to_string();
    assert!(refused.contains("with \"alice\"") && refused.contains(".spec.egress"), "{refused}");

    let replica = Replica::start_with(cluster, "asked", &TOOLS).unwrap();
    let before = sidecar(cluster, &shop);
    apply(cluster, &shop, "alice", true, &["./*"]).unwrap();
    until(cluster, &replica, &shop, &["./*", "tools/*"]);
    // Once more, with a controller that leads already.
    apply(cluster, &shop, "alice", false, &["./*"]).unwrap();
    until(cluster, &replica, &shop, &["./*"]);
    apply(cluster, &shop, "alice", true, &["./*"]).unwrap();
    let took = until(cluster, &replica, &shop, &["./*", "tools/*"]);
    bar(took < Duration::from_secs(10), &format!("egress follows an annotation after {took:?}"));
    // The same manifest, and another one: both are taken, and ours comes again.
    apply(cluster, &shop, "alice", true, &["./*"]).unwrap();
    until(cluster, &replica, &shop, &["./*", "tools/*"]);
    apply(cluster, &shop, "alice", true, &["./*", "a/*"]).unwrap();
    until(cluster, &replica, &shop, &["./*", "a/*", "tools/*"]);
    // Another configuration, while nobody was there to see it come.
    replica.kill().unwrap();
    let replica = Replica::start_with(cluster, "again", &["--egress-host", "more/*"]).unwrap();
    until(cluster, &replica, &shop, &["./*", "a/*", "more/*"]);
    // It goes with the annotation, which is all that the manifest changes; nothing of ours is left.
    apply(cluster, &shop, "alice", true, &["./*"]).unwrap();
    until(cluster, &replica, &shop, &["./*", "more/*"]);
    cluster.kubectl(&["-n", &shop, "annotate", "sidecar", "default", "nodetap.io/manage-egress-"]).unwrap();
    until(cluster, &replica, &shop, &["./*"]);
    let after = sidecar(cluster, &shop);
    assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
    assert_eq!(after["spec"], before["spec"]);
    // A manifest without egress takes it away, as if we had never been there.
    apply(cluster, &shop, "alice", true, &["./*"]).unwrap();
    until(cluster, &replica, &shop, &["./*", "more/*"]);
    let none = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "default", "namespace": shop},
        "spec": {"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}},
    });
    let place = written(cluster, &shop, &none);
    cluster.kubectl(&["apply", "--server-side", "--field-manager", "alice", "-f", place.to_str().unwrap()]).unwrap();
    let found = eventually(DEADLINE, "an object without egress and without us", || {
        let now = sidecar(cluster, &shop);
        (now["spec"] == none["spec"] && now["metadata"]["annotations"] == Value::Null).then_some(())
    });
    found.unwrap_or_else(|error| panic!("{error}: {}", sidecar(cluster, &shop)));
    replica.kill().unwrap();
    let calls = cluster.audit().unwrap().into_iter().filter(|event| event["user"]["username"] == USER);
    let calls: Vec<Value> = calls.filter(|event| event["objectRef"]["resource"] == "sidecars").collect();
    assert!(calls.iter().all(|event| event["responseStatus"]["code"] != 403), "{calls:?}");
    let used: BTreeSet<&str> = calls.iter().filter_map(|event| event["verb"].as_str()).collect();
    assert!(["get", "patch"].iter().all(|verb| used.contains(verb)), "{used:?}");
}

#[test]
fn no_edit_is_lost_that_comes_at_the_same_time() {
    let (cluster, _turn) = installed();
    let shop = cluster.namespace().unwrap();
    apply(cluster, &shop, "alice", false, &["./*"]).unwrap();
    let replica = Replica::start_with(cluster, "edited", &TOOLS).unwrap();
    let path = path(&shop);
    let added = |object: &Value| object["metadata"]["annotations"]["nodetap.io/added-egress"].is_string();
    let over = AtomicBool::new(false);
    let edits = thread::scope(|scope| {
        let editor = scope.spawn(|| {
            let mut edits = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let host = format!("host-{}/*", edits.len());
                // As a user's editor does: read, change, and write to what was read, or begin again.
                let done = eventually(DEADLINE, "an edit", || {
                    let mut object = sidecar(cluster, &shop);
                    object["spec"]["egress"][0]["hosts"].as_array_mut()?.insert(0, json!(host));
                    cluster.api("PUT", &path, Some(&object)).ok()
                });
                done.unwrap();
                edits.push(host);
                // They look at it for a while, or nobody else would ever get to write.
                (0..30).for_each(|_| drop(sidecar(cluster, &shop)));
            }
            edits
        });
        for round in 0..ROUNDS {
            let asks = round % 2 == 0;
            let word = if asks { json!("true") } else { Value::Null };
            let patch = json!({"metadata": {"annotations": {"nodetap.io/manage-egress": word}}});
            cluster.api("PATCH", &path, Some(&patch)).unwrap();
            let follows = || (added(&sidecar(cluster, &shop)) == asks).then_some(());
            let found = eventually(DEADLINE, "hosts that come and go", follows);
            found.unwrap_or_else(|error| panic!("{error}: {round}; it logged: {}", replica.log()));
        }
        over.store(true, Ordering::Relaxed);
        editor.join().unwrap()
    });
    let last = sidecar(cluster, &shop);
    let mut wanted: Vec<&str> = edits.iter().rev().map(String::as_str).collect();
    wanted.push("./*");
    assert_eq!(last["spec"]["egress"], json!([{"hosts": wanted}]), "it logged: {}", replica.log());
    replica.kill().unwrap();
    let calls = cluster.audit().unwrap().into_iter().filter(|event| event["user"]["username"] == USER);
    let calls = calls.filter(|event| event["objectRef"]["namespace"] == shop.as_str() && event["verb"] == "patch");
    let codes: Vec<i64> = calls.filter_map(|event| event["responseStatus"]["code"].as_i64()).collect();
    let overtaken = codes.iter().filter(|code| **code == 409).count();
    println!("{} edits, {} writes of ours of which {overtaken} were overtaken, none lost", edits.len(), codes.len());
}

/// A pod in the mesh, of which its agent says that it is captured, in these words.
pub(crate) fn captured<'a>(cluster: &'a Cluster, namespace: &str, said: &str) -> BarePod<'a> {
    let manifest = pod::manifest(namespace, "web", &[("app", 8080), ("istio-proxy", 15090)]);
    let web = cluster.bare_pod(&manifest).unwrap();
    let mut object = web.object().unwrap();
    let condition = json!({"type": "nodetap.io/Capturing", "status": "True", "reason": "Capturing", "message": said});
    object["status"]["conditions"].as_array_mut().unwrap().push(condition);
    cluster.api("PUT", &format!("{}/status", web.path()), Some(&object)).unwrap();
    web
}

/// What stands on pods of the node is believed for an hour from now on.
pub(crate) fn agent_lives(cluster: &Cluster, holder: &str) {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": format!("nodetap-agent-{NODE}"), "namespace": NAMESPACE},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 3600},
    });
    cluster.apply(&lease.to_string()).unwrap();
}

/// Waits for an Event.
fn event(cluster: &Cluster, replica: &Replica<'_>, namespace: &str, reason: &str) -> Value {
    let path = format!("/api/v1/namespaces/{namespace}/events");
    let told = eventually(DEADLINE, "an Event", || {
        let all = cluster.api("GET", &path, None).ok()?["items"].as_array()?.clone();
        all.into_iter().find(|event| event["reason"] == reason)
    });
    told.unwrap_or_else(|error| panic!("{error}: {reason}; it logged: {}", replica.log()))
}

#[test]
fn a_service_with_routes_from_a_gateway_only_is_named_with_the_line_to_add() {
    let (cluster, _turn) = installed();
    let shop = cluster.namespace().unwrap();
    let web = captured(cluster, &shop, "");
    let manifests = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {shop}}}, \
           spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}}}\n---\n\
         {{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: public, namespace: {shop}}}, \
           spec: {{hosts: [shop.example.com], gateways: [infra/edge], http: [{{route: [{{destination: {{host: web}}}}]}}]}}}}"
    );
    cluster.apply(&manifests).unwrap();
    let replica = Replica::start(cluster, "routes").unwrap();
    let told = event(cluster, &replica, &shop, "RoutesOutsideOnly");
    assert_eq!((&told["involvedObject"]["uid"], &told["type"]), (&json!(web.uid()), &json!("Normal")));
    let message = told["message"].as_str().unwrap();
    for part in [
        &format!("VirtualService {shop}/public"),
        &format!("`- web.{shop}.svc.cluster.local` to its spec.hosts"),
        "`- mesh` to its spec.gateways",
    ] {
        assert!(message.contains(part), "no {part} in {message}");
    }
    replica.kill().unwrap();
}

#[test]
fn who_does_not_ask_is_told_the_patch_and_that_patch_is_right() {
    let (cluster, _turn) = installed();
    let shop = cluster.namespace().unwrap();
    apply(cluster, &shop, "alice", false, &["./*"]).unwrap();
    let before = sidecar(cluster, &shop);
    let _web = captured(cluster, &shop, "");
    let replica = Replica::start_with(cluster, "told", &TOOLS).unwrap();
    let told = event(cluster, &replica, &shop, "EgressMissing");
    let object = &told["involvedObject"];
    assert_eq!((&object["kind"], &object["name"]), (&json!("Sidecar"), &json!("default")));
    assert_eq!(sidecar(cluster, &shop), before, "something was written");
    let message = told["message"].as_str().unwrap();
    let (_, command) = message.split_once("kubectl ").unwrap();
    let (words, patch) = command.split_once(" -p '").unwrap();
    let words: Vec<&str> = words.split(' ').chain(["-p", patch.trim_end_matches('\'')]).collect();
    cluster.kubectl(&words).unwrap();
    assert_eq!(sidecar(cluster, &shop)["spec"]["egress"], json!([{"hosts": ["./*", "tools/*"]}]));
    replica.kill().unwrap();
}

#[test]
fn a_pod_is_istios_own_again_when_its_node_is_not_ready_or_has_started_anew() {
    let (cluster, _turn) = installed();
    let shop = cluster.namespace().unwrap();
    let listeners = json!([{"for": "inbound", "port": 4143, "application": 8080, "addresses": ["127.0.0.1", "::1"]}]);
    let web = captured(cluster, &shop, &json!({"mode": "dual", "listeners": listeners}).to_string());
    let path = format!("/api/v1/nodes/{NODE}/status");
    let before = cluster.api("GET", &path, None).unwrap()["status"].clone();
    let node = |ready: &str, boot: &str| {
        let mut status = json!({"conditions": [{"type": "Ready", "status": ready}], "nodeInfo": before["nodeInfo"]});
        status["nodeInfo"]["bootID"] = json!(boot);
        cluster.api("PATCH", &path, Some(&json!({"status": status}))).unwrap();
        Instant::now()
    };
    agent_lives(cluster, "first");
    node("True", "one");
    let replica = Replica::start(cluster, "gate").unwrap();
    let until = |wanted: bool, why: &str| {
        let is = || Some(web.object().ok()?["metadata"]["labels"]["nodetap.io/sidecar"].is_string());
        let found = eventually(DEADLINE, why, || (is()? == wanted).then(Instant::now));
        found.unwrap_or_else(|error| panic!("{error}; it logged: {}", replica.log()))
    };
    until(true, "a label");
    let begun = node("False", "one");
    println!("a node that is not ready: withdrawn after {:?}", until(false, "no label") - begun);
    node("True", "one");
    until(true, "a label again");
    // It is up again before anybody has noticed, and its agent is not.
    let begun = node("True", "two");
    println!("a node that has started anew: withdrawn after {:?}", until(false, "no label, after a start") - begun);
    agent_lives(cluster, "second");
    until(true, "a label, when its agent is back");
    cluster
        .api(
            "PATCH",
            &path,
            Some(&json!({"status": {"conditions": before["conditions"], "nodeInfo": before["nodeInfo"]}})),
        )
        .unwrap();
    replica.kill().unwrap();
}

#[test]
fn what_a_cluster_refuses_is_said_in_its_words_and_nothing_is_half_written() {
    let (cluster, _turn) = installed();
    let shop = cluster.namespace().unwrap();
    apply(cluster, &shop, "alice", false, &["./*"]).unwrap();
    let policy = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": shop},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["networking.istio.io"], "apiVersions": ["*"], "operations": ["UPDATE"],
                    "resources": ["sidecars"],
                }]},
                "validations": [{
                    "expression": format!("request.userInfo.username != '{USER}' || request.namespace != '{shop}'"),
                    "message": "not in this house",
                }],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": shop}, "spec": {"policyName": shop, "validationActions": ["Deny"]},
        },
    ]});
    cluster.apply(&policy.to_string()).unwrap();
    // The API server takes its time until a policy holds.
    let try_it =
        ["-n", &shop, "annotate", "sidecar", "default", "a=b", "--overwrite", "--dry-run=server", "--as", USER];
    let holds =
        || cluster.kubectl(&try_it).err().filter(|error| error.to_string().contains("not in this house")).map(drop);
    eventually(DEADLINE, "a policy that holds", holds).unwrap();
    let replica = Replica::start_with(cluster, "refused", &TOOLS).unwrap();
    apply(cluster, &shop, "alice", true, &["./*"]).unwrap();
    let before = sidecar(cluster, &shop);
    let told = event(cluster, &replica, &shop, "EgressRefused");
    assert_eq!(told["involvedObject"]["name"], "default");
    assert!(told["message"].as_str().unwrap().contains("not in this house"), "{told}");
    assert_eq!(sidecar(cluster, &shop), before);
    replica.kill().unwrap();
    cluster.kubectl(&["delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", &shop]).unwrap();
}
