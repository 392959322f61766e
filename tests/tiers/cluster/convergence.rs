//! Whatever somebody does to a Sidecar of ours, whichever controller ends or sleeps, and when the API server was away: within
//! seconds all is as it should be, and at no moment are there two of ours for one pod.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nodetap_tests::bars::bar;
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::pod::BarePod;
use nodetap_tests::controller::{Replica, leader};
use nodetap_tests::wait::{DEADLINE, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::istio::{agent_lives, captured, fresh, installed};

/// From what happened to all being as it should be.
const BOUND: Duration = Duration::from_secs(10);
const OURS: &str = "nodetap-pod-web";
const LABEL: &str = "nodetap.io/sidecar";

/// A namespace with a Sidecar of a user's and a pod whose listeners answer.
struct Shop<'a> {
    cluster: &'a Cluster,
    namespace: String,
    web: BarePod<'a>,
}

impl<'a> Shop<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let namespace = cluster.namespace().unwrap();
        agent_lives(cluster, "converges");
        let listeners = json!([{"for": "inbound", "port": 4143, "application": 8080, "addresses": ["127.0.0.1"]}]);
        let web = captured(cluster, &namespace, &json!({"mode": "dual", "listeners": listeners}).to_string());
        let shop = Self { cluster, namespace, web };
        shop.write("default", &json!({"egress": [{"hosts": ["./*"]}]}));
        shop
    }

    /// Makes a Sidecar, or changes it, as its owner.
    fn write(&self, name: &str, spec: &Value) {
        let metadata = json!({"name": name, "namespace": self.namespace});
        let object =
            json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": metadata, "spec": spec});
        self.cluster.apply(&object.to_string()).unwrap();
    }

    fn path(&self, name: &str) -> String {
        format!("/apis/networking.istio.io/v1/namespaces/{}/sidecars/{name}", self.namespace)
    }

    fn ours(&self) -> Option<Value> {
        self.cluster.api("GET", &self.path(OURS), None).ok()
    }

    fn is_labelled(&self) -> bool {
        self.web.object().is_ok_and(|pod| pod["metadata"]["labels"][LABEL] == "pod-web")
    }

    /// Waits until the pod is sent to us, by just what belongs there, or is Istio's own; tells how long that took.
    fn until(&self, what: &str, since: Instant, hosts: Option<&str>, logs: &dyn Fn() -> String) {
        let wanted = hosts.map(|hosts| {
            json!({
                "workloadSelector": {"labels": {LABEL: "pod-web"}}, "egress": [{"hosts": [hosts]}],
                "ingress": [{
                    "port": {"number": 8080, "name": "auto-8080"}, "defaultEndpoint": "127.0.0.1:4143",
                }],
            })
        });
        let base = |ours: &Value| ours["metadata"]["annotations"]["nodetap.io/base"].clone();
        let is = || {
            let ours = self.ours();
            let good = match (&wanted, &ours) {
                (None, None) => !self.is_labelled(),
                (Some(wanted), Some(ours)) => {
                    ours["spec"] == *wanted
                        && base(ours) == format!("{}/default", self.namespace).as_str()
                        && self.is_labelled()
                }
                _ => false,
            };
            good.then_some(())
        };
        eventually(DEADLINE, what, is)
            .unwrap_or_else(|error| panic!("{error}: {:?}; it logged: {}", self.ours(), logs()));
        bar(since.elapsed() < BOUND, &format!("{what} after {:?}", since.elapsed()));
    }

    /// Every state that the Sidecars of the namespace are in until `over`; panics when two of ours are for the pod. How many
    /// that were.
    fn never_two(&self, over: &AtomicBool) -> usize {
        let list = self.path("");
        let list = list.trim_end_matches('/');
        let (mut states, mut known, mut version) = (0, BTreeMap::<String, Value>::new(), None::<String>);
        while !over.load(Ordering::Relaxed) {
            let Some(from) = &version else {
                // Also after the API server was away: what was missed is nothing, when it wrote nothing.
                let Ok(all) = self.cluster.api("GET", list, None) else { continue };
                let items = all["items"].as_array().unwrap().iter();
                known = items.map(|one| (one["metadata"]["name"].to_string(), one.clone())).collect();
                version = all["metadata"]["resourceVersion"].as_str().map(str::to_owned);
                continue;
            };
            let watch = format!("{list}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={from}");
            let Ok(events) = self.cluster.api("GET", &watch, None) else {
                version = None;
                continue;
            };
            for event in events_of(&events) {
                let object = &event["object"];
                version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
                match event["type"].as_str() {
                    Some("ADDED" | "MODIFIED") => {
                        known.insert(object["metadata"]["name"].to_string(), object.clone());
                    }
                    Some("DELETED") => drop(known.remove(&object["metadata"]["name"].to_string())),
                    _ => continue,
                }
                states += 1;
                let two: Vec<&Value> = known.values().filter(|one| is_ours_for_web(one)).collect();
                assert!(two.len() < 2, "{two:#?}");
            }
        }
        states
    }
}

/// What a watch has told: one event is a value, several are a text with one a line.
fn events_of(answer: &Value) -> Vec<Value> {
    match answer {
        Value::String(text) => text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
        one => vec![one.clone()],
    }
}

/// Does it select the pod, with our label and without it?
fn is_ours_for_web(sidecar: &Value) -> bool {
    let labels = sidecar["spec"]["workloadSelector"]["labels"].as_object().cloned().unwrap_or_default();
    let has = [("app", "web"), (LABEL, "pod-web")];
    let managed = sidecar["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "nodetap";
    managed && labels.iter().all(|(key, value)| has.iter().any(|(own, is)| own == key && value == is))
}

/// Runs something while every state of the Sidecars is looked at; how many that were.
fn watched(shop: &Shop<'_>, run: impl FnOnce()) -> usize {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    let states = thread::scope(|scope| {
        let watching = scope.spawn(|| shop.never_two(&over));
        let ending = Over(&over);
        run();
        drop(ending);
        watching.join().unwrap()
    });
    assert!(states > 4, "{states}");
    states
}

#[test]
fn what_somebody_does_to_our_sidecar_or_label_by_hand_is_undone_in_seconds() {
    let (cluster, _turn) = installed();
    let shop = Shop::new(cluster);
    let replica = Replica::start(cluster, "undoes").unwrap();
    let logs = || replica.log();
    let patch = |patch: Value| {
        cluster.api("PATCH", &shop.path(OURS), Some(&patch)).unwrap();
        Instant::now()
    };
    let states = watched(&shop, || {
        shop.until("ours", Instant::now(), Some("./*"), &logs);
        for (what, change) in [
            ("another egress", json!({"egress": [{"hosts": ["*/*"]}]})),
            (
                "another endpoint",
                json!({"ingress": [{"port": {"number": 8080, "name": "x"}, "defaultEndpoint": "127.0.0.1:9"}]}),
            ),
            ("no ingress", json!({"ingress": null})),
            ("a selector of one label more", json!({"workloadSelector": {"labels": {"version": "v2"}}})),
            ("a selector of another label", json!({"workloadSelector": {"labels": {LABEL: null, "app": "web"}}})),
            ("an empty selector", json!({"workloadSelector": {"labels": null}})),
            ("no selector", json!({"workloadSelector": null})),
            ("a policy", json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}})),
            ("a pool", json!({"inboundConnectionPool": {"tcp": {"maxConnections": 1}}})),
        ] {
            let since = patch(json!({"spec": change}));
            shop.until(&format!("{what} undone"), since, Some("./*"), &logs);
        }
        let since = patch(json!({"metadata": {"annotations": {"nodetap.io/base": "of/nobody"}}}));
        shop.until("another base undone", since, Some("./*"), &logs);
        // What means nothing to Istio and was not written by us is theirs.
        patch(json!({"metadata": {"labels": {"team": "a"}, "annotations": {"team": "a"}}}));

        let label = |value: Value| {
            let patch = json!({"metadata": {"labels": {LABEL: value}}});
            cluster.api("PATCH", shop.web.path(), Some(&patch)).unwrap();
            Instant::now()
        };
        shop.until("a label taken away, back", label(Value::Null), Some("./*"), &logs);
        shop.until("another label undone", label(json!("pod-other")), Some("./*"), &logs);
        assert_eq!(shop.ours().unwrap()["metadata"]["labels"]["team"], "a");

        let since = Instant::now();
        cluster.api("DELETE", &shop.path(OURS), None).unwrap();
        shop.until("a deleted one made anew", since, Some("./*"), &logs);

        // One that a user makes for the pod, after ours.
        let since = Instant::now();
        shop.write("mine", &json!({"workloadSelector": {"labels": {"app": "web"}}, "egress": [{"hosts": ["a/*"]}]}));
        shop.until("ours gone for a user's", since, None, &logs);
        let since = Instant::now();
        cluster.api("DELETE", &shop.path("mine"), None).unwrap();
        shop.until("ours back", since, Some("./*"), &logs);
        // A copy of ours, by the label that is ours.
        let since = Instant::now();
        shop.write("copy", &shop.ours().unwrap()["spec"]);
        shop.until("ours gone for a copy of it", since, None, &logs);
        let since = Instant::now();
        cluster.api("DELETE", &shop.path("copy"), None).unwrap();
        shop.until("ours back", since, Some("./*"), &logs);
    });
    println!("{states} states, and never two of ours");
    replica.kill().unwrap();
}

#[test]
fn whichever_controller_ends_or_sleeps_and_when_the_api_server_was_away_ours_follows_its_base_in_seconds() {
    // Its own: an API server that has just started refuses what it will allow.
    let cluster = &fresh();
    let shop = Shop::new(cluster);
    let mut replicas: BTreeMap<String, Replica<'_>> = BTreeMap::new();
    for name in ["left", "right"] {
        replicas.insert(name.to_owned(), Replica::start(cluster, name).unwrap());
    }
    let mut rounds = 0;
    let mut base = || {
        rounds += 1;
        let hosts = format!("round-{rounds}/*");
        shop.write("default", &json!({"egress": [{"hosts": [hosts]}]}));
        hosts
    };
    let logs = |replicas: &BTreeMap<String, Replica<'_>>| {
        replicas.iter().map(|(name, one)| format!("{name}: {}", one.log())).collect::<Vec<_>>().join("\n")
    };
    // Of one that was killed, the Lease stands for a while.
    let leads = |replicas: &BTreeMap<String, Replica<'_>>| {
        let leads = || leader(cluster).ok().filter(|name| replicas.contains_key(name));
        eventually(DEADLINE, "a leader", leads).unwrap()
    };
    let mut follows = |what, since, replicas: &BTreeMap<String, Replica<'_>>| {
        let hosts = base();
        shop.until(what, since, Some(&hosts), &|| logs(replicas));
    };
    let states = watched(&shop, || {
        shop.until("ours, of two controllers", Instant::now(), Some("./*"), &|| logs(&replicas));
        let first = leads(&replicas);
        let since = Instant::now();
        replicas.remove(&first).unwrap().kill().unwrap();
        follows("a base that changes as the leader is killed", since, &replicas);

        // One that sleeps is no leader, whatever it thinks of itself when it wakes.
        replicas.insert(first.clone(), Replica::start(cluster, &first).unwrap());
        let second = leads(&replicas);
        let since = Instant::now();
        replicas[&second].signal(Signal::STOP).unwrap();
        follows("a base that changes as the leader sleeps", since, &replicas);
        assert_ne!(leads(&replicas), second);
        let since = Instant::now();
        replicas[&second].signal(Signal::CONT).unwrap();
        follows("a base that changes as one wakes that led", since, &replicas);

        // One that is told to end gives its Lease back for good.
        let third = leads(&replicas);
        let since = Instant::now();
        replicas[&third].signal(Signal::TERM).unwrap();
        follows("a base that changes as the leader is told to end", since, &replicas);
        assert_ne!(leads(&replicas), third);
        drop(replicas.remove(&third));
        replicas.insert(third.clone(), Replica::start(cluster, &third).unwrap());

        cluster.api_server_away().unwrap();
        let gone =
            eventually(DEADLINE, "no API server", || cluster.api("GET", "/version", None).is_err().then_some(()));
        gone.unwrap();
        cluster.api_server_back().unwrap();
        let since = Instant::now();
        follows("a base that changes after the API server was away", since, &replicas);
    });
    println!("{states} states, and never two of ours");
    replicas.into_values().for_each(|one| one.kill().unwrap());
}
