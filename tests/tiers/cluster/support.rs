//! What the agent's tests have in common: servers and clients, and pods that ask for something.

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use nodetap_tests::cluster::inside::Inside;
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::process::Stream;
use nodetap_tests::wait::{DEADLINE, eventually};
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

/// A program in a container that answers each line with one.
#[derive(Debug)]
pub(crate) struct Asked {
    process: Inside,
    answers: usize,
}

impl Asked {
    /// `ready`: the line by which it says that it can be asked, if it does.
    pub(crate) fn start(pod: &BarePod<'_>, words: &[&str], ready: Option<&str>) -> Self {
        let process = pod.start("app", &traffic(words)).unwrap();
        if let Some(ready) = ready {
            process.line(Stream::Out, ready, |line| (line == ready).then_some(())).unwrap();
        }
        Self { process, answers: usize::from(ready.is_some()) }
    }

    pub(crate) fn answer(&mut self, question: &str) -> String {
        self.process.write(format!("{question}\n").as_bytes()).unwrap();
        self.answers += 1;
        let answered = eventually(Duration::from_secs(120), "an answer", || {
            let text = self.process.so_far(Stream::Out);
            text.rsplit_once('\n')?.0.lines().nth(self.answers - 1).map(str::to_owned)
        });
        answered.with_context(|| self.process.so_far(Stream::Err)).unwrap()
    }

    /// Ends its input; the last line that it prints.
    pub(crate) fn last(mut self) -> Value {
        let finished = self.process.finish_within(Duration::from_secs(60)).unwrap();
        let last = finished.text().lines().last().and_then(|line| serde_json::from_str(line).ok());
        last.with_context(|| format!("{} {}", finished.text(), finished.err)).unwrap()
    }
}

/// Clients in a container that make so many connections a second, each for one request.
#[derive(Debug)]
pub(crate) struct Load(Asked);

impl Load {
    pub(crate) fn start(pod: &BarePod<'_>, to: (&str, u16), rate: u32, proxy: Option<u16>) -> Self {
        let (to, rate) = (format!("{}:{}", to.0, to.1), rate.to_string());
        let proxy = proxy.map(|port| port.to_string());
        let words: Vec<&str> = ["load", &to, &rate].into_iter().chain(proxy.as_deref()).collect();
        Self(Asked::start(pod, &words, Some("loading")))
    }

    /// Waits until so many more attempts have ended.
    pub(crate) fn attempts(&mut self, more: u64) {
        let mut count = || self.0.answer("how many?").parse::<u64>().unwrap();
        let before = count();
        eventually(DEADLINE, "attempts of the load", || (count() >= before + more).then_some(())).unwrap();
    }

    /// How many attempts there were, and those that failed.
    pub(crate) fn stop(self) -> (u64, Vec<Failed>) {
        let told = self.0.last();
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

/// The program that makes traffic, of this package.
pub(crate) fn traffic(words: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_nodetap-traffic"));
    program.args(words);
    program
}

fn python(script: &str, arguments: &[&str]) -> Command {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", script]).args(arguments);
    python
}

/// A server in the container that costs little; it listens when this returns.
pub(crate) fn answering(pod: &BarePod<'_>) -> Inside {
    let server = pod.start("app", &traffic(&["serve", "8080"])).unwrap();
    server.line(Stream::Out, "that it listens", |line| (line == "listening").then_some(())).unwrap();
    server
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

/// The condition of ours.
pub(crate) fn condition(pod: &BarePod<'_>) -> Option<Value> {
    let conditions = pod.object().ok()?["status"]["conditions"].as_array()?.clone();
    conditions.into_iter().find(|one| one["type"] == "nodetap.io/Capturing")
}

/// The records of a pod.
pub(crate) fn of_pod<'a>(records: &'a [Value], name: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["target"]["name"] == name).collect()
}
