//! What annotations say is not to be captured: it passes as ever and leaves no record, however its pod is captured, and
//! what they say can change at any time.

use std::cell::Cell;
use std::time::Duration;

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::inside::Inside;
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, records};
use serde_json::{Value, json};

use crate::support::{annotated, asks, asks_through, serving};

/// A connection of a captured pod.
#[derive(Debug, Clone, Copy)]
enum Call {
    /// Another pod calls it, by IPv4 or IPv6.
    From(&'static str),
    From6(&'static str),
    /// The node calls it.
    Node,
    /// It calls another pod.
    To(&'static str),
    To6(&'static str),
    /// It calls itself.
    Inside,
    /// It is called from inside, as `kubectl port-forward` does.
    Forwarded,
}

/// How the captured pods are called, and what they are asked for.
const MODES: [(&str, &str, u16); 2] = [("transparent", "transparent", 8080), ("dual", "dual", 4143)];
/// The same through a proxy of their own.
const PROXY: &str = "http://127.0.0.1:4140";
/// A record that is not there after this time does not come.
const SOON: Duration = Duration::from_secs(3);

struct Scene<'a> {
    cluster: &'a Cluster,
    node: &'a Node,
    pods: Vec<(&'static str, BarePod<'a>)>,
    _servers: Vec<Inside>,
    calls: Cell<u32>,
}

impl<'a> Scene<'a> {
    fn new(cluster: &'a Cluster, node: &'a Node, namespace: &str) -> Self {
        let mut pods = Vec::new();
        for name in ["peer", "other"] {
            pods.push((name, cluster.bare_pod(&pod::manifest(namespace, name, &[("app", 8080)])).unwrap()));
        }
        for (name, mode, _) in MODES {
            let asked = json!({"nodetap.io/inject": "true", "nodetap.io/proxy-type": mode});
            pods.push((name, cluster.bare_pod(&annotated(namespace, name, &asked)).unwrap()));
        }
        let servers = pods.iter().map(|(_, pod)| serving(pod, "app")).collect();
        Self { cluster, node, pods, _servers: servers, calls: Cell::new(0) }
    }

    fn pod(&self, name: &str) -> &BarePod<'a> {
        &self.pods.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// Makes the call, which must be answered, and returns what tells its record from others.
    fn make(&self, (name, _, port): (&str, &str, u16), call: Call) -> String {
        self.calls.set(self.calls.get() + 1);
        let path = format!("/{name}-{}", self.calls.get());
        let web = self.pod(name);
        let here = format!("{}:{port}", web.address()).parse().unwrap();
        let out = |host: &str| {
            let url = format!("http://{host}:8080{path}");
            if port == 8080 { asks(web, "app", &url) } else { asks_through(web, "app", &url, PROXY) }
        };
        match call {
            Call::From(from) => drop(http::get_over(self.pod(from).dial(here).unwrap(), &path).unwrap()),
            Call::From6(from) => {
                let here = format!("[{}]:{port}", web.address6()).parse().unwrap();
                http::get_over(self.pod(from).dial(here).unwrap(), &path).unwrap();
            }
            Call::Node => drop(http::get_over(self.cluster.host().dial(here).unwrap(), &path).unwrap()),
            Call::To(to) => drop(out(&self.pod(to).address())),
            Call::To6(to) => drop(out(&format!("[{}]", self.pod(to).address6()))),
            Call::Inside => drop(out("127.0.0.1")),
            Call::Forwarded => {
                let here = format!("127.0.0.1:{port}").parse().unwrap();
                http::get_over(web.dial(here).unwrap(), &path).unwrap();
            }
        }
        path
    }

    /// Sets annotations (keys without prefix; an empty value takes one away) on the captured pods.
    fn say(&self, annotations: &[(&str, &str)]) {
        let named = annotations.iter().map(|(key, value)| {
            let value = if value.is_empty() { Value::Null } else { json!(value) };
            (format!("nodetap.io/{key}"), value)
        });
        let annotations = Value::Object(named.collect());
        MODES.iter().for_each(|(name, ..)| self.pod(name).annotate(&annotations).unwrap());
    }

    /// Waits until, of both pods, the first call leaves no record and the second does.
    fn until(&self, patience: Duration, quiet: Option<Call>, told: Call, what: &str) {
        for mode in MODES {
            let settled = || {
                let quiet = quiet.map(|call| self.make(mode, call));
                // What came before it is written by then.
                let mark = self.make(mode, told);
                let paths = eventually(SOON, "a record", || {
                    let paths = self.recorded();
                    paths.iter().any(|path| path.ends_with(&mark)).then_some(paths)
                });
                let paths = paths.ok()?;
                quiet.is_none_or(|quiet| !paths.iter().any(|path| path.ends_with(&quiet))).then_some(())
            };
            eventually(patience, &format!("that {what} holds for the {} pod", mode.0), settled).unwrap();
        }
    }

    fn recorded(&self) -> Vec<String> {
        let exchanges = records::exchanges(&self.node.records).unwrap();
        exchanges.iter().map(|record| record["request"]["url"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn what_is_to_be_left_alone_passes_unrecorded_in_every_mode_and_can_change_at_any_time() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let scene = Scene::new(cluster, &node, &shop);
    let agent = Agent::ready(cluster, &node, 30, &[]).unwrap();
    MODES.iter().for_each(|(name, ..)| drop(agent.until(scene.pod(name), "capturing").unwrap()));
    let (peer, other) = (scene.pod("peer"), scene.pod("other"));
    let (v4, v6) = (format!("{}/32", peer.address()), format!("{}/128", peer.address6()));
    let (from, to) = (Call::From("peer"), Call::To("peer"));
    for (key, value, quiet, told) in [
        ("ignore-src-ips", v4.as_str(), from, Call::From("other")),
        ("ignore-src-ips", v6.as_str(), Call::From6("peer"), from),
        ("ignore-src-ips", "*", from, to),
        ("ignore-src-hosts", peer.address().as_str(), from, Call::From("other")),
        ("ignore-inbound-ports", "8080", from, to),
        ("ignore-dst-ips", v4.as_str(), to, Call::To("other")),
        ("ignore-dst-ips", v6.as_str(), Call::To6("peer"), to),
        ("ignore-dst-ips", "*", to, from),
        ("ignore-dst-hosts", other.address().as_str(), Call::To("other"), to),
        ("ignore-outbound-ports", "8080", to, from),
        // What the node calls, and what the pod calls in itself, is captured only where that is said.
        ("ignore-outbound-ports", "", Call::Node, from),
        ("capture-node-traffic", "false", Call::Inside, to),
        ("ignore-loopback", "true", Call::Forwarded, from),
    ] {
        scene.say(&[(key, value)]);
        scene.until(DEADLINE, Some(quiet), told, &format!("{key}={value}"));
        scene.say(&[(key, "")]);
        if !matches!(quiet, Call::Node | Call::Inside | Call::Forwarded) {
            scene.until(DEADLINE, None, quiet, &format!("the end of {key}={value}"));
        }
    }
    scene.say(&[("capture-node-traffic", "true"), ("track-loopback", "true")]);
    scene.until(DEADLINE, None, Call::Node, "capture-node-traffic");
    scene.until(DEADLINE, None, Call::Inside, "track-loopback");
    scene.say(&[("ignore-src-ips", "*"), ("ignore-dst-ips", "*")]);
    for mode in MODES {
        for (direction, call) in [("in", from), ("out", to)] {
            let labels = format!("namespace=\"{shop}\",pod=\"{}\",direction=\"{direction}\",route=\"ignored\"", mode.0);
            let counted = eventually(DEADLINE, "that it is counted", || {
                scene.make(mode, call);
                agent.metric(&format!("nodetap_connections_total{{{labels}}}")).ok().filter(|count| *count > 0.0)
            });
            counted.unwrap_or_else(|error| panic!("{mode:?} {direction}: {error}"));
        }
    }
    agent.end().unwrap();
}

#[test]
fn a_name_that_is_left_alone_is_looked_up_again() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let scene = Scene::new(cluster, &node, &shop);
    let name = format!("server.{shop}.test");
    means(cluster, &name, &scene.pod("peer").address());
    let agent = Agent::ready(cluster, &node, 31, &[]).unwrap();
    MODES.iter().for_each(|(name, ..)| drop(agent.until(scene.pod(name), "capturing").unwrap()));
    scene.say(&[("ignore-dst-hosts", &name)]);
    scene.until(DEADLINE, Some(Call::To("peer")), Call::To("other"), &name);
    means(cluster, &name, &scene.pod("other").address());
    // What a name means is taken for known for half a minute.
    let patience = Duration::from_secs(120);
    scene.until(patience, Some(Call::To("other")), Call::To("peer"), "what it means now");
    agent.end().unwrap();
}

/// Names of the machine, in a file that stands over its own.
fn means(cluster: &Cluster, name: &str, address: &str) {
    const SAY: &str = "[ -e \"$1\" ] || { cp /etc/hosts \"$1\"; mount --bind \"$1\" /etc/hosts; }\n\
        sed \"/ $2\\$/d\" \"$1\" > \"$1.new\"; echo \"$3 $2\" >> \"$1.new\"; cat \"$1.new\" > \"$1\"\n";
    let hosts = cluster.host().folder().join("hosts");
    cluster.host().script(SAY, &[hosts.to_str().unwrap(), name, address]).unwrap();
}
