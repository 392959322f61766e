//! What users have in their clusters, and what becomes of it: one row a set-up. A row says what ours lists (`PORT PROTOCOL`,
//! `>` and our port where it is captured) and reaches, or why there is none.

use serde_json::{Value, json};

use super::{hosts, map, pod, service, sidecar, verified, webhook};
use crate::mesh::desired::{Desired, Ours};
use crate::mesh::finding::Finding;
use crate::mesh::names;
use crate::mesh::sidecar::{Ingress, Sidecar};
use crate::mesh::snapshot::{Capture, Mesh, Pod, Service, Snapshot};

/// A set-up: the pod `web-1` of the Deployment `web`, whose listener answers for 8080, with what is added.
struct Setup(Snapshot);

impl Setup {
    fn new(services: impl IntoIterator<Item = Service>) -> Self {
        Self(Snapshot { pods: vec![pod("web-1")], services: services.into_iter().collect(), ..Snapshot::default() })
    }

    /// A Service with one port for HTTP.
    fn http() -> Self {
        Self::new([service("web", 1, &[("8080", "http")])])
    }

    fn with(mut self, sidecar: Sidecar) -> Self {
        self.0.sidecars.push(sidecar);
        self
    }

    fn pod(mut self, change: impl FnOnce(&mut Pod)) -> Self {
        change(&mut self.0.pods[0]);
        self
    }

    fn and(mut self, other: Pod) -> Self {
        self.0.pods.push(other);
        self
    }

    fn hosts(mut self, hosts: &[&str]) -> Self {
        self.0.settings.egress_hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        self
    }

    fn annotated(self, key: &str, value: &str) -> Self {
        self.pod(|pod| drop(pod.annotations.insert(key.into(), value.into())))
    }
}

fn entry(entry: &Ingress) -> String {
    let endpoint = entry.default_endpoint.as_deref().map(|endpoint| endpoint.replace("127.0.0.1:", ""));
    let endpoint = endpoint.map_or_else(String::new, |endpoint| format!(">{endpoint}"));
    let protocol = if entry.port.protocol.is_empty() { "-" } else { &entry.port.protocol };
    format!("{} {protocol}{endpoint}", entry.port.number)
}

fn egress(ours: &Ours) -> String {
    let listeners = ours.spec.rest["egress"].as_array().unwrap();
    let hosts = listeners.iter().flat_map(|one| one["hosts"].as_array().unwrap()).filter_map(Value::as_str);
    hosts.collect::<Vec<_>>().join(" ")
}

/// What is made of it, in one line: ports, what is reached, the policy; and why something is not.
fn outcome(Setup(snapshot): &Setup) -> String {
    let desired = Desired::of(snapshot);
    let mut parts: Vec<String> = desired
        .sidecars
        .values()
        .map(|ours| {
            webhook::accepts(ours);
            let ports: Vec<String> = ours.spec.ingress.iter().map(entry).collect();
            let policy = ours.spec.rest.get("outboundTrafficPolicy").and_then(|policy| policy["mode"].as_str());
            let policy = policy.map_or_else(String::new, |mode| format!(" | {mode}"));
            format!("{} | {}{policy}", ports.join(", "), egress(ours))
        })
        .collect();
    let mut reasons: Vec<&str> = desired.findings.values().flatten().map(Finding::reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    if !reasons.is_empty() {
        parts.push(reasons.join(" "));
    }
    parts.join(" || ")
}

fn check(rows: Vec<(&str, Setup, &str)>) {
    for (name, setup, expected) in rows {
        assert_eq!(outcome(&setup), expected, "{name}");
    }
}

const PLAIN: &str = "8080 HTTP>4143 | */*";
const CONFLICT: &str = "SidecarConflict";

fn selecting(labels: Value) -> Value {
    json!({"workloadSelector": {"labels": labels}, "egress": [{"hosts": ["./*"]}]})
}

#[test]
fn ports_are_listed_as_they_are_received_today() {
    let multi = || service("web", 1, &[("8080", "http"), ("9000", "tcp"), ("9090", "grpc"), ("9091", "")]);
    let stranger = || Service { selector: map(&[("app", "other")]), ..service("other", 1, &[("7000", "tcp")]) };
    let elsewhere = || Service { namespace: "mall".into(), ..service("web", 1, &[("7000", "tcp")]) };
    let nobodys = || Service { selector: map(&[]), ..service("manual", 1, &[("7000", "tcp")]) };
    check(vec![
        ("one port", Setup::http(), PLAIN),
        ("many ports", Setup::new([multi()]), "8080 HTTP>4143, 9000 TCP, 9090 GRPC, 9091 - | */*"),
        (
            "more than one captured",
            Setup::new([multi()]).pod(|pod| pod.capture = verified(&[(8080, 4143), (9000, 4144)])),
            "8080 HTTP>4143, 9000 TCP>4144, 9090 GRPC, 9091 - | */*",
        ),
        ("a port without a Service", Setup::new([]), "8080 ->4143 | */*"),
        ("a named port", Setup::new([service("web", 1, &[("web", "http2")])]), "8080 HTTP2>4143 | */*"),
        ("a name that no container has", Setup::new([service("web", 1, &[("nope", "http")])]), "8080 ->4143 | */*"),
        (
            "two Services differ: the older one's word holds",
            Setup::new([service("b", 1, &[("8080", "tcp")]), service("a", 2, &[("8080", "http")])]),
            "8080 TCP>4143 | */*",
        ),
        (
            "two Services of one second: by name",
            Setup::new([service("b", 1, &[("8080", "tcp")]), service("a", 1, &[("8080", "http")])]),
            PLAIN,
        ),
        (
            "two ports lead to one: the first",
            Setup::new([service("a", 1, &[("8080", "http"), ("8080", "grpc")])]),
            PLAIN,
        ),
        (
            "Services of others",
            Setup::new([service("web", 1, &[("8080", "http")]), stranger(), elsewhere(), nobodys()]),
            PLAIN,
        ),
        (
            "a Service that names Istio's own port",
            Setup::new([service("web", 1, &[("8080", "http"), ("15090", "http")])]),
            PLAIN,
        ),
        (
            "pods of the workload that are not captured count, too",
            Setup::new([service("web", 1, &[("web", "http")])]).and(Pod {
                capture: Capture::None,
                named_ports: [("web".to_owned(), 3000)].into(),
                ..pod("web-2")
            }),
            "3000 HTTP, 8080 HTTP>4143 | */*",
        ),
    ]);
}

#[test]
fn ours_is_made_of_what_holds_today() {
    let root = || sidecar("istio-system/default", 1, &hosts(&["istio-system/*", "./*"]));
    let home = || sidecar("shop/default", 5, &hosts(&["./*"]));
    let registry = json!({"egress": [{"hosts": ["./*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}});
    let other = || sidecar("shop/other", 1, &selecting(json!({"app": "other"})));
    check(vec![
        ("no Sidecar", Setup::http(), PLAIN),
        ("the namespace's", Setup::http().with(home()), "8080 HTTP>4143 | ./*"),
        ("the root namespace's", Setup::http().with(root()), "8080 HTTP>4143 | istio-system/* ./*"),
        ("both: the namespace's", Setup::http().with(root()).with(home()), "8080 HTTP>4143 | ./*"),
        ("one without egress", Setup::http().with(sidecar("shop/default", 1, &json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}}))), "8080 HTTP>4143 | */* | ALLOW_ANY"),
        ("REGISTRY_ONLY", Setup::http().with(sidecar("shop/default", 1, &registry)), "8080 HTTP>4143 | ./* | REGISTRY_ONLY"),
        ("nothing is reached", Setup::http().with(sidecar("shop/default", 1, &hosts(&["~/*"]))), "8080 HTTP>4143 | ~/*"),
        (
            "nothing is reached, but what we say",
            Setup::http().with(sidecar("shop/default", 1, &hosts(&["~/*"]))).hosts(&["tools/*"]),
            "8080 HTTP>4143 | tools/*",
        ),
        ("hosts of ours", Setup::http().with(home()).hosts(&["tools/*"]), "8080 HTTP>4143 | ./* tools/*"),
        ("hosts of ours, and all are reached", Setup::http().hosts(&["tools/*"]), PLAIN),
        (
            "two defaults: the older one",
            Setup::http().with(home()).with(sidecar("shop/a", 4, &hosts(&["a/*"]))),
            "8080 HTTP>4143 | a/*",
        ),
        (
            "two defaults of one second: by name",
            Setup::http().with(home()).with(sidecar("shop/a", 5, &hosts(&["a/*"]))),
            "8080 HTTP>4143 | a/*",
        ),
        ("one for another workload, and the root's", Setup::http().with(other()).with(root()), "8080 HTTP>4143 | istio-system/* ./*"),
        ("one of another namespace", Setup::http().with(sidecar("mall/default", 1, &hosts(&["mall/*"]))), PLAIN),
        ("one in the root namespace with a selector", Setup::http().with(sidecar("istio-system/web", 1, &selecting(json!({"app": "web"})))), PLAIN),
        ("an empty selector in the root namespace", Setup::http().with(sidecar("istio-system/all", 1, &json!({"workloadSelector": {}}))), PLAIN),
        (
            "one of another revision",
            Setup::http()
                .pod(|pod| pod.revision = Some("1-31".into()))
                .with(Sidecar { labels: map(&[("istio.io/rev", "canary")]), ..home() })
                .with(Sidecar { labels: map(&[("istio.io/rev", "1-31")]), ..sidecar("shop/new", 9, &hosts(&["new/*"])) }),
            "8080 HTTP>4143 | new/*",
        ),
        (
            "egress with ports",
            Setup::http().with(sidecar("shop/default", 1, &json!({"egress": [{"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["a/*"]}, {"hosts": ["b/*"]}]}))),
            "8080 HTTP>4143 | a/* b/*",
        ),
    ]);
}

#[test]
fn ports_that_a_base_lists_stay_as_it_says() {
    let base =
        |ingress: Value| sidecar("shop/default", 1, &json!({"ingress": ingress, "egress": [{"hosts": ["./*"]}]}));
    let port = |number: u16, protocol: &str| json!({"number": number, "protocol": protocol, "name": "x"});
    let served = || Setup::new([service("web", 1, &[("8080", "http"), ("9000", "tcp")])]);
    check(vec![
        (
            "listed, to itself",
            served().with(base(json!([{"port": port(8080, "GRPC"), "defaultEndpoint": "127.0.0.1:8080"}]))),
            "8080 GRPC>4143 | ./*",
        ),
        (
            "listed, without an endpoint",
            served().with(base(
                json!([{"port": port(8080, "HTTP")}, {"port": port(7000, "TCP"), "defaultEndpoint": "unix:///run/x"}]),
            )),
            "7000 TCP>unix:///run/x, 8080 HTTP>4143 | ./*",
        ),
        ("not listed", served().with(base(json!([{"port": port(9000, "TCP")}]))), "8080 ->4143, 9000 TCP | ./*"),
        (
            "listed, to somewhere else",
            served().with(base(json!([{"port": port(8080, "HTTP"), "defaultEndpoint": "127.0.0.1:9999"}]))),
            "SidecarEndpoint",
        ),
        (
            "Envoy listens itself",
            served().with(base(json!([{"port": port(8080, "HTTP"), "captureMode": "NONE"}]))),
            "SidecarListens",
        ),
    ]);
    let pools = json!({"egress": [{"hosts": ["./*"]}], "inboundConnectionPool": {"http": {"http1MaxPendingRequests": 7}}, "later": {"a": 1},
        "ingress": [{"port": {"number": 8080, "protocol": "HTTP", "name": "x"}, "tls": {"mode": "SIMPLE"}, "connectionPool": {"tcp": {}}}]});
    let setup = served().with(sidecar("shop/default", 1, &pools));
    let spec = Desired::of(&setup.0).sidecars.into_values().next().unwrap().spec.json();
    assert_eq!(spec["inboundConnectionPool"], pools["inboundConnectionPool"]);
    assert_eq!(spec["later"], pools["later"], "fields that are not known are kept");
    assert_eq!(spec["ingress"][0]["tls"], pools["ingress"][0]["tls"]);
    assert_eq!(spec["ingress"][0]["connectionPool"], pools["ingress"][0]["connectionPool"]);
}

#[test]
fn a_sidecar_that_a_user_made_for_the_pod_is_never_replaced() {
    let mine = |created| sidecar("shop/mine", created, &selecting(json!({"app": "web"})));
    let ours = || {
        let desired = Desired::of(&Setup::http().0).sidecars.into_values().next().unwrap();
        Sidecar { labels: desired.labels, ..sidecar("shop/nodetap-deployment-web", 5, &desired.spec.json()) }
    };
    check(vec![
        ("made before", Setup::http().with(mine(1)), CONFLICT),
        ("made after ours", Setup::http().with(ours()).with(mine(9)), CONFLICT),
        ("an empty selector", Setup::http().with(sidecar("shop/all", 9, &json!({"workloadSelector": {}}))), CONFLICT),
        (
            "an empty selector with labels",
            Setup::http().with(sidecar("shop/all", 9, &json!({"workloadSelector": {"labels": {}}}))),
            CONFLICT,
        ),
        (
            "two of them",
            Setup::http().with(mine(1)).with(sidecar("shop/too", 1, &selecting(json!({"app": "web"})))),
            CONFLICT,
        ),
        (
            "by a label of the node",
            Setup::http().with(sidecar("shop/n1", 9, &selecting(json!({"kubernetes.io/hostname": "n1"})))),
            CONFLICT,
        ),
        (
            "by a label of another node",
            Setup::http().with(sidecar("shop/n2", 9, &selecting(json!({"kubernetes.io/hostname": "n2"})))),
            PLAIN,
        ),
        (
            "by part of its labels only",
            Setup::http().with(sidecar("shop/x", 9, &selecting(json!({"app": "web", "v": "1"})))),
            PLAIN,
        ),
        (
            "by our label, and the pod has it",
            Setup::http()
                .pod(|pod| drop(pod.labels.insert(names::LABEL.into(), "deployment-web".into())))
                .with(sidecar("shop/x", 1, &selecting(json!({names::LABEL: "deployment-web"})))),
            CONFLICT,
        ),
        (
            "by our label, and the pod would get it",
            Setup::http().with(sidecar("shop/x", 1, &selecting(json!({names::LABEL: "deployment-web", "app": "web"})))),
            CONFLICT,
        ),
        (
            "by our label of another workload",
            Setup::http().with(sidecar("shop/x", 1, &selecting(json!({names::LABEL: "deployment-db"})))),
            PLAIN,
        ),
        (
            "one has the name of ours",
            Setup::http().with(sidecar("shop/nodetap-deployment-web", 1, &selecting(json!({"app": "other"})))),
            "SidecarNameTaken",
        ),
        (
            "a copy of ours under another name is somebody's",
            Setup::http().with(Sidecar {
                name: "copy".into(),
                spec: crate::mesh::sidecar::Spec::read(&json!({"workloadSelector": {}})).unwrap(),
                ..ours()
            }),
            CONFLICT,
        ),
        (
            "one that cannot be read",
            Setup::http().with(Sidecar { unreadable: Some("no".into()), ..sidecar("shop/default", 1, &json!({})) }),
            "SidecarUnreadable",
        ),
        (
            "egress that is no list",
            Setup::http().with(sidecar("shop/default", 1, &json!({"egress": "all"}))),
            "SidecarUnreadable",
        ),
    ]);
}

#[test]
fn a_pod_that_envoy_cannot_send_to_us_is_left_with_the_reason() {
    const EXCLUDE: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
    const INCLUDE: &str = "traffic.sidecar.istio.io/includeInboundPorts";
    const MODE: &str = "sidecar.istio.io/interceptionMode";
    const RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
    let two = || Setup::http().pod(|pod| pod.capture = verified(&[(8080, 4143), (9000, 4144)]));
    let with = |finding: &str| format!("{PLAIN} || {finding}");
    check(vec![
        ("no mesh", Setup::http().pod(|pod| pod.mesh = Mesh::None), ""),
        ("asks for nothing", Setup::http().pod(|pod| pod.capture = Capture::None), ""),
        ("ambient", Setup::http().pod(|pod| pod.mesh = Mesh::Ambient), "AmbientMesh"),
        ("a gateway", Setup::http().pod(|pod| pod.mesh = Mesh::Gateway), "MeshGateway"),
        ("TPROXY", Setup::http().annotated(MODE, "TPROXY"), "InterceptionMode"),
        ("NONE", Setup::http().annotated(MODE, "NONE"), "InterceptionMode"),
        ("REDIRECT", Setup::http().annotated(MODE, "REDIRECT"), PLAIN),
        ("its port is excluded", Setup::http().annotated(EXCLUDE, "9000, 8080"), "PortExcluded"),
        ("another port is excluded", Setup::http().annotated(EXCLUDE, "9000"), PLAIN),
        ("one of two is excluded", two().annotated(EXCLUDE, "9000"), &with("PortExcluded")),
        ("its port is not included", Setup::http().annotated(INCLUDE, "9000"), "PortExcluded"),
        ("no port is included", Setup::http().annotated(INCLUDE, ""), "PortExcluded"),
        ("all are included", Setup::http().annotated(INCLUDE, "*"), PLAIN),
        ("Istio's own port", Setup::http().pod(|pod| pod.capture = verified(&[(15021, 4143)])), "PortReserved"),
        ("IPv6 only", Setup::http().pod(|pod| pod.addresses = ["fd00::5".parse().unwrap()].into()), "IPv6Only"),
        (
            "dual stack",
            Setup::http().pod(|pod| pod.addresses.extend(["fd00::5".parse::<std::net::IpAddr>().unwrap()])),
            PLAIN,
        ),
        ("loopback is included", Setup::http().annotated(RANGES, "10.0.0.0/8,127.0.0.0/8"), &with("LoopbackIncluded")),
        (
            "a proxy with another user",
            Setup::http().pod(|pod| pod.proxy_user = Some(1_000_650_001)),
            &with("ProxyUser"),
        ),
        ("a native sidecar", Setup::http().pod(|pod| pod.mesh = Mesh::Sidecar { native: true }), &with("NativeProxy")),
        (
            "its agent is away",
            Setup::http().pod(|pod| pod.capture = Capture::Stale("its Lease is old".into())),
            "AgentAway",
        ),
        ("merbridge", Setup(Snapshot { merbridge: true, ..Setup::http().0 }), &with("Merbridge")),
    ]);
}

#[test]
fn one_object_serves_all_pods_of_a_workload_and_no_other() {
    let answers = |name: &str, pairs: &[(u16, u16)]| Pod { capture: verified(pairs), ..pod(name) };
    let labels =
        |setup: &Setup| Desired::of(&setup.0).labels.into_keys().map(|key| key.name).collect::<Vec<_>>().join(" ");
    let same = Setup::http().and(pod("web-2"));
    assert_eq!((outcome(&same).as_str(), labels(&same).as_str()), (PLAIN, "web-1 web-2"));
    // While a new version comes that listens on one port more, both are captured as far as they have it in common.
    let rolling = Setup::http().and(answers("web-2", &[(8080, 4143), (9000, 4144)]));
    assert_eq!((outcome(&rolling).as_str(), labels(&rolling).as_str()), (PLAIN, "web-1 web-2"));
    let odd = Setup::http().and(pod("web-2")).and(answers("web-0", &[(8080, 4144)]));
    assert_eq!((outcome(&odd), labels(&odd)), (format!("{PLAIN} || PortsDiffer"), "web-1 web-2".to_owned()));
    // What is in force stays when nothing speaks for the one or the other.
    let mut even = Setup::http().and(answers("web-0", &[(8080, 4144)]));
    assert_eq!(labels(&even), "web-1");
    let moved = Desired::of(&Setup::http().pod(|pod| pod.capture = verified(&[(8080, 4144)])).0);
    let ours = moved.sidecars.into_values().next().unwrap();
    even.0
        .sidecars
        .push(Sidecar { labels: ours.labels, ..sidecar("shop/nodetap-deployment-web", 5, &ours.spec.json()) });
    assert_eq!(labels(&even), "web-0");
    let mut job = pod("job");
    job.workload.name = "job".into();
    assert_eq!(outcome(&Setup::http().and(job)), format!("{PLAIN} || {PLAIN}"));
    let revision = |name: &str, revision: &str| Pod { revision: Some(revision.into()), ..pod(name) };
    let two = Setup::http()
        .pod(|pod| pod.revision = Some("a".into()))
        .and(revision("web-2", "a"))
        .and(revision("web-3", "b"));
    let two =
        two.with(Sidecar { labels: map(&[("istio.io/rev", "b")]), ..sidecar("shop/default", 1, &hosts(&["b/*"])) });
    assert_eq!((outcome(&two), labels(&two)), (format!("{PLAIN} || SidecarsDiffer"), "web-1 web-2".to_owned()));
    let many: Vec<(String, &str)> = (1..300).map(|port: u16| (port.to_string(), "tcp")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(port, protocol)| (port.as_str(), *protocol)).collect();
    assert_eq!(outcome(&Setup::new([service("web", 1, &many)])), "TooManyPorts");
}

#[test]
fn a_pod_that_is_not_ready_gets_no_label_and_keeps_the_one_it_has() {
    let unready = || Setup::http().pod(|pod| pod.ready = false);
    assert_eq!(outcome(&unready()), "");
    let labelled = unready().pod(|pod| drop(pod.labels.insert(names::LABEL.into(), "deployment-web".into())));
    assert_eq!(outcome(&labelled), PLAIN);
}
