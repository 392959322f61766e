//! The capabilities of the DaemonSet: with those that ship everything works; without any one of them something stops, and
//! the agent names it. One that could do nothing must not take the place of one that does.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nodetap_tests::cluster::images;
use nodetap_tests::cluster::pod::{self, BarePod, capturing};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, records};
use serde_json::{Value, json};

use crate::deployed::{Deployed, objects};

/// A connection on which nothing happens for so long is idle to the agent, and more.
const IDLE: Duration = Duration::from_secs(3);

/// A connection that was used before its pod was captured. It is idle from now on.
fn older(client: &BarePod<'_>, web: &Value) -> TcpStream {
    let at: SocketAddr = format!("{}:80", web["status"]["podIP"].as_str().unwrap()).parse().unwrap();
    let mut socket = eventually(DEADLINE, "nginx", || client.dial(at).ok()).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = [0; 4096];
    assert!(socket.read(&mut answer).unwrap() > 0);
    // Whoever was busy a moment ago is left alone.
    std::thread::sleep(IDLE);
    socket
}

/// Has its other side ended it?
fn is_closed(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    match socket.read(&mut [0; 4096]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// An nginx that asks for capture, and that connections older than that be closed.
fn web(deployed: &Deployed, client: &BarePod<'_>, namespace: &str, name: &str) -> (Value, TcpStream) {
    let mut manifest = pod::manifest(namespace, name, &[("nginx", 80)]);
    manifest["spec"]["containers"][0]["image"] = "docker.io/local/nginx:1".into();
    deployed.cluster.apply(&manifest.to_string()).unwrap();
    let pod = deployed.cluster.node().unwrap().ready(namespace, name).unwrap();
    let before = older(client, &pod);
    let asks = json!({"nodetap.io/inject": "true", "nodetap.io/reset-older-connections": "true"});
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    deployed.cluster.api("PATCH", &path, Some(&json!({"metadata": {"annotations": asks}}))).unwrap();
    (pod, before)
}

#[test]
fn each_capability_that_ships_is_needed_and_missed_in_words() {
    let deployed = Deployed::up(|_| {});
    let cluster = &deployed.cluster;
    cluster.node().unwrap().import(&images::nginx().unwrap()).unwrap();
    let shop = cluster.namespace().unwrap();
    let client = cluster.bare_pod(&pod::manifest(&shop, "client", &[("app", 0)])).unwrap();
    let shipped = objects(cluster).into_iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    const ADDED: &str = "/spec/template/spec/containers/0/securityContext/capabilities/add";
    assert_eq!(shipped.pointer(ADDED).unwrap(), &json!(["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN"]));
    let told = |name: &str| {
        let pod = cluster.api("GET", &format!("/api/v1/namespaces/{shop}/pods/{name}"), None).ok()?;
        capturing(&pod).cloned()
    };

    // With those that ship: it finds, enters, captures and closes.
    let (first, mut before) = web(&deployed, &client, &shop, "first");
    eventually(DEADLINE, "capture", || told("first").filter(|told| told["status"] == "True")).unwrap();
    eventually(DEADLINE, "the end of an older connection", || is_closed(&mut before).then_some(())).unwrap();
    let mut recorded = 0;
    let mut is_recorded = || {
        let at = format!("{}:80", first["status"]["podIP"].as_str().unwrap()).parse().unwrap();
        http::get_over(client.dial(at).unwrap(), "/").unwrap();
        recorded += 1;
        records::eventually_of_kind(&deployed.records(), "exchange", recorded).unwrap();
    };
    is_recorded();

    let without = |capability: &str| {
        let mut agent = shipped.clone();
        agent.pointer_mut(ADDED).unwrap().as_array_mut().unwrap().retain(|one| one != capability);
        deployed.apply(&[agent]);
        // Of the two that there may be, one says it.
        let word = format!("the capability {capability} is missing: ");
        let line = eventually(DEADLINE, &word, || {
            let log = cluster.kubectl(&[
                "-n",
                "nodetap",
                "logs",
                "--prefix",
                "--tail=40",
                "--selector=app.kubernetes.io/name=nodetap-agent",
            ]);
            log.ok()?.lines().find(|line| line.contains(&word)).map(str::to_owned)
        });
        println!("without {capability}: {}", line.unwrap());
    };
    for capability in ["SYS_ADMIN", "SYS_PTRACE"] {
        without(capability);
        // The one that runs goes on: what is crippled asks for nothing.
        is_recorded();
    }
    without("NET_ADMIN");
    deployed.rolled_out("daemonset/nodetap-agent");
    is_recorded();
    let (_, mut before) = web(&deployed, &client, &shop, "second");
    let why = eventually(DEADLINE, "a word in the condition", || {
        told("second").filter(|told| told["message"].as_str().is_some_and(|text| text.contains("NET_ADMIN")))
    });
    println!("without NET_ADMIN: {}", why.unwrap()["message"]);
    assert!(!is_closed(&mut before));
}
