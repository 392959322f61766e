//! Records of captured pods, read from outside the cluster with nothing but a kubeconfig: what RBAC gives, and no more.

use std::process::Command;

use nodetap_tests::agent::Node;
use nodetap_tests::cluster::host::ADDRESS;
use nodetap_tests::cluster::pod;
use nodetap_tests::cluster::{Cluster, NODE, Reach};
use nodetap_tests::controller::{NAMESPACE, Replica, install, until_available};
use nodetap_tests::process::{Finished, Process, Stream};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, nodetap, records};
use serde_json::{Value, json};

use crate::support::{annotated, serving};

/// Where the agent answers the controller.
const QUERY: u16 = 19_465;

fn lines(done: &Finished) -> Vec<Value> {
    done.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn paths(records: &[Value]) -> Vec<String> {
    let exchanges = records.iter().filter(|record| record["kind"] == "exchange");
    exchanges.map(|record| record["request"]["url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn a_user_with_rights_in_one_namespace_reads_that_one_and_no_other() {
    let cluster = &Cluster::up().unwrap();
    install(cluster).unwrap();
    let (shop, bank) = (cluster.namespace().unwrap(), cluster.namespace().unwrap());
    let inject = json!({"nodetap.io/inject": "true"});
    let pods: Vec<_> =
        [&shop, &bank].map(|place| cluster.bare_pod(&annotated(place, "web", &inject)).unwrap()).into_iter().collect();
    let _serving: Vec<_> = pods.iter().map(|pod| serving(pod, "app")).collect();
    let caller = cluster.bare_pod(&pod::manifest("default", "caller", &[("app", 0)])).unwrap();

    let node = Node::new().unwrap();
    let mut command = nodetap::command(&["agent", "--node", NODE, "--namespace", NAMESPACE, "--workers", "2"]);
    command.arg("--kubeconfig").arg(cluster.kubeconfig()).arg("--out").arg(&*node.records);
    command.args(["--query", &format!("{ADDRESS}:{QUERY}"), "--run", "/run/nodetap"]);
    let agent = cluster.start(&command).unwrap();
    let _agent_pod = cluster
        .bare_pod(&json!({
            "metadata": {
                "name": "agent", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "nodetap-agent"},
            },
            "spec": {
                "hostNetwork": true,
                "containers": [{"name": "agent", "ports": [{"name": "query", "containerPort": QUERY, "hostPort": QUERY}]}],
            },
        }))
        .unwrap();
    let replicas = [Replica::start(cluster, "one").unwrap(), Replica::start(cluster, "two").unwrap()];
    for pod in &pods {
        let captured = eventually(DEADLINE, "capture", || pod.condition().filter(|said| said["status"] == "True"));
        assert!(captured.is_ok(), "{:?}; the agent said: {}", pod.condition(), agent.so_far(Stream::Err));
        for number in 0..3 {
            let at = format!("{}:8080", pod.address()).parse().unwrap();
            http::get_over(caller.dial(at).unwrap(), &format!("/{number}")).unwrap();
        }
    }
    records::eventually_of_kind(&node.records, "exchange", 6).unwrap();
    until_available(cluster).unwrap();

    let kubeconfig = cluster.kubeconfig_for("alice", None, Reach::Outside).unwrap();
    let alice = |arguments: &[&str]| {
        let mut command = nodetap::command(arguments);
        command.arg("--kubeconfig").arg(&kubeconfig);
        Process::start(&mut command).unwrap().finish().unwrap()
    };
    let refused = alice(&["ls", "-n", &shop]);
    assert_eq!((refused.code(), refused.err.lines().count()), (1, 1), "{}", refused.err);
    assert!(refused.err.contains(r#"User "alice" cannot list resource "exchanges""#), "{}", refused.err);
    cluster
        .kubectl(&["-n", &shop, "create", "rolebinding", "reads", "--clusterrole=nodetap-reader", "--user=alice"])
        .unwrap();
    let read =
        || Some(alice(&["ls", "-n", &shop, "-o", "json"])).filter(|done| done.code() == 0 && !done.out.is_empty());
    let found = eventually(DEADLINE, "her records", read);
    let logs = || replicas.iter().map(Replica::log).collect::<String>();
    assert!(found.is_ok(), "{}; {}; {}", alice(&["ls", "-n", &shop]).err, agent.so_far(Stream::Err), logs());
    let all = lines(&found.unwrap());
    assert_eq!(paths(&all), ["0", "1", "2"]);
    assert!(all.iter().all(|record| record["target"]["namespace"] == shop.as_str()), "{all:?}");
    for arguments in
        [&["ls", "-n", &bank][..], &["tail", "-n", &bank, "--no-follow"], &["export", "-n", &bank], &["ls", "web"]]
    {
        let refused = alice(arguments);
        assert_eq!((refused.code(), refused.err.lines().count()), (1, 1), "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains("cannot list"), "{}", refused.err);
    }

    // What the commands of a folder can do.
    let id = all[1]["id"].as_str().unwrap();
    assert!(alice(&["show", id, "-n", &shop]).text().contains("GET /1"), "{}", alice(&["show", id, "-n", &shop]).err);
    assert!(alice(&["show", id, "-n", &bank]).err.contains("cannot get"));
    assert_eq!(paths(&lines(&alice(&["ls", "web", "-n", &shop, "-o", "json", "--path", "/2"]))), ["2"]);
    assert_eq!(paths(&lines(&alice(&["ls", "-l", "app=web", "-n", &shop, "-o", "json"]))), ["0", "1", "2"]);
    assert!(alice(&["ls", "-l", "app=other", "-n", &shop, "-o", "json"]).out.is_empty());
    assert_eq!(paths(&lines(&alice(&["tail", "-n", &shop, "--no-follow", "--lines", "2", "-o", "json"]))), ["1", "2"]);
    let har: Value = serde_json::from_str(&alice(&["export", "-n", &shop, "--format", "har"]).text()).unwrap();
    assert_eq!(har["log"]["entries"].as_array().unwrap().len(), 3);
    let raw = format!("/apis/capture.nodetap.io/v1alpha1/namespaces/{shop}/exchanges?tail=1");
    let mut kubectl = Command::new(nodetap_tests::installed::kubernetes().unwrap().join("kubectl"));
    kubectl.arg("--kubeconfig").arg(&kubeconfig).args(["get", "--raw", &raw]);
    assert_eq!(paths(&lines(&Process::start(&mut kubectl).unwrap().finish().unwrap())), ["2"]);

    // What is new, as it comes.
    let mut tail = nodetap::command(&["tail", "-n", &shop, "--lines", "1", "-o", "json"]);
    tail.arg("--kubeconfig").arg(&kubeconfig);
    let tail = Process::start(&mut tail).unwrap();
    let told = |path: &'static str| {
        tail.line(Stream::Out, path, |line| line.contains(&format!("//test/{path}\"")).then_some(()))
    };
    told("2").unwrap();
    let at = format!("{}:8080", pods[0].address()).parse().unwrap();
    http::get_over(caller.dial(at).unwrap(), "/new").unwrap();
    told("new").unwrap();

    // Who read, and what, stands in the audit log; and what RBAC refused was asked of nobody.
    let audit = cluster.audit().unwrap();
    let hers: Vec<&Value> = audit.iter().filter(|event| event["user"]["username"] == "alice").collect();
    for verb in ["list", "get", "watch"] {
        let of_verb =
            hers.iter().filter(|event| event["verb"] == verb && event["objectRef"]["resource"] == "exchanges");
        assert!(of_verb.count() > 0 || verb == "watch", "{verb}");
    }
    let beyond =
        |event: &&&Value| event["objectRef"]["namespace"] != shop.as_str() && event["responseStatus"]["code"] != 403;
    let beyond: Vec<_> =
        hers.iter().filter(|event| event["objectRef"]["resource"] == "exchanges").filter(beyond).collect();
    assert!(beyond.is_empty(), "{beyond:?}");

    // Without controllers pods are captured as before.
    for replica in replicas {
        replica.kill().unwrap();
    }
    http::get_over(caller.dial(at).unwrap(), "/alone").unwrap();
    records::eventually_of_kind(&node.records, "exchange", 8).unwrap();
}
