//! Clients in a pod that connect again and again, and what became of each attempt.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::inside::Inside;
use super::pod::BarePod;
use crate::process::Stream;

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

/// What is begun so soon after something dies may still have been part of it.
const IN_FLIGHT: f64 = 0.05;

/// An attempt that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Seconds since 1970.
    pub begun: f64,
    /// The same.
    pub ended: f64,
    /// What the client says.
    pub why: String,
}

impl Failed {
    /// Was it under way when something died at this time?
    pub fn was_open_at(&self, died: f64) -> bool {
        self.begun <= died + IN_FLIGHT && self.ended >= died
    }
}

/// Clients in a container.
#[derive(Debug)]
pub struct Load(Inside);

impl Load {
    /// Starts `workers` of them; through a forward proxy of the pod's where its port is given.
    ///
    /// # Errors
    /// When they do not start.
    pub fn start(
        pod: &BarePod<'_>,
        container: &str,
        to: (&str, u16),
        workers: u32,
        proxy: Option<u16>,
    ) -> Result<Self> {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", LOAD, to.0, &to.1.to_string(), &workers.to_string()]);
        python.args(proxy.map(|port| port.to_string()));
        let load = pod.start(container, &python)?;
        load.line(Stream::Out, "that it loads", |line| (line == "loading").then_some(()))?;
        Ok(Self(load))
    }

    /// How many attempts there were, and those that failed.
    ///
    /// # Errors
    /// When they do not end, or do not say it.
    pub fn stop(mut self) -> Result<(u64, Vec<Failed>)> {
        let text = self.0.finish()?.text();
        let told: Value = serde_json::from_str(text.lines().last().context("nothing was told")?)?;
        let failed = told["failed"].as_array().context("no failures")?.iter().map(|one| {
            let why = one[2].as_str().context("no reason")?.to_owned();
            let time = |at: usize| one[at].as_f64().context("no time");
            Ok(Failed { begun: time(0)?, ended: time(1)?, why })
        });
        Ok((told["attempts"].as_u64().context("no attempts")?, failed.collect::<Result<_>>()?))
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
