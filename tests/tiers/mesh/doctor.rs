//! What the doctor says of pods beside Istio, to somebody with all rights and to somebody with few.

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::cluster::{Cluster, Reach};
use nodetap_tests::controller::{NAMESPACE, Replica};
use nodetap_tests::mesh::served::Served;
use nodetap_tests::nodetap;
use nodetap_tests::process::{Finished, Process};
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::{Value, json};

use crate::sidecars::{dual, installed, until_calls_us};

fn asked_as(cluster: &Cluster, user: &str, group: Option<&str>) -> impl Fn(&[&str]) -> Finished {
    let kubeconfig = cluster.kubeconfig_for(user, group, Reach::Outside).unwrap();
    move |arguments| {
        let mut command = nodetap::command(&["doctor"]);
        command.args(arguments).arg("--kubeconfig").arg(&kubeconfig);
        Process::start(&mut command).unwrap().finish().unwrap()
    }
}

#[test]
fn the_doctor_says_what_holds_for_a_pod_what_is_wrong_with_it_and_what_it_may_not_see() {
    let mesh = installed();
    let cluster = mesh.cluster();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap().of(NAMESPACE));
    let web = Served::new(mesh, &shop, "web", &dual()).unwrap();
    let typo = Served::new(mesh, &shop, "typo", &json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": "daul"}))
        .unwrap();
    let agent = Agent::ready(cluster, &node, 5, &[]).unwrap();
    let replica = Replica::start(cluster, "doctored").unwrap();
    until_calls_us(&web, &replica, true);

    let doctor = asked_as(cluster, "root", Some("system:masters"));
    let well = || Some(doctor(&["web", "-n", &shop])).filter(|done| done.code() == 0);
    let well = eventually(DEADLINE, "a pod with nothing wrong", well);
    let text = well.unwrap_or_else(|error| panic!("{error}: {}", doctor(&["web", "-n", &shop]).text())).text();
    for part in [
        "the pod asks for capture, dual",
        "it lives",
        "4143 answers for 8080",
        "Istio's proxy is in the pod",
        &format!("in force is {shop}/nodetap-pod-web (ours); without it: none"),
        "Sidecar and label are as they should be",
        "45 s later",
        "nothing is wrong",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("FAIL"), "{text}");

    // Of all, the worst one comes first.
    let all = doctor(&["-A", "-o", "json"]);
    let pages: Value = serde_json::from_str(&all.text()).unwrap();
    let of = |name: &str| {
        pages["pods"]
            .as_array()
            .unwrap()
            .iter()
            .position(|page| page["pod"] == name && page["namespace"] == shop.as_str())
    };
    assert!(all.code() == 1 && of("typo").unwrap() < of("web").unwrap(), "{pages:#}");
    let typos = doctor(&["typo", "-n", &shop]);
    assert_eq!(typos.code(), 1);
    assert!(typos.text().contains("did you mean \"dual\"?"), "{}", typos.text());
    let nobody = doctor(&["nobody", "-n", &shop]);
    assert_eq!(
        (nobody.code(), nobody.err.trim()),
        (2, format!("nodetap: there is no pod nobody in namespace {shop}").as_str())
    );

    // What is in the way is named.
    let theirs = format!(
        "{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: mine, namespace: {shop}}}, \
         spec: {{workloadSelector: {{labels: {{app: web}}}}, egress: [{{hosts: [\"*/*\"]}}]}}}}"
    );
    cluster.apply(&theirs).unwrap();
    until_calls_us(&web, &replica, false);
    let conflict = doctor(&["web", "-n", &shop]);
    assert_eq!(conflict.code(), 1);
    assert!(conflict.text().contains(&format!("Sidecar {shop}/mine selects this pod")), "{}", conflict.text());

    // Somebody who may read pods, and nothing else.
    let few = asked_as(cluster, "bob", None);
    let refused = few(&["web", "-n", &shop]);
    assert_eq!((refused.code(), refused.err.lines().count()), (1, 1), "{}", refused.err);
    assert!(refused.err.contains("\"bob\" cannot get resource \"pods\""), "{}", refused.err);
    cluster.kubectl(&["-n", &shop, "create", "role", "pods", "--verb=get", "--resource=pods"]).unwrap();
    cluster.kubectl(&["-n", &shop, "create", "rolebinding", "pods", "--role=pods", "--user=bob"]).unwrap();
    let told = || Some(few(&["web", "-n", &shop])).filter(|done| !done.out.is_empty());
    let told = eventually(DEADLINE, "what bob may know", told).unwrap().text();
    assert!(
        told.contains("the pod asks for capture, dual") && told.contains("Istio's Sidecars may not be read"),
        "{told}"
    );
    drop(typo);
    agent.end().unwrap();
}
