//! Installed and uninstalled as `deploy/` says, under a kubelet: the Job ends well with the rights that it has, and what
//! users had before is what they have after, without a pin, a label or a condition of ours.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use nodetap_tests::agent::pins;
use nodetap_tests::cluster::pod::capturing;
use nodetap_tests::cluster::{Cluster, images};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, installed, peers};
use serde_json::{Value, json};

use crate::deployed::{Deployed, UNINSTALL, objects_of};

const USER: &str = "system:serviceaccount:nodetap:nodetap-uninstall";
const NAMES: [&str; 3] = ["dual", "forward", "steered"];

/// A Deployment of nginx; `meshed`: with a container that has the name of Istio's proxy. No Envoy runs in it.
fn deployment(namespace: &str, name: &str, own: &Value, pods: &Value, meshed: bool) -> Value {
    let mut containers =
        vec![json!({"name": "nginx", "image": "docker.io/local/nginx:1", "ports": [{"containerPort": 80}]})];
    if meshed {
        containers.push(json!({"name": "istio-proxy", "image": "docker.io/local/idle:1"}));
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "annotations": own},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}, "annotations": pods}, "spec": {"containers": containers},
        }},
    })
}

/// What a user has, as they would write it.
fn manifests(namespace: &str) -> Value {
    let none = json!({});
    let injected = json!({"sidecar.istio.io/status": "{}"});
    let dual = json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": "dual", "nodetap.io/proxy-port": "80"});
    let forward = json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": "forward"});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": {
                "name": "default", "namespace": namespace, "annotations": {"nodetap.io/manage-egress": "true"},
            },
            "spec": {"egress": [{"hosts": ["./*"]}]},
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "dual", "namespace": namespace},
            "spec": {"selector": {"app": "dual"}, "ports": [{"name": "http", "port": 80}]},
        },
        deployment(namespace, "dual", &dual, &injected, true),
        deployment(namespace, "forward", &none, &forward, false),
        deployment(namespace, "steered", &none, &json!({"nodetap.io/inject": "true"}), false),
    ]})
}

/// All objects of users in a namespace, without what changes by itself and who wrote what.
fn objects(cluster: &Cluster, namespace: &str) -> Vec<Value> {
    let kinds = "deployments,replicasets,pods,services,sidecars.networking.istio.io,configmaps";
    let all = cluster.kubectl(&["-n", namespace, "get", kinds, "-o", "json"]).unwrap();
    let mut all: Value = serde_json::from_str(&all).unwrap();
    let all = all["items"].as_array_mut().unwrap();
    for object in &mut *all {
        for own in ["resourceVersion", "managedFields", "generation"] {
            object["metadata"].as_object_mut().unwrap().remove(own);
        }
        let conditions = object["status"]["conditions"].take();
        let kinds: Vec<&Value> = conditions.as_array().into_iter().flatten().map(|one| &one["type"]).collect();
        let restarts = object["status"]["containerStatuses"].as_array().into_iter().flatten();
        let restarts: Vec<Value> = restarts.map(|one| one["restartCount"].clone()).collect();
        object["status"] = json!({"conditions": kinds, "restarts": restarts});
    }
    std::mem::take(all)
}

fn pod(cluster: &Cluster, namespace: &str, app: &str) -> Value {
    let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}");
    cluster.api("GET", &path, None).unwrap()["items"][0].clone()
}

/// Who answers on a port of the pod's own loopback address.
fn answers_within(cluster: &Cluster, pod: &Value, port: u16) -> bool {
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    cluster.node().unwrap().dial_from(pod, at).is_ok()
}

#[test]
fn the_uninstall_job_as_shipped_leaves_what_users_had_and_nothing_of_ours_on_it() {
    let mut shop = String::new();
    let mut before = Vec::new();
    let deployed = Deployed::up_beside(
        |cluster| {
            let resources = installed::istio().unwrap().join("crds.yaml");
            cluster.kubectl(&["apply", "--server-side", "-f", resources.to_str().unwrap()]).unwrap();
            let node = cluster.node().unwrap();
            node.import(&images::nginx().unwrap()).unwrap();
            let idle = peers::go(&Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/pause.go")).unwrap();
            node.import(&images::program("idle", &idle).unwrap()).unwrap();
            shop = cluster.namespace().unwrap();
            cluster.apply(&manifests(&shop).to_string()).unwrap();
            NAMES.iter().for_each(|app| drop(node.ready_of(&shop, app, 1).unwrap()));
            before = objects(cluster, &shop);
        },
        |objects| {
            let is_controller = |one: &&mut Value| one["kind"] == "Deployment";
            let controller = objects.iter_mut().find(is_controller).unwrap();
            let arguments = controller.pointer_mut("/spec/template/spec/containers/0/args").unwrap();
            arguments.as_array_mut().unwrap().push("--egress-host=tools/*".into());
        },
    );
    let cluster = &deployed.cluster;
    NAMES.iter().for_each(|app| drop(deployed.captured(&shop, app)));
    let path = format!("/apis/networking.istio.io/v1/namespaces/{shop}/sidecars");
    let written = eventually(DEADLINE, "all that is written on what users have", || {
        let dual = pod(cluster, &shop, "dual");
        let sidecars = cluster.api("GET", &path, None).ok()?["items"].as_array()?.clone();
        let hosts = sidecars.iter().find(|one| one["metadata"]["name"] == "default")?["spec"]["egress"].clone();
        let labelled = dual["metadata"]["labels"]["nodetap.io/sidecar"] == "deployment-dual";
        let resolved = dual["metadata"]["annotations"]["nodetap.io/resolved"].is_string();
        let all = sidecars.len() == 2 && hosts == json!([{"hosts": ["./*", "tools/*"]}]);
        let uid = dual["metadata"]["uid"].as_str()?;
        let pinned = pins(cluster).iter().any(|one| one.starts_with(uid));
        (labelled && resolved && all && pinned).then_some(())
    });
    written.unwrap_or_else(|error| {
        let dual = pod(cluster, &shop, "dual");
        let controllers =
            ["-n", "nodetap", "logs", "--tail=40", "--selector=app.kubernetes.io/name=nodetap-controller"];
        panic!(
            "{error}: {}, {:?}, pins {:?}; {}; {}; {}",
            dual["metadata"],
            capturing(&dual),
            pins(cluster),
            cluster.api("GET", &path, None).unwrap(),
            deployed.log("daemonset/nodetap-agent"),
            cluster.kubectl(&controllers).unwrap_or_default()
        );
    });
    assert!(answers_within(cluster, &pod(cluster, &shop, "dual"), 4143));
    assert!(answers_within(cluster, &pod(cluster, &shop, "forward"), 4140));

    // Word for word what deploy/uninstall says, but for the image.
    let begun = Instant::now();
    cluster.kubectl(&["delete", "-k", UNINSTALL, "--ignore-not-found"]).unwrap();
    deployed.apply(&objects_of(cluster, UNINSTALL));
    let wait = ["-n", "nodetap", "wait", "--for=condition=complete", "--timeout=10m", "job/nodetap-uninstall"];
    cluster.kubectl(&wait).unwrap_or_else(|error| panic!("{error:#}: {}", deployed.log("job/nodetap-uninstall")));
    let said = deployed.log("job/nodetap-uninstall");
    assert!(said.contains("nothing of nodetap's is left on objects that are not its own"), "{said}");
    println!("the Job was done after {:?}", begun.elapsed());

    assert_eq!(objects(cluster, &shop), before);
    // It fails where there is a difference.
    let file = cluster.host().folder().join("users.json");
    std::fs::write(&file, manifests(&shop).to_string()).unwrap();
    let difference = cluster.kubectl(&["diff", "-f", file.to_str().unwrap()]);
    assert_eq!(difference.unwrap_or_else(|error| panic!("{error:#}")), "");
    for app in NAMES {
        let pod = pod(cluster, &shop, app);
        assert_eq!(capturing(&pod), None);
        for ours in [4140, 4143] {
            assert!(!answers_within(cluster, &pod, ours), "somebody answers in {app} on {ours}");
        }
        let at = format!("{}:80", pod["status"]["podIP"].as_str().unwrap()).parse().unwrap();
        assert_eq!(http::get_over(cluster.host().dial(at).unwrap(), "/").unwrap(), b"hello from nginx\n");
    }
    assert_eq!(pins(cluster), Vec::<String>::new());
    let calls = cluster.audit().unwrap().into_iter().filter(|event| event["user"]["username"] == USER);
    let calls: Vec<Value> = calls.collect();
    assert!(!calls.is_empty() && calls.iter().all(|event| event["responseStatus"]["code"] != 403), "{calls:?}");

    // What is left is ours alone, and goes.
    cluster.kubectl(&["delete", "-k", UNINSTALL]).unwrap();
    cluster.kubectl(&["delete", "-k", crate::deployed::BASE, "--ignore-not-found"]).unwrap();
    let kinds = "namespaces,clusterroles,clusterrolebindings,apiservices,customresourcedefinitions";
    let left = cluster.kubectl(&["get", kinds, "-o", "name"]).unwrap();
    let left: Vec<&str> = left.lines().filter(|name| name.contains("nodetap")).collect();
    assert_eq!(left, Vec::<&str>::new());
    assert_eq!(objects(cluster, &shop), before);
}
