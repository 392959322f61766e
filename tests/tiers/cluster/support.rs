//! What the agent's tests have in common: a server and a client in Python, and pods that ask for something.

use std::process::Command;

use nodetap_tests::cluster::inside::Inside;
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::process::Stream;
use serde_json::Value;

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

/// Asks a URL through the proxy that is named second, or through none, and prints what it was told.
const ASK: &str = "import sys, urllib.request\n\
    proxies = {'http': sys.argv[2]} if len(sys.argv) > 2 else {}\n\
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))\n\
    print(opener.open(sys.argv[1], timeout=10).read().decode())\n";

/// Connects again and again to the address and port that are named first, `workers` at a time, each time for one request;
/// through a forward proxy on 127.0.0.1 when its port is named fourth. When its input ends, it prints how many attempts
/// there were, and of each that failed when it began (seconds since 1970) and why.
const LOAD: &str = "import json, socket, sys, threading, time\n\
    host, port, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n\
    proxy = int(sys.argv[4]) if len(sys.argv) > 4 else 0\n\
    stop, failed, counts = threading.Event(), [], [0] * workers\n\
    def attempt():\n    \
        with socket.create_connection(('127.0.0.1', proxy) if proxy else (host, port), timeout=10) as s:\n        \
            target = f'http://{host}:{port}/' if proxy else '/'\n        \
            s.sendall(f'GET {target} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\nConnection: close\\r\\n\\r\\n'.encode())\n        \
            answer = b''\n        \
            while True:\n            \
                part = s.recv(4096)\n            \
                if not part: break\n            \
                answer += part\n        \
            if not answer.startswith(b'HTTP/1.1 200'): raise OSError(f'answered {answer[:60]!r}')\n\
    def work(n):\n    \
        while not stop.is_set():\n        \
            begun = time.time()\n        \
            try: attempt()\n        \
            except Exception as error: failed.append((begun, time.time(), repr(error)))\n        \
            counts[n] += 1\n        \
            time.sleep(0.01)\n\
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(workers)]\n\
    [t.start() for t in threads]\n\
    print('loading', flush=True)\n\
    sys.stdin.read()\n\
    stop.set()\n\
    [t.join(15) for t in threads]\n\
    print(json.dumps({'attempts': sum(counts), 'failed': failed}), flush=True)\n";

/// An attempt of a load that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    /// Seconds since 1970.
    pub begun: f64,
    pub ended: f64,
    #[allow(dead_code, reason = "printed where something failed that should not have")]
    pub why: String,
}

impl Failed {
    /// Was it under way when something died at this time?
    pub(crate) fn was_open_at(&self, died: f64) -> bool {
        self.begun <= died + IN_FLIGHT && self.ended >= died
    }
}

/// What is begun so soon after something dies may still have been part of it.
const IN_FLIGHT: f64 = 0.05;

/// Clients in a container that connect again and again.
#[derive(Debug)]
pub(crate) struct Load(Inside);

impl Load {
    pub(crate) fn start(pod: &BarePod<'_>, container: &str, to: (&str, u16), workers: u32, proxy: Option<u16>) -> Self {
        let numbers = [to.1.to_string(), workers.to_string()];
        let mut arguments = vec![to.0, &numbers[0], &numbers[1]];
        let proxy = proxy.map(|port| port.to_string());
        arguments.extend(proxy.as_deref());
        let load = pod.start(container, &python(LOAD, &arguments)).unwrap();
        load.line(Stream::Out, "that it loads", |line| (line == "loading").then_some(())).unwrap();
        Self(load)
    }

    /// How many attempts there were, and those that failed.
    pub(crate) fn stop(mut self) -> (u64, Vec<Failed>) {
        let text = self.0.finish().unwrap().text();
        let told: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let failed = told["failed"].as_array().unwrap().iter().map(|one| Failed {
            begun: one[0].as_f64().unwrap(),
            ended: one[1].as_f64().unwrap(),
            why: one[2].as_str().unwrap().to_owned(),
        });
        (told["attempts"].as_u64().unwrap(), failed.collect())
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

fn python(script: &str, arguments: &[&str]) -> Command {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", script]).args(arguments);
    python
}

/// A server in the container; it listens when this returns.
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

/// The condition of ours.
pub(crate) fn condition(pod: &BarePod<'_>) -> Option<Value> {
    let conditions = pod.object().ok()?["status"]["conditions"].as_array()?.clone();
    conditions.into_iter().find(|one| one["type"] == "nodetap.io/Capturing")
}

/// The records of a pod.
pub(crate) fn of_pod<'a>(records: &'a [Value], name: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["target"]["name"] == name).collect()
}
