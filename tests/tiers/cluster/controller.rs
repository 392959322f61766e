//! The controller: what workloads say is put on their pods, one of two replicas writes, and the API server alone is
//! answered. Clusters of their own, because there is one controller a cluster.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use nodetap_tests::cluster::Cluster;
use nodetap_tests::controller::{NAMESPACE, PORT, Replica, USER, install, leader, until_available};
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::{Value, json};

const RESOLVED: &str = "nodetap.io/resolved";

/// One cluster for all, without a replica; one test at a time has it.
fn installed() -> (&'static Cluster, std::sync::MutexGuard<'static, ()>) {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cluster = CLUSTER.get_or_init(|| {
        let cluster = Cluster::up().unwrap();
        install(&cluster).unwrap();
        cluster
    });
    (cluster, turn)
}

/// The workloads that `resolved` names on the pods with this label; of a pod without it, an empty text.
fn resolved(cluster: &Cluster, namespace: &str, label: &str) -> Vec<String> {
    let pods = cluster.api("GET", &format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{label}"), None);
    let pods = pods.unwrap()["items"].as_array().cloned().unwrap_or_default();
    let of = |pod: &Value| {
        let Some(text) = pod["metadata"]["annotations"][RESOLVED].as_str() else { return String::new() };
        let said: Value = serde_json::from_str(text).unwrap();
        let from = said["from"].as_array().into_iter().flatten();
        let said = from.map(|one| format!("{} {}", one["workload"].as_str().unwrap(), one["set"]));
        said.collect::<Vec<_>>().join(", ")
    };
    pods.iter().map(of).collect()
}

fn until_resolved(cluster: &Cluster, replica: &Replica<'_>, namespace: &str, label: &str, expected: &[&str]) {
    let mut last = Vec::new();
    let found = eventually(DEADLINE, "resolved", || {
        last = resolved(cluster, namespace, label);
        (last == expected).then_some(())
    });
    assert!(found.is_ok(), "{label}: {last:?} is not {expected:?}; it logged: {}", replica.log());
}

fn workload(kind: &str, name: &str, spec: &str) -> String {
    let group = if kind == "Job" || kind == "CronJob" { "batch/v1" } else { "apps/v1" };
    format!(
        "{{apiVersion: {group}, kind: {kind}, \
         metadata: {{name: {name}, annotations: {{nodetap.io/inject: \"true\", other.io/x: \"1\"}}}}, spec: {spec}}}\n---\n"
    )
}

#[test]
fn what_a_workload_says_is_put_on_its_pods_changed_there_and_taken_away() {
    let (cluster, _turn) = installed();
    let shop = cluster.namespace().unwrap();
    let replica = Replica::start(cluster, "first").unwrap();
    let pods = |label: &str| {
        format!(
            "template: {{metadata: {{labels: {{app: {label}}}}}, spec: {{containers: [{{name: a, image: none}}]}}}}"
        )
    };
    let selecting = |label: &str| format!("selector: {{matchLabels: {{app: {label}}}}}, {}", pods(label));
    let job = "template: {metadata: {labels: {app: job}}, spec: {restartPolicy: Never, containers: [{name: a, image: none}]}}";
    let cron =
        format!("{{schedule: \"0 0 1 1 *\", jobTemplate: {{spec: {{{}}}}}}}", job.replace("app: job", "app: cron"));
    let manifests = [
        workload("Deployment", "web", &format!("{{replicas: 2, {}}}", selecting("web"))),
        workload("StatefulSet", "db", &format!("{{serviceName: db, {}}}", selecting("db"))),
        // The node says nothing of being ready.
        workload(
            "DaemonSet",
            "log",
            &format!("{{{}}}", selecting("log").replace("spec: {", "spec: {tolerations: [{operator: Exists}], ")),
        ),
        workload("ReplicaSet", "bare", &format!("{{replicas: 1, {}}}", selecting("bare"))),
        workload("Job", "once", &format!("{{{job}}}")),
        workload("CronJob", "yearly", &cron),
    ];
    let file = cluster.host().folder().join("workloads.yaml");
    std::fs::write(&file, manifests.concat()).unwrap();
    cluster.kubectl(&["-n", &shop, "apply", "-f", &file.display().to_string()]).unwrap();
    cluster.kubectl(&["-n", &shop, "create", "job", "--from=cronjob/yearly", "now"]).unwrap();
    let set = r#"{"nodetap.io/inject":"true"}"#;
    let web = format!("Deployment/web {set}");
    until_resolved(cluster, &replica, &shop, "web", &[&web, &web]);
    for (label, from) in [
        ("db", "StatefulSet/db"),
        ("log", "DaemonSet/log"),
        ("bare", "ReplicaSet/bare"),
        ("job", "Job/once"),
        ("cron", "CronJob/yearly"),
    ] {
        until_resolved(cluster, &replica, &shop, label, &[&format!("{from} {set}")]);
    }

    cluster.kubectl(&["-n", &shop, "annotate", "deployment", "web", "nodetap.io/proxy-type=dual"]).unwrap();
    let both = r#"Deployment/web {"nodetap.io/inject":"true","nodetap.io/proxy-type":"dual"}"#;
    until_resolved(cluster, &replica, &shop, "web", &[both, both]);
    // A pod that comes later, and one that is not the Deployment's.
    cluster.kubectl(&["-n", &shop, "scale", "deployment", "web", "--replicas=3"]).unwrap();
    until_resolved(cluster, &replica, &shop, "web", &[both, both, both]);
    let stranger = json!({
        "metadata": {"name": "stranger", "labels": {"app": "stranger"}, "annotations": {RESOLVED: "{}"}},
        "spec": {"containers": [{"name": "a", "image": "none"}]},
    });
    cluster.api("POST", &format!("/api/v1/namespaces/{shop}/pods"), Some(&stranger)).unwrap();
    until_resolved(cluster, &replica, &shop, "stranger", &[""]);
    cluster
        .kubectl(&["-n", &shop, "annotate", "deployment", "web", "nodetap.io/inject-", "nodetap.io/proxy-type-"])
        .unwrap();
    until_resolved(cluster, &replica, &shop, "web", &["", "", ""]);
    replica.kill().unwrap();
}

#[test]
fn one_of_two_replicas_writes_the_other_takes_its_place_and_both_answer() {
    let (cluster, _turn) = installed();
    let shop = cluster.namespace().unwrap();
    let replicas = [Replica::start(cluster, "one").unwrap(), Replica::start(cluster, "two").unwrap()];
    until_available(cluster).unwrap();
    let deployment = workload(
        "Deployment",
        "web",
        "{selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: none}]}}}",
    );
    let file = cluster.host().folder().join("deployment.yaml");
    std::fs::write(&file, deployment).unwrap();
    cluster.kubectl(&["-n", &shop, "apply", "-f", &file.display().to_string()]).unwrap();
    // Of one that was killed, the Lease stands for a while.
    let leads = || leader(cluster).ok().filter(|name| name == "one" || name == "two");
    let first = eventually(DEADLINE, "a leader", leads).unwrap();
    let [one, two] = replicas;
    let (leads, waits) = if first == "one" { (one, two) } else { (two, one) };
    until_resolved(cluster, &leads, &shop, "web", &[r#"Deployment/web {"nodetap.io/inject":"true"}"#]);
    assert!(leads.log().contains("we write") && !waits.log().contains("we write"), "{}", waits.log());

    // The API server reaches either; both know the same certificates.
    let table = |path: &str| cluster.kubectl(&["get", "--raw", path]);
    let path = format!("/apis/capture.nodetap.io/v1alpha1/namespaces/{shop}/exchanges");
    for _ in 0..8 {
        let error = table(&path).unwrap_err().to_string();
        assert!(error.contains("there is no agent"), "{error}");
        assert!(table("/apis/capture.nodetap.io/v1alpha1").unwrap().contains("exchanges"));
    }
    leads.kill().unwrap();
    cluster.kubectl(&["-n", &shop, "annotate", "deployment", "web", "nodetap.io/tls-out=true"]).unwrap();
    // Answered at once, written when the Lease has ended.
    eventually(DEADLINE, "the other replica's answer", || table("/apis/capture.nodetap.io/v1alpha1").ok()).unwrap();
    let both = r#"Deployment/web {"nodetap.io/inject":"true","nodetap.io/tls-out":"true"}"#;
    until_resolved(cluster, &waits, &shop, "web", &[both]);
    assert_ne!(leader(cluster).unwrap(), first);

    // Without any, what stands on the pods stays.
    waits.kill().unwrap();
    cluster.kubectl(&["-n", &shop, "annotate", "deployment", "web", "nodetap.io/tls-out-"]).unwrap();
    assert_eq!(resolved(cluster, &shop, "web"), [both]);
}

#[test]
fn whoever_is_not_the_api_server_is_refused_whatever_it_says() {
    let (cluster, _turn) = installed();
    let replica = Replica::start(cluster, "direct").unwrap();
    until_available(cluster).unwrap();
    let url = |path: &str| format!("https://{}:{PORT}{path}", replica.address());
    let asks = |more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-ksS", "-o", "-", "-w", "%{http_code}", "-H", "X-Remote-User: admin"]);
        curl.args(["-H", "X-Remote-Group: system:masters", "--max-time", "10"]).args(more);
        let mut curl = cluster.host().enter_network(&curl);
        let done = curl.output().unwrap();
        (String::from_utf8_lossy(&done.stdout).into_owned(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let exchanges = url("/apis/capture.nodetap.io/v1alpha1/namespaces/default/exchanges");
    let (said, _) = asks(&[&exchanges]);
    assert!(said.contains(r#""reason":"Unauthorized""#) && said.ends_with("401"), "{said}");
    // A certificate of the cluster's own authority is a user's, not the API server's.
    let folder = cluster.host().folder();
    let mut text = String::new();
    std::fs::File::open(cluster.kubeconfig()).unwrap().read_to_string(&mut text).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    let user = &config["users"][0]["user"];
    let decode = |key: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(user[key].as_str().unwrap_or_default()).unwrap()
    };
    let (certificate, key) = (folder.join("admin.crt"), folder.join("admin.key"));
    std::fs::write(&certificate, decode("client-certificate-data")).unwrap();
    std::fs::write(&key, decode("client-key-data")).unwrap();
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let (said, why) = asks(&["--cert", &certificate, "--key", &key, &exchanges]);
    assert!(said.ends_with("000") && !why.is_empty(), "{said} {why}");
    // The front proxy's is taken.
    let (certificate, key) = (folder.join("front.crt"), folder.join("front.key"));
    let (said, why) =
        asks(&["--cert", &certificate.display().to_string(), "--key", &key.display().to_string(), &exchanges]);
    assert!(said.ends_with("503") && said.contains("there is no agent"), "{said} {why}");
    // What the kubelet asks, it gets.
    assert_eq!(asks(&[&url("/readyz")]).0, "ok\n200");
    replica.kill().unwrap();
}

/// Sets or takes away the label by which a namespace asks for roots.
fn ask_for_roots(cluster: &Cluster, namespace: &str, value: Option<&str>) {
    let label = json!({"metadata": {"labels": {"nodetap.io/trust-bundle": value}}});
    cluster.api("PATCH", &format!("/api/v1/namespaces/{namespace}"), Some(&label)).unwrap();
}

#[test]
fn a_namespace_that_asks_gets_the_roots_of_its_pods_and_loses_them_when_it_does_not() {
    let (cluster, _turn) = installed();
    let names = [(); 3].map(|()| cluster.namespace().unwrap());
    let [shop, foreign, later] = &names;
    let path = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps/nodetap-trust-bundle");
    let map = |namespace: &str| cluster.api("GET", &path(namespace), None);
    let theirs = json!({"metadata": {"name": "nodetap-trust-bundle"}, "data": {"ca.crt": "theirs"}});
    cluster.api("POST", &format!("/api/v1/namespaces/{foreign}/configmaps"), Some(&theirs)).unwrap();
    ask_for_roots(cluster, foreign, Some("true"));
    ask_for_roots(cluster, shop, Some("true"));
    let replica = Replica::start(cluster, "roots").unwrap();
    let until = |what: &str, good: &dyn Fn() -> bool| {
        eventually(DEADLINE, what, || good().then_some(()))
            .unwrap_or_else(|error| panic!("{error:#}: {}", replica.log()));
    };

    // The authority was made for it: no agent runs here.
    until("the roots", &|| map(shop).is_ok());
    let secret = cluster.api("GET", &format!("/api/v1/namespaces/{NAMESPACE}/secrets/nodetap-ca"), None).unwrap();
    let decode = |text: &Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).unwrap()
    };
    let ours = String::from_utf8(decode(&secret["data"]["tls.crt"])).unwrap();
    let published = map(shop).unwrap();
    let bundle = published["data"]["ca-bundle.crt"].as_str().unwrap().to_owned();
    assert_eq!(published["data"]["ca.crt"], ours);
    assert!(bundle.contains(&ours) && bundle.matches("BEGIN CERTIFICATE").count() > 50, "{bundle}");
    assert!(decode(&published["binaryData"]["cacerts.jks"]).starts_with(&[0xfe, 0xed, 0xfe, 0xed]));
    assert!(!published.to_string().contains("PRIVATE"));

    // What somebody changes is put right; what is not ours is left alone, and said to be.
    let spoilt = json!({"data": {"ca-bundle.crt": "spoilt", "more": "theirs"}});
    cluster.api("PATCH", &path(shop), Some(&spoilt)).unwrap();
    until("the roots as they were", &|| map(shop).unwrap()["data"]["ca-bundle.crt"] == bundle);
    cluster.api("DELETE", &path(shop), None).unwrap();
    until("the roots again", &|| map(shop).is_ok());
    until("a word about it", &|| replica.log().contains(&format!("namespace {foreign}: its ConfigMap")));
    assert_eq!(map(foreign).unwrap()["data"], theirs["data"]);

    ask_for_roots(cluster, shop, None);
    until("no roots", &|| map(shop).is_err());
    // The next one finds what was written before it, and what is not asked for any more.
    ask_for_roots(cluster, later, Some("true"));
    until("the roots", &|| map(later).is_ok());
    replica.kill().unwrap();
    ask_for_roots(cluster, later, None);
    let again = Replica::start(cluster, "roots-again").unwrap();
    eventually(DEADLINE, "no roots", || map(later).is_err().then_some(())).unwrap();
    ask_for_roots(cluster, foreign, None);
    again.kill().unwrap();
    assert_eq!(map(foreign).unwrap()["data"], theirs["data"]);
}

#[test]
fn every_call_of_the_controller_is_allowed_and_every_right_of_it_is_used() {
    let (cluster, _turn) = installed();
    let shop = cluster.namespace().unwrap();
    ask_for_roots(cluster, &shop, Some("true"));
    // Something that is to be written anew.
    let spoilt = json!({"data": {"tls.crt": "", "tls.key": "", "ca.crt": ""}});
    let secret = format!("/api/v1/namespaces/{NAMESPACE}/secrets/nodetap-agent-tls");
    let had = cluster.api("PATCH", &secret, Some(&spoilt)).is_ok();
    let replica = Replica::start(cluster, "audited").unwrap();
    until_available(cluster).unwrap();
    let deployment = workload(
        "Deployment",
        "web",
        "{selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: none}]}}}",
    );
    let file = cluster.host().folder().join("audited.yaml");
    std::fs::write(&file, deployment).unwrap();
    cluster.kubectl(&["-n", &shop, "apply", "-f", &file.display().to_string()]).unwrap();
    until_resolved(cluster, &replica, &shop, "web", &[r#"Deployment/web {"nodetap.io/inject":"true"}"#]);
    let roots = format!("/api/v1/namespaces/{shop}/configmaps/nodetap-trust-bundle");
    eventually(DEADLINE, "roots", || cluster.api("GET", &roots, None).ok()).unwrap();
    ask_for_roots(cluster, &shop, None);
    eventually(DEADLINE, "no roots", || cluster.api("GET", &roots, None).is_err().then_some(())).unwrap();
    if !had {
        cluster.api("PATCH", &secret, Some(&spoilt)).unwrap();
        replica.kill().unwrap();
        let again = Replica::start(cluster, "audited-again").unwrap();
        let good = || {
            cluster.api("GET", &secret, None).ok()?["data"]["tls.crt"]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(drop)
        };
        eventually(DEADLINE, "a new certificate", good).unwrap();
        again.kill().unwrap();
    } else {
        replica.kill().unwrap();
    }
    let calls: Vec<Value> =
        cluster.audit().unwrap().into_iter().filter(|event| event["user"]["username"] == USER).collect();
    let forbidden: Vec<&Value> = calls.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let used: BTreeSet<(String, String)> =
        calls.iter().map(|event| (text(&event["objectRef"]["resource"]), text(&event["verb"]))).collect();
    let mut granted = BTreeSet::new();
    for (kind, place) in [("clusterrole", ""), ("role", NAMESPACE)] {
        let role = cluster.kubectl(&["-n", place, "get", kind, "nodetap-controller", "-o", "json"]).unwrap();
        let role: Value = serde_json::from_str(&role).unwrap();
        for rule in role["rules"].as_array().unwrap() {
            for resource in rule["resources"].as_array().unwrap() {
                granted.extend(rule["verbs"].as_array().unwrap().iter().map(|verb| (text(resource), text(verb))));
            }
        }
    }
    let beyond: Vec<_> = used.difference(&granted).collect();
    assert!(beyond.is_empty(), "used, and not granted by us: {beyond:?}");
    // A list is a watch where the API server streams it, and a list elsewhere; what is applied is made by a patch.
    let told = |(resource, verb): &&(String, String)| verb == "list" || resource == "configmaps" && verb == "create";
    let unused: Vec<_> = granted.difference(&used).filter(|right| !told(right)).collect();
    assert!(unused.is_empty(), "granted and not used: {unused:?}");
}
