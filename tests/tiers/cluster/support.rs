//! What the agent's tests have in common: servers and clients, and pods that ask for something.

use nodetap_tests::cluster::inside::Inside;
use nodetap_tests::cluster::load::traffic;
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::cluster::python::{ASK, python};
use nodetap_tests::process::Stream;
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::Value;

/// The program that makes traffic.
pub(crate) const TRAFFIC: &str = env!("CARGO_BIN_EXE_nodetap-traffic");

/// Answers every request on 8080 (IPv4 and IPv6) with the client's address.
const SERVE: &str = "import http.server, socket\n\
    class Server(http.server.ThreadingHTTPServer):\n    address_family = socket.AF_INET6\n    request_queue_size = 512\n\
    class Handler(http.server.BaseHTTPRequestHandler):\n    \
        protocol_version = 'HTTP/1.1'\n    \
        def do_GET(self):\n        \
            body = self.client_address[0].encode()\n        \
            self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n        \
            self.wfile.write(body)\n    \
        def log_message(self, *_):\n        pass\n\
    server = Server(('::', 8080), Handler)\n\
    print('listening', flush=True)\nserver.serve_forever()\n";

/// A server in the container that costs little; it listens when this returns.
pub(crate) fn answering(pod: &BarePod<'_>) -> Inside {
    let server = pod.start("app", &traffic(TRAFFIC, &["serve", "8080"])).unwrap();
    server.line(Stream::Out, "that it listens", |line| (line == "listening").then_some(())).unwrap();
    server
}

/// As [`answering`], for many pods at once.
pub(crate) fn all_answering(pods: &[BarePod<'_>]) -> Inside {
    let servers = BarePod::start_in_all(pods, "app", &traffic(TRAFFIC, &["serve", "8080"])).unwrap();
    let listening = || servers.so_far(Stream::Out).lines().filter(|line| *line == "listening").count();
    eventually(DEADLINE, "that all listen", || (listening() == pods.len()).then_some(())).unwrap();
    servers
}

/// A server in the container that says who asks; it listens when this returns.
pub(crate) fn serving(pod: &BarePod<'_>, container: &str) -> Inside {
    let server = pod.start(container, &python(SERVE, &[])).unwrap();
    server.line(Stream::Out, "that it listens", |line| (line == "listening").then_some(())).unwrap();
    server
}

/// What a program in the container is answered.
pub(crate) fn asks(pod: &BarePod<'_>, container: &str, url: &str) -> String {
    pod.start(container, &python(ASK, &[url])).unwrap().finish().unwrap().text().trim().to_owned()
}

/// The same through a proxy.
pub(crate) fn asks_through(pod: &BarePod<'_>, container: &str, url: &str, proxy: &str) -> String {
    pod.start(container, &python(ASK, &[url, proxy])).unwrap().finish().unwrap().text().trim().to_owned()
}

/// A manifest with annotations.
pub(crate) fn annotated(namespace: &str, name: &str, annotations: &Value) -> Value {
    let mut manifest = pod::manifest(namespace, name, &[("app", 8080)]);
    manifest["metadata"]["annotations"] = annotations.clone();
    manifest
}

/// The records of a pod.
pub(crate) fn of_pod<'a>(records: &'a [Value], name: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["target"]["name"] == name).collect()
}
