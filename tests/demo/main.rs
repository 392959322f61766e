//! `cargo xtask demo --cluster`, seen from inside: a cluster of real parts, nodetap deployed as a user would, two services
//! and a client, and what was captured of them, read back by nodetap's own commands through the API server.
#![allow(clippy::print_stdout, reason = "what a demo prints is what it is for")]

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nodetap_tests::cluster::node::Node;
use nodetap_tests::cluster::{Cluster, Reach, images};
use nodetap_tests::nodetap;
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::Value;

/// What the demo promises to capture at the least, of each direction.
const EXCHANGES: usize = 10;
/// The namespace of what is captured.
const SHOP: &str = "shop";
/// Asks the other service for each request that it is asked, and by itself twice a second.
const SERVICE: &str = r#"
import http.server, threading, time, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        stock = urllib.request.urlopen("http://stock/items" + self.path, timeout=5).read()
        body = b'{"shop": true, "stock": "' + stock.strip() + b'"}\n'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
def customer():
    for number in range(1_000_000):
        time.sleep(0.5)
        try:
            urllib.request.urlopen(f"http://web/orders/{number}", timeout=5).read()
        except OSError:
            pass
threading.Thread(target=customer, daemon=True).start()
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"#;

fn main() -> Result<()> {
    let keep = std::env::args().any(|argument| argument == "--keep");
    let image = nodetap::image().context("no image of nodetap: run `cargo xtask demo --cluster`")?;
    say("a cluster: etcd, API server, controllers, kube-proxy; a node: containerd, kubelet");
    let cluster = Cluster::up()?;
    let node = cluster.node()?;
    node.import_archive(&image)?;
    node.import(&images::nginx()?)?;
    node.import(&images::python("shop", SERVICE)?)?;
    deploy(&cluster, &node)?;
    services(&cluster, &node)?;
    shown(&cluster, keep)
}

/// nodetap, as a user would.
fn deploy(cluster: &Cluster, node: &Node<'_>) -> Result<()> {
    let folder = manifests()?;
    say(&format!("$ kubectl apply -k {}", folder.display()));
    print!("{}", cluster.kubectl(&["apply", "-k", &folder.display().to_string()])?);
    node.ready_of("nodetap", "nodetap-agent", 1)?;
    node.ready_of("nodetap", "nodetap-controller", 2)?;
    Ok(())
}

/// Two Deployments that know nothing of nodetap, then the annotation on their running pods.
fn services(cluster: &Cluster, node: &Node<'_>) -> Result<()> {
    cluster.kubectl(&["create", "namespace", SHOP])?;
    cluster.apply(&[deployment("stock", "nginx", 80), deployment("web", "shop", 8080)].join("---\n"))?;
    for app in ["stock", "web"] {
        node.ready_of(SHOP, app, 1)?;
    }
    let annotate = ["-n", SHOP, "annotate", "pods", "--all", "nodetap.io/inject=true"];
    say(&format!("$ kubectl {}", annotate.join(" ")));
    print!("{}", cluster.kubectl(&annotate)?);
    let path = format!("/api/v1/namespaces/{SHOP}/pods");
    eventually(DEADLINE, "captured pods", || {
        let pods = cluster.api("GET", &path, None).ok()?;
        pods["items"].as_array()?.iter().all(is_capturing).then_some(())
    })
    .with_context(|| cluster.kubectl(&["-n", SHOP, "describe", "pods"]).unwrap_or_default())
}

fn is_capturing(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "nodetap.io/Capturing" && one["status"] == "True"))
}

/// What was captured, as somebody sees it who has a kubeconfig and nothing else.
fn shown(cluster: &Cluster, keep: bool) -> Result<()> {
    let kubeconfig = cluster.kubeconfig_for("admin", Some("system:masters"), Reach::Outside)?;
    let from_afar = |arguments: &[&str]| -> Result<String> {
        let mut command = nodetap::command(arguments);
        let done = command.args(["-n", SHOP]).env("KUBECONFIG", &kubeconfig).output()?;
        ensure!(done.status.success(), "nodetap {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    };
    let of = |records: &[Value], direction: &str| {
        records.iter().filter(|one| one["kind"] == "exchange" && one["direction"] == direction).count()
    };
    let (inbound, outbound) = eventually(DEADLINE, "enough exchanges", || {
        let text = from_afar(&["ls", "-o", "json"]).ok()?;
        let records: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let counts = (of(&records, "inbound"), of(&records, "outbound"));
        (counts.0 >= EXCHANGES && counts.1 >= EXCHANGES).then_some(counts)
    })
    .with_context(|| from_afar(&["ls"]).unwrap_or_else(|error| format!("{error:#}")))?;
    say(&format!("$ nodetap ls -n {SHOP}"));
    print!("{}", from_afar(&["ls"])?);
    let pods = cluster.kubectl(&["-n", SHOP, "get", "pods"])?;
    say(&format!("{inbound} exchanges inbound, {outbound} outbound; no pod was restarted:"));
    print!("{pods}");
    if keep {
        say(&format!("export KUBECONFIG={}", kubeconfig.display()));
        println!("{} tail -n {SHOP}", nodetap::binary().display());
        println!("The cluster goes when this program's input ends (control-D).");
        // Whatever is typed is of no interest, nor why it ended.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
    }
    Ok(())
}

fn deployment(name: &str, image: &str, port: u16) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {SHOP}}}, spec: {{\
         selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, \
         spec: {{containers: [{{name: app, image: 'docker.io/local/{image}:1', ports: [{{containerPort: {port}}}], \
         readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}}}]}}}}}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {SHOP}}}, \
         spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: {port}}}]}}}}\n"
    )
}

/// `deploy/base` of this checkout.
fn manifests() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no folder above the tests")?;
    Ok(root.join("deploy/base"))
}

fn say(text: &str) {
    println!("\n{text}");
}
