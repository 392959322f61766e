//! What the tests of the mesh have in common: a server that tells what it is asked with, a client, and Services.

use nodetap_tests::cluster::inside::Inside;
use nodetap_tests::cluster::pod;
use nodetap_tests::cluster::python::{ASK, python};
use nodetap_tests::mesh::Mesh;
use nodetap_tests::mesh::member::Member;
use nodetap_tests::process::Stream;
use nodetap_tests::wait::{DEADLINE, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Answers every request on 8080 with the address that it comes from and the heads that it has, as JSON.
const SERVE: &str = "import http.server, json, socket\n\
    class Server(http.server.ThreadingHTTPServer):\n    address_family = socket.AF_INET6\n    request_queue_size = 512\n\
    class Handler(http.server.BaseHTTPRequestHandler):\n    \
        protocol_version = 'HTTP/1.1'\n    \
        def do_GET(self):\n        \
            heads = {name.lower(): value for name, value in self.headers.items()}\n        \
            body = json.dumps({'client': self.client_address[0], 'heads': heads}).encode()\n        \
            self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n        \
            self.wfile.write(body)\n    \
        def log_message(self, *_):\n        pass\n\
    server = Server(('::', 8080), Handler)\n\
    print('listening', flush=True)\nserver.serve_forever()\n";

/// The program that makes traffic.
pub(crate) const TRAFFIC: &str = env!("CARGO_BIN_EXE_nodetap-traffic");

/// A member with a server in its container `app`, and a Service of its name that sends it port 80.
#[derive(Debug)]
pub(crate) struct Served {
    server: Inside,
    pub(crate) member: Member,
    /// The Service's address.
    pub(crate) address: String,
}

impl Served {
    pub(crate) fn new(mesh: &Mesh, namespace: &str, name: &str, annotations: &Value) -> Self {
        let mut manifest = pod::manifest(namespace, name, &[("app", 8080)]);
        manifest["metadata"]["annotations"] = annotations.clone();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        });
        let path = format!("/api/v1/namespaces/{namespace}/services");
        let service = mesh.cluster().api("POST", &path, Some(&service)).unwrap();
        let address = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
        let member = mesh.member(&manifest).unwrap();
        let server = serve(&member);
        Self { server, member, address }
    }

    /// Its server dies, and another one begins in the same container.
    pub(crate) fn restart(&mut self) {
        self.server.signal(Signal::KILL).unwrap();
        self.server = serve(&self.member);
    }

    /// What a program in this pod is answered by another one's Service.
    pub(crate) fn asks(&self, other: &Self, path: &str) -> Value {
        let said = self.tries(other, path);
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"))
    }

    /// The same through a proxy in the pod.
    pub(crate) fn asks_through(&self, proxy: &str, other: &Self, path: &str) -> Value {
        let said = self.says(&[&other.url(path), proxy]);
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"))
    }

    fn tries(&self, other: &Self, path: &str) -> String {
        self.says(&[&other.url(path)])
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn says(&self, arguments: &[&str]) -> String {
        let done = self.member.pod().start("app", &python(ASK, arguments)).unwrap().finish().unwrap();
        format!("{}{}", done.text().trim(), done.err)
    }

    /// Waits until this pod reaches the other through the mesh.
    pub(crate) fn reaches(&self, other: &Self) {
        let mut last = String::new();
        let found = eventually(DEADLINE, "a Service of the mesh", || {
            last = self.tries(other, "/");
            let told: Value = serde_json::from_str(&last).ok()?;
            told["heads"]["x-forwarded-client-cert"].is_string().then_some(())
        });
        found.unwrap_or_else(|error| panic!("{error}; at last: {last}"));
    }
}

fn serve(member: &Member) -> Inside {
    let server = member.pod().start("app", &python(SERVE, &[])).unwrap();
    server.line(Stream::Out, "that it listens", |line| (line == "listening").then_some(())).unwrap();
    server
}

/// What was said to be asked for, whatever the request's own id is.
pub(crate) fn without_ids(mut told: Value) -> Value {
    if let Some(heads) = told["heads"].as_object_mut() {
        heads.retain(|name, _| {
            !["x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid"].contains(&name.as_str())
        });
    }
    told
}
