//! `deploy/` as it is shipped, under a kubelet: the DaemonSet runs, captures pods of a Deployment, uses every right that it
//! was given and asks for no other.

use std::collections::BTreeSet;

use nodetap_tests::cluster::pod::capturing;
use nodetap_tests::cluster::{Cluster, images};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, records};
use serde_json::{Value, json};

use crate::deployed::{Deployed, objects};

#[test]
fn the_daemonset_as_shipped_captures_pods_with_the_rights_and_capabilities_that_it_has() {
    let deployed = Deployed::up(|_| {});
    let cluster = &deployed.cluster;
    let node = cluster.node().unwrap();
    node.import(&images::nginx().unwrap()).unwrap();
    let log = || deployed.log("daemonset/nodetap-agent");
    let shop = cluster.namespace().unwrap();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": shop},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "nginx", "image": "docker.io/local/nginx:1", "ports": [{"containerPort": 80}]}]},
        }},
    });
    cluster.apply(&deployment.to_string()).unwrap();
    let web = node.ready_of(&shop, "web", 1).unwrap().remove(0);
    let name = web["metadata"]["name"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/{shop}/pods/{name}");
    let annotate = json!({"metadata": {"annotations": {"nodetap.io/inject": "true", "nodetap.io/tls-out": "true"}}});
    cluster.api("PATCH", &path, Some(&annotate)).unwrap();
    let capturing = |pod: &Value| capturing(pod).is_some_and(|condition| condition["status"] == "True");
    let captured = eventually(DEADLINE, "capture", || cluster.api("GET", &path, None).ok().filter(capturing));
    captured.unwrap_or_else(|error| panic!("{error:#}: {}", log()));
    let at = format!("{}:80", web["status"]["podIP"].as_str().unwrap()).parse().unwrap();
    // Not from the node itself: what its kubelet asks is left alone.
    let bare = cluster.bare_pod(&nodetap_tests::cluster::pod::manifest(&shop, "bare", &[("app", 0)])).unwrap();
    http::get_over(bare.dial(at).unwrap(), "/").unwrap();
    let found = records::eventually_of_kind(&deployed.records(), "exchange", 1).unwrap();
    assert_eq!((&found[0]["target"]["name"], &found[0]["process"]["name"]), (&json!(name), &json!("nginx")));
    assert_eq!(found[0]["target"]["workload"], "Deployment/web");
    let after = cluster.api("GET", &path, None).unwrap();
    assert_eq!(after["spec"]["containers"], web["spec"]["containers"]);
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);

    // What Services say is asked for once a pod's listeners depend on it.
    let reverse = json!({"metadata": {"annotations": {"nodetap.io/proxy-type": "reverse"}}});
    cluster.api("PATCH", &path, Some(&reverse)).unwrap();
    let reversed = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["message"].as_str().is_some_and(|text| text.contains("reverse")))
    };
    eventually(DEADLINE, "another way of capture", || cluster.api("GET", &path, None).ok().filter(reversed)).unwrap();
    // An Event, and the list of all verbs that were used.
    let wrong = json!({"metadata": {"annotations": {"nodetap.io/proxy-type": "sideways"}}});
    cluster.api("PATCH", &path, Some(&wrong)).unwrap();
    let events = format!("/api/v1/namespaces/{shop}/events");
    eventually(DEADLINE, "an Event", || {
        let events = cluster.api("GET", &events, None).ok()?;
        let told = events["items"].as_array()?.iter().any(|one| one["source"]["component"] == "nodetap-agent");
        told.then_some(())
    })
    .unwrap();
    // A watch is written down when it ends.
    cluster.kubectl(&["-n", "nodetap", "delete", "daemonset", "nodetap-agent"]).unwrap();
    let granted = granted(&objects(cluster));
    let mut unused = Vec::new();
    let all_used = eventually(DEADLINE, "that every right is used", || {
        // A list is a watch where the API server streams it, and what is applied is made by a patch.
        let used = used(cluster);
        let told = |(resource, verb): &&(String, String)| verb == "list" || resource == "leases" && verb == "create";
        unused = granted.difference(&used).filter(|right| !told(right)).cloned().collect();
        unused.is_empty().then_some(())
    });
    all_used.unwrap_or_else(|error| panic!("{error:#}; granted and never used: {unused:?}"));
}

/// What the agent has asked of the API server, as resource and verb; nothing of it was refused.
fn used(cluster: &Cluster) -> BTreeSet<(String, String)> {
    let user = "system:serviceaccount:nodetap:nodetap-agent";
    let audit = cluster.audit().unwrap();
    let ours: Vec<&Value> = audit.iter().filter(|event| event["user"]["username"] == user).collect();
    let refused: Vec<&&Value> = ours.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let asked = |event: &&Value| {
        let object = &event["objectRef"];
        let sub = object["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
        let resource = format!("{}{sub}", object["resource"].as_str().unwrap_or_default());
        (resource, event["verb"].as_str().unwrap_or_default().to_owned())
    };
    ours.iter().map(asked).collect()
}

/// What the agent's roles grant, as resource and verb.
fn granted(objects: &[Value]) -> BTreeSet<(String, String)> {
    let texts = |list: &Value| {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let roles = objects.iter().filter(|object| {
        (object["kind"] == "Role" || object["kind"] == "ClusterRole") && object["metadata"]["name"] == "nodetap-agent"
    });
    let rules = roles.flat_map(|role| role["rules"].as_array().into_iter().flatten());
    let rights = rules.flat_map(|rule| {
        let verbs = texts(&rule["verbs"]);
        let pairs = move |resource: String| verbs.clone().into_iter().map(move |verb| (resource.clone(), verb));
        texts(&rule["resources"]).into_iter().flat_map(pairs)
    });
    rights.collect()
}
