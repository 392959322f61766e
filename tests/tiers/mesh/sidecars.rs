//! A pod with listeners in the place of its ports, under Istio: the controller writes the Sidecar by which Envoy calls
//! them, and takes it away again.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::bars::bar;
use nodetap_tests::cluster::load::Load;
use nodetap_tests::controller::{NAMESPACE, Replica, USER, install};
use nodetap_tests::mesh::served::Served;
use nodetap_tests::mesh::{Mesh, Setup};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{nodetap, records};
use serde_json::{Value, json};

use crate::support::TRAFFIC;
use crate::view::View;

const LABEL: &str = "nodetap.io/sidecar";
/// Where Envoy calls the application, and where ours is called in its place.
pub(crate) const OURS: &str = "127.0.0.1:4143";

/// As the published system documents it, unchanged.
pub(crate) fn dual() -> Value {
    json!({
        "sidecar.speedscale.com/inject": "true", "sidecar.speedscale.com/capture-mode": "proxy",
        "sidecar.speedscale.com/proxy-type": "dual", "sidecar.speedscale.com/proxy-protocol": "tcp:http",
        "sidecar.speedscale.com/proxy-host": "localhost", "sidecar.speedscale.com/proxy-port": "8080",
    })
}

/// The mesh with what the controller needs, installed once.
pub(crate) fn installed() -> &'static Mesh {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let mesh = Mesh::shared().unwrap();
    let done = INSTALLED.get_or_init(|| install(mesh.cluster()).map_err(|error| format!("{error:#}")));
    done.as_ref().unwrap();
    mesh
}

fn sidecars(mesh: &Mesh, namespace: &str) -> Vec<Value> {
    let path = format!("/apis/networking.istio.io/v1/namespaces/{namespace}/sidecars");
    let list = mesh.cluster().api("GET", &path, None).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn label(of: &Served) -> Option<String> {
    Some(of.member.pod().object().ok()?["metadata"]["labels"][LABEL].as_str()?.to_owned())
}

/// Waits until Envoy calls our listener, or does not.
pub(crate) fn until_calls_us(of: &Served, replica: &Replica<'_>, wanted: bool) {
    let found = eventually(DEADLINE, "what Envoy calls", || (of.is_redirected() == wanted).then_some(()));
    found.unwrap_or_else(|error| {
        panic!(
            "{error} ({wanted}): {:?}, {:?}; the controller said: {}",
            label(of),
            of.member.pod().condition(),
            replica.log()
        )
    });
}

/// What the pod reaches, as istiod gives it to its Envoy; but for the cluster of our controller's own Service, of which the
/// identity is another one with the first pod behind it.
fn outbound(mesh: &Mesh, of: &Served) -> BTreeSet<String> {
    let mut all = View::of(&mesh.dump(&of.member).unwrap()).outbound;
    all.retain(|one| !(one.starts_with("cluster ") && one.contains("|nodetap-controller.")));
    all
}

#[test]
fn a_dual_pod_by_the_published_annotations_is_captured_both_ways_and_nothing_fails_while_that_comes_and_goes() {
    let mesh = installed();
    let cluster = mesh.cluster();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap().of(NAMESPACE));
    let web = Served::new(mesh, &shop, "web", &dual()).unwrap();
    let peer = Served::new(mesh, &shop, "peer", &json!({})).unwrap();
    peer.reaches(&web).unwrap();
    web.reaches(&peer).unwrap();
    let before = outbound(mesh, &web);
    let load = Load::start(TRAFFIC, peer.member.pod(), (&web.address, 80), 200, None).unwrap();

    let agent = Agent::ready(cluster, &node, 3, &[]).unwrap();
    let replica = Replica::start(cluster, "writes").unwrap();
    until_calls_us(&web, &replica, true);
    assert_eq!(label(&web).as_deref(), Some("pod-web"));
    let said =
        eventually(DEADLINE, "the condition", || web.member.pod().condition().filter(|it| it["reason"] == "Capturing"));
    said.unwrap_or_else(|error| panic!("{error}: {:?}", web.member.pod().condition()));
    let ours = sidecars(mesh, &shop);
    assert_eq!(ours.len(), 1, "{ours:?}");
    let port = json!({"number": 8080, "protocol": "HTTP", "name": "http-8080"});
    let spec = json!({
        "workloadSelector": {"labels": {LABEL: "pod-web"}}, "egress": [{"hosts": ["*/*"]}],
        "ingress": [{"port": port, "defaultEndpoint": OURS}],
    });
    assert_eq!(ours[0]["spec"], spec);
    let reached = outbound(mesh, &web);
    let (gone, new): (Vec<_>, Vec<_>) = (before.difference(&reached).collect(), reached.difference(&before).collect());
    assert!(gone.is_empty() && new.is_empty(), "what it reaches is another: {gone:#?} became {new:#?}");

    let told = peer.asks(&web, "/in").unwrap();
    let certificate = told["heads"]["x-forwarded-client-cert"].as_str().unwrap();
    assert!(certificate.contains(&format!("spiffe://cluster.local/ns/{shop}/sa/default")), "{certificate}");
    web.asks_through("http://127.0.0.1:4140", &peer, "/out").unwrap();
    for (path, direction, via) in [("/in", "inbound", "reverse"), ("/out", "outbound", "forward-http")] {
        let found = eventually(DEADLINE, "a record", || {
            let all = records::exchanges(&node.records).ok()?;
            all.into_iter().find(|one| one["request"]["url"].as_str().is_some_and(|url| url.ends_with(path)))
        });
        let found = found.unwrap_or_else(|error| panic!("{error}: {path}"));
        assert_eq!((&found["direction"], &found["via"]), (&json!(direction), &json!(via)));
    }

    // A base that comes and changes is followed in place.
    let base = |hosts: &[&str]| {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: default, namespace: {shop}}}, \
             spec: {{egress: [{{hosts: {hosts:?}}}]}}}}"
        );
        cluster.apply(&text).unwrap();
        let begun = Instant::now();
        let follows = || {
            let ours = sidecars(mesh, &shop).into_iter().find(|one| one["metadata"]["name"] == "nodetap-pod-web")?;
            (ours["spec"]["egress"] == json!([{"hosts": hosts}])).then_some(())
        };
        eventually(DEADLINE, "ours to follow its base", follows).unwrap();
        bar(begun.elapsed() < Duration::from_secs(2), &format!("ours follows its base after {:?}", begun.elapsed()));
    };
    base(&["./*"]);
    // It holds for the client, too: the namespace stays in it.
    base(&["./*", "istio-system/*"]);
    base(&["./*"]);

    // What a user makes for the pod is theirs: we withdraw, and come back when it is gone.
    let theirs = format!(
        "{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: mine, namespace: {shop}}}, \
         spec: {{workloadSelector: {{labels: {{app: web}}}}, egress: [{{hosts: [\"*/*\"]}}]}}}}"
    );
    cluster.apply(&theirs).unwrap();
    until_calls_us(&web, &replica, false);
    eventually(DEADLINE, "that ours is gone", || {
        (label(&web).is_none() && sidecars(mesh, &shop).len() == 2).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}; {}", sidecars(mesh, &shop), replica.log()));
    let events = format!("/api/v1/namespaces/{shop}/events");
    eventually(DEADLINE, "an Event", || {
        let all = cluster.api("GET", &events, None).ok()?["items"].as_array()?.clone();
        all.into_iter().find(|event| event["reason"] == "SidecarConflict" && event["involvedObject"]["name"] == "web")
    })
    .unwrap();
    cluster.kubectl(&["-n", &shop, "delete", "sidecar", "mine"]).unwrap();
    until_calls_us(&web, &replica, true);

    // Off, by the one annotation.
    web.member.pod().annotate(&json!({"sidecar.speedscale.com/inject": null})).unwrap();
    until_calls_us(&web, &replica, false);
    let (attempts, failed) = load.stop().unwrap();
    println!("while it came and went: {attempts} attempts, {} failed", failed.len());
    assert!(attempts > 100 && failed.is_empty(), "{failed:?}");
    eventually(DEADLINE, "only the user's is left", || {
        let left = sidecars(mesh, &shop);
        (left.len() == 1 && left[0]["metadata"]["name"] == "default").then_some(())
    })
    .unwrap();
    // All of that with the rights that it is installed with. A watch is told of at its end.
    let calls = cluster.audit().unwrap().into_iter().filter(|event| event["user"]["username"] == USER);
    let calls: Vec<Value> = calls.filter(|event| event["objectRef"]["resource"] == "sidecars").collect();
    let used: BTreeSet<&str> = calls.iter().filter_map(|event| event["verb"].as_str()).collect();
    assert!(calls.iter().all(|event| event["responseStatus"]["code"] != 403), "{calls:?}");
    assert!(["patch", "delete"].iter().all(|verb| used.contains(verb)), "{used:?}");
    agent.end().unwrap();
}

#[test]
fn a_dual_pod_with_both_families_of_addresses_is_called_at_ours_whichever_its_callers_use() {
    let mesh = installed();
    let cluster = mesh.cluster();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap().of(NAMESPACE));
    let setup = Setup { dual_stack: true, ..Setup::default() };
    let web = Served::set_up(mesh, setup, &shop, "web", &dual()).unwrap();
    let peer = Served::set_up(mesh, setup, &shop, "peer", &json!({})).unwrap();
    peer.reaches(&web).unwrap();
    let before = outbound(mesh, &web);
    let agent = Agent::ready(cluster, &node, 15, &[]).unwrap();
    let replica = Replica::start(cluster, "both").unwrap();
    until_calls_us(&web, &replica, true);
    assert_eq!(outbound(mesh, &web), before, "what it reaches is another");
    for address in &web.addresses {
        let told = peer.asks_at(address, "/in").unwrap();
        assert!(told["heads"]["x-forwarded-client-cert"].is_string(), "{address}: {told}");
    }
    // Envoy took them in both families, and calls us in one.
    let logged = eventually(DEADLINE, "Envoy's log", || {
        let logged: Vec<Value> = web.member.logged().ok()?.into_iter().filter(|line| line["path"] == "/in").collect();
        (logged.len() >= web.addresses.len()).then_some(logged)
    });
    let logged = logged.unwrap();
    let families: BTreeSet<bool> = logged
        .iter()
        .map(|line| line["downstream_local_address"].as_str().is_some_and(|at| at.starts_with('[')))
        .collect();
    assert_eq!(families, BTreeSet::from([false, true]), "{logged:?}");
    assert!(logged.iter().all(|line| line["upstream_host"] == OURS), "{logged:?}");
    let found = eventually(DEADLINE, "records", || {
        let all = records::exchanges(&node.records).ok()?.into_iter();
        let of_path = all.filter(|one| one["request"]["url"].as_str().is_some_and(|url| url.ends_with("/in")));
        let found: Vec<Value> = of_path.collect();
        (found.len() >= web.addresses.len()).then_some(found)
    });
    let found = found.unwrap();
    assert!(found.len() == web.addresses.len() && found.iter().all(|one| one["via"] == "reverse"), "{found:?}");
    agent.end().unwrap();
}

#[test]
fn a_dry_run_says_what_would_be_written_and_writes_nothing() {
    let mesh = installed();
    let cluster = mesh.cluster();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap().of(NAMESPACE));
    let web = Served::new(mesh, &shop, "web", &dual()).unwrap();
    let agent = Agent::ready(cluster, &node, 4, &[]).unwrap();
    eventually(DEADLINE, "listeners", || web.member.pod().condition().filter(|said| said["status"] == "True")).unwrap();
    let kubeconfig = cluster.kubeconfig();
    let dry = |output: &str| {
        let mut command: Command = nodetap::command(&["controller", "--dry-run", "-o", output, "--kubeconfig"]);
        let command = cluster.host().enter_network(command.arg(&kubeconfig));
        let done = { command }.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let text = dry("yaml");
    assert!(text.contains("# for web; made of no Sidecar: they reach everything"), "{text}");
    assert!(text.contains("name: nodetap-pod-web") && text.contains(OURS), "{text}");
    let json: Value = serde_json::from_str(&dry("json")).unwrap();
    let ours = json["sidecars"].as_array().unwrap();
    let ours = ours.iter().find(|one| one["metadata"]["namespace"] == shop.as_str()).unwrap();
    // The API server takes it as it is printed, and Istio finds nothing wrong with it.
    let path = node.records.join("sidecar.json");
    std::fs::write(&path, ours.to_string()).unwrap();
    let said = mesh.istioctl(&["validate", "-f", path.to_str().unwrap()]).unwrap();
    assert!(!said.to_lowercase().contains("warning"), "{said}");
    assert_eq!(sidecars(mesh, &shop), Vec::<Value>::new());
    assert_eq!(label(&web), None);
    agent.end().unwrap();
}
