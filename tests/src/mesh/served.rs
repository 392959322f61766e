//! A member of a mesh with a server that tells what it is asked with, a Service before it, and a client.

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::member::Member;
use super::{Mesh, Setup};
use crate::cluster::inside::Inside;
use crate::cluster::pod;
use crate::cluster::python::{ASK, python};
use crate::process::Stream;
use crate::wait::{DEADLINE, eventually};

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

/// A member with a server in its container `app`, and a Service of its name that sends it port 80.
#[derive(Debug)]
pub struct Served {
    server: Inside,
    /// Its pod and its Envoy.
    pub member: Member,
    /// The Service's address.
    pub address: String,
    /// The same, and whatever else it can be called at: in a mesh of both families the Service's IPv6 address, and that of
    /// a second Service that has no other. Only what comes by that is sure to be IPv6 all the way.
    pub addresses: Vec<String>,
}

impl Served {
    /// Makes it; its server listens when this returns.
    ///
    /// # Errors
    /// When a part of it is refused, or does not come up.
    pub fn new(mesh: &Mesh, namespace: &str, name: &str, annotations: &Value) -> Result<Self> {
        Self::set_up(mesh, Setup::default(), namespace, name, annotations)
    }

    /// As [`Served::new`], with what is chosen for the member.
    ///
    /// # Errors
    /// As [`Served::new`].
    pub fn set_up(mesh: &Mesh, setup: Setup, namespace: &str, name: &str, annotations: &Value) -> Result<Self> {
        let mut manifest = pod::manifest(namespace, name, &[("app", 8080)]);
        manifest["metadata"]["annotations"] = annotations.clone();
        let service = |called: &str, families: &[&str]| {
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": called},
                "spec": {
                    "selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
                    "ipFamilies": families,
                    "ipFamilyPolicy": if families.len() > 1 { "RequireDualStack" } else { "SingleStack" },
                },
            });
            let path = format!("/api/v1/namespaces/{namespace}/services");
            let service = mesh.cluster().api("POST", &path, Some(&service))?;
            let addresses = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
            anyhow::Ok(addresses.filter_map(|one| Some(one.as_str()?.to_owned())).collect::<Vec<_>>())
        };
        let addresses = if setup.dual_stack {
            [service(name, &["IPv4", "IPv6"])?, service(&format!("{name}-6"), &["IPv6"])?].concat()
        } else {
            service(name, &["IPv4"])?
        };
        let address = addresses.first().context("a Service without an address")?.clone();
        let member = mesh.member_as(setup, &manifest)?;
        let server = serve(&member)?;
        Ok(Self { server, member, address, addresses })
    }

    /// Its server dies, and another one begins in the same container.
    ///
    /// # Errors
    /// When it does not.
    pub fn restart(&mut self) -> Result<()> {
        self.server.signal(Signal::KILL)?;
        self.server = serve(&self.member)?;
        Ok(())
    }

    /// What a program in this pod is answered by another one's Service.
    ///
    /// # Errors
    /// With what it says when it is not.
    pub fn asks(&self, other: &Self, path: &str) -> Result<Value> {
        self.asks_at(&other.address, path)
    }

    /// The same of one of its addresses.
    ///
    /// # Errors
    /// As [`Self::asks`].
    pub fn asks_at(&self, address: &str, path: &str) -> Result<Value> {
        let said = self.says(&[&url(address, path)])?;
        serde_json::from_str(&said).context(said)
    }

    /// The same through a proxy in the pod.
    ///
    /// # Errors
    /// As [`Self::asks`].
    pub fn asks_through(&self, proxy: &str, other: &Self, path: &str) -> Result<Value> {
        let said = self.says(&[&url(&other.address, path), proxy])?;
        serde_json::from_str(&said).context(said)
    }

    fn says(&self, arguments: &[&str]) -> Result<String> {
        let done = self.member.pod().start("app", &python(ASK, arguments))?.finish()?;
        Ok(format!("{}{}", done.text().trim(), done.err))
    }

    /// Waits until this pod reaches the other through the mesh, at all of its addresses.
    ///
    /// # Errors
    /// With what was said last, when it does not.
    pub fn reaches(&self, other: &Self) -> Result<()> {
        let mut last = String::new();
        let found = eventually(DEADLINE, "a Service of the mesh", || {
            let reached = other.addresses.iter().all(|address| {
                last = self.says(&[&url(address, "/")]).unwrap_or_else(|error| format!("{error:#}"));
                let told: Value = serde_json::from_str(&last).unwrap_or_default();
                told["heads"]["x-forwarded-client-cert"].is_string()
            });
            reached.then_some(())
        });
        found.with_context(|| format!("at last: {last}"))
    }

    /// Does its Envoy call our listener in the place of the application?
    pub fn is_redirected(&self) -> bool {
        self.member.admin("/clusters").is_ok_and(|page| page.contains("inbound|8080||::127.0.0.1:4143::"))
    }
}

fn url(address: &str, path: &str) -> String {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("http://{host}{path}")
}

fn serve(member: &Member) -> Result<Inside> {
    let server = member.pod().start("app", &python(SERVE, &[]))?;
    server.line(Stream::Out, "that it listens", |line| (line == "listening").then_some(()))?;
    Ok(server)
}
