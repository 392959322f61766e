//! The DaemonSet is restarted as users do it, while connections come and go and some stay open.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nodetap_tests::bars::bar;
use nodetap_tests::cluster::images;
use nodetap_tests::cluster::pod::{self, BarePod, capturing};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, peers, records};
use serde_json::{Value, json};

use crate::deployed::Deployed;

/// Connections that each of the four loads begins a second.
const RATE: u32 = 125;

/// Seconds for what is open: what ships has 45, which is long to wait for.
const GRACE: u32 = 10;

/// A pod that serves and calls, captured as the annotations say.
fn load_pod(deployed: &Deployed, namespace: &str, name: &str, annotations: &Value) -> String {
    let mut manifest = pod::manifest(namespace, name, &[("app", 8080)]);
    manifest["spec"]["containers"][0]["image"] = "docker.io/local/load:1".into();
    manifest["metadata"]["annotations"] = annotations.clone();
    deployed.cluster.apply(&manifest.to_string()).unwrap();
    let pod = deployed.cluster.node().unwrap().ready(namespace, name).unwrap();
    let address = pod["status"]["podIP"].as_str().unwrap().to_owned();
    // Without a probe it counts as ready before it listens.
    let server = format!("{address}:8080").parse().unwrap();
    eventually(DEADLINE, "its server", || deployed.cluster.host().dial(server).ok()).unwrap();
    address
}

/// An answer that does not end by itself.
struct Open {
    socket: TcpStream,
    bytes: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Open {
    fn begin(client: &BarePod<'_>, address: &str) -> Self {
        let mut socket = client.dial(address.parse::<SocketAddr>().unwrap()).unwrap();
        socket.write_all(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        // A line every 100 ms: who is silent for so long has been forgotten.
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut reading = socket.try_clone().unwrap();
        let (bytes, ended) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, end) = (Arc::clone(&bytes), Arc::clone(&ended));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reading.read(&mut buffer) {
                count.fetch_add(read as u64, Ordering::Relaxed);
            }
            end.store(true, Ordering::Relaxed);
        });
        Self { socket, bytes, ended }
    }

    fn flows(&self) {
        let before = self.bytes.load(Ordering::Relaxed);
        let more = || self.has_ended() || self.bytes.load(Ordering::Relaxed) > before;
        eventually(DEADLINE, "more of the stream", || more().then_some(())).unwrap();
        assert!(!self.has_ended());
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn close(self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }
}

#[test]
fn a_restart_of_the_daemonset_fails_no_connection_and_what_is_open_is_drained_then_cut_and_counted() {
    let grace = format!("--grace={GRACE}");
    let deployed = Deployed::up(|objects| {
        let agent = objects.iter_mut().find(|object| object["kind"] == "DaemonSet").unwrap();
        let arguments = agent.pointer_mut("/spec/template/spec/containers/0/args").unwrap().as_array_mut().unwrap();
        arguments.iter_mut().filter(|one| **one == "--grace=45").for_each(|one| *one = grace.as_str().into());
    });
    let cluster = &deployed.cluster;
    let program = peers::go(&Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/load.go")).unwrap();
    cluster.node().unwrap().import(&images::program("load", &program).unwrap()).unwrap();
    let shop = cluster.namespace().unwrap();
    let transparent = json!({"nodetap.io/inject": "true"});
    let dual = json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": "dual", "nodetap.io/proxy-port": "8080"});
    let web = load_pod(&deployed, &shop, "web", &transparent);
    let dual = load_pod(&deployed, &shop, "dual", &dual);
    let peer = load_pod(&deployed, &shop, "peer", &json!({}));
    let client = cluster.bare_pod(&pod::manifest(&shop, "client", &[("app", 0)])).unwrap();
    let condition = |name: &str| {
        let pod = cluster.api("GET", &format!("/api/v1/namespaces/{shop}/pods/{name}"), None).ok()?;
        capturing(&pod).is_some_and(|condition| condition["status"] == "True").then_some(())
    };
    for name in ["web", "dual"] {
        let captured = eventually(DEADLINE, "capture", || condition(name));
        captured.unwrap_or_else(|error| panic!("{error:#}: {}", deployed.log("daemonset/nodetap-agent")));
    }

    let asks = |host: &str, path: &str| {
        let socket = client.dial(format!("{host}:8080").parse().unwrap()).unwrap();
        String::from_utf8(http::get_over(socket, path).unwrap()).unwrap()
    };
    let loads = [
        ("transparent-in", &peer, format!("url=http://{web}:8080/")),
        ("transparent-out", &web, format!("url=http://{peer}:8080/")),
        ("dual-in", &peer, format!("url=http://{dual}:4143/")),
        ("dual-out", &dual, format!("url=http://{peer}:8080/&proxy=http://127.0.0.1:4140")),
    ];
    let begun = Instant::now();
    for (name, from, to) in &loads {
        assert_eq!(asks(from, &format!("/start?name={name}&rate={RATE}&{to}")), "begun");
    }
    let open = || [format!("{web}:8080"), format!("{dual}:4143")].map(|to| Open::begin(&client, &to));
    let (short, long) = (open(), open());
    short.iter().chain(&long).for_each(Open::flows);

    let restarted = Instant::now();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    cluster.kubectl(&["-n", "nodetap", "rollout", "restart", "daemonset/nodetap-agent"]).unwrap();
    let agents = "/api/v1/namespaces/nodetap/pods?labelSelector=app.kubernetes.io/name%3Dnodetap-agent";
    let agents = || Some(cluster.api("GET", agents, None).ok()?["items"].as_array()?.clone());
    let ends = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
    let told =
        eventually(DEADLINE * 2, "that the old agent is told to end", || agents()?.iter().any(ends).then_some(()));
    told.unwrap_or_else(|error| panic!("{error:#}: {}", deployed.log("daemonset/nodetap-agent")));
    println!("another agent was ready after {:?}", restarted.elapsed());
    // What is open at the old one goes on.
    short.iter().chain(&long).for_each(Open::flows);
    short.into_iter().for_each(Open::close);
    let all_cut = || long.iter().all(Open::has_ended).then_some(());
    eventually(DEADLINE, "the end of what is open", all_cut).unwrap();
    println!("what was open is cut after {:?}", restarted.elapsed());
    deployed.rolled_out("daemonset/nodetap-agent");
    eventually(DEADLINE, "the old agent's end", || (agents()?.len() == 1).then_some(())).unwrap();

    let took = begun.elapsed();
    let (mut attempts, mut failed) = (0, Vec::new());
    for (name, from, _) in &loads {
        let told: Value = serde_json::from_str(&asks(from, &format!("/stop?name={name}"))).unwrap();
        let failures = told["failed"].as_array().unwrap();
        println!("{name}: {} attempts, {} failed", told["attempts"], failures.len());
        // When they began, after the restart.
        let after = failures.iter().map(|one| one["begun"].as_f64().unwrap() - at);
        let between = after.fold((f64::MAX, f64::MIN), |(first, last), at| (first.min(at), last.max(at)));
        failed.extend(failures.first().map(|one| format!("{name}: {} between {between:?} s: {one}", failures.len())));
        attempts += told["attempts"].as_u64().unwrap();
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let rate = attempts as f64 / took.as_secs_f64();
    let losses = records::losses(&deployed.records()).unwrap();
    let cut = losses.iter().filter(|loss| loss["reason"] == "cut");
    assert_eq!(cut.map(|loss| loss["exchanges"].as_u64().unwrap()).sum::<u64>(), 2, "{losses:?}");
    assert!(losses.iter().all(|loss| loss["reason"] != "agent_down"), "{losses:?}");
    // Both agents have recorded, and the second one goes on.
    let exchanges = records::exchanges(&deployed.records()).unwrap();
    let of = |name: &str| exchanges.iter().filter(|one| one["target"]["name"] == name).count();
    println!("recorded: {} of web, {} of dual", of("web"), of("dual"));
    assert!(of("web") as u64 > attempts / 4 && of("dual") as u64 > attempts / 4);
    bar(rate > f64::from(RATE) * 4.0 * 0.9, &format!("{rate:.0} connections a second during the restart"));
}
