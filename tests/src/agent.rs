//! `nodetap agent` on a cluster's machine, and what it says of itself.

use std::path::Path;
use std::process::Command;
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::host::ADDRESS;
use crate::cluster::inside::Inside;
use crate::cluster::pod::BarePod;
use crate::cluster::{Cluster, NODE};
use crate::folder::Folder;
use crate::process::{Stream, children};
use crate::wait::{DEADLINE, eventually};
use crate::{http, nodetap};

/// The first port of agents' metrics; each agent of a cluster has one of its own.
const METRICS: u16 = 19_464;

/// What an agent gives to what is open when it ends.
pub const GRACE: Duration = Duration::from_secs(5);

/// Where agents keep what outlives them.
const PINS: &str = "/sys/fs/bpf/nodetap";

/// A running agent.
#[derive(Debug)]
pub struct Agent<'a> {
    cluster: &'a Cluster,
    process: Inside,
    metrics: u16,
}

/// What agents of one node share. There is one of it at a time: bare pods of all tests stand on one node, and agents that
/// do not know of each other would each capture all of them.
#[derive(Debug)]
pub struct Node {
    /// Where their records lie.
    pub records: Folder,
    run: Folder,
    /// The namespace of nodetap itself, as the agents see it.
    namespace: &'static str,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Node {
    /// A node on which no agent has run yet; waits until the one before is gone.
    ///
    /// # Errors
    /// When its folders cannot be made.
    pub fn new() -> Result<Self> {
        // Whoever panicked has left nothing that the next one could find.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Self { records: Folder::new()?, run: Folder::new()?, namespace: "default", _alone: alone })
    }

    /// Its agents belong to an installation in this namespace.
    #[must_use]
    pub fn of(self, namespace: &'static str) -> Self {
        Self { namespace, ..self }
    }

    /// The command line of an agent.
    ///
    /// # Errors
    /// When a path is no text.
    pub fn command(&self, cluster: &Cluster, metrics: u16, more: &[&str]) -> Result<Command> {
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is no text");
        let mut command = nodetap::command(&["agent", "--node", NODE]);
        command.args(["--kubeconfig", &text(&cluster.kubeconfig())?, "--namespace", self.namespace]);
        command.args(["--out", &text(&self.records)?, "--run", &text(&self.run)?]);
        command.args(["--metrics", &format!("{ADDRESS}:{metrics}"), "--workers", "2"]);
        command.args(["--grace", &GRACE.as_secs().to_string()]);
        command.args(more);
        Ok(command)
    }
}

impl<'a> Agent<'a> {
    /// Starts one. `number` tells it from others of the same cluster.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(cluster: &'a Cluster, node: &Node, number: u16, more: &[&str]) -> Result<Self> {
        let metrics = METRICS + number;
        let process = cluster.start(&node.command(cluster, metrics, more)?)?;
        Ok(Self { cluster, process, metrics })
    }

    /// Starts one, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn ready(cluster: &'a Cluster, node: &Node, number: u16, more: &[&str]) -> Result<Self> {
        let agent = Self::start(cluster, node, number, more)?;
        agent.until_ready()?;
        Ok(agent)
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// With what it says and has logged, when it does not become ready.
    pub fn until_ready(&self) -> Result<()> {
        let ready = eventually(DEADLINE, "a ready agent", || self.page("/readyz").ok());
        ready.map(drop).with_context(|| format!("it said: {}", self.process.so_far(Stream::Err)))
    }

    /// A page of its admin server; an error unless the answer is 200.
    ///
    /// # Errors
    /// When it is not.
    pub fn page(&self, path: &str) -> Result<String> {
        let stream = self.cluster.host().dial(format!("{ADDRESS}:{}", self.metrics).parse()?)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(String::from_utf8(http::get_over(stream, path)?)?)
    }

    /// What it does for each pod.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn targets(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.page("/debug/targets")?)?)
    }

    /// The value of a line of its metrics, by its beginning.
    ///
    /// # Errors
    /// When there is none.
    pub fn metric(&self, line: &str) -> Result<f64> {
        let page = self.page("/metrics")?;
        let found = page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        found.with_context(|| format!("no {line} in {page}"))
    }

    /// Waits until the pod is in this state (`capturing`, `refused`, …).
    ///
    /// # Errors
    /// With what the agent says of it, when it is not.
    pub fn until(&self, pod: &BarePod<'_>, state: &str) -> Result<Value> {
        self.until_all(slice::from_ref(pod), state)?.pop().context("no pod")
    }

    /// As [`Agent::until`], for all of these pods with one look at a time.
    ///
    /// # Errors
    /// With what the agent says of them, when they are not.
    pub fn until_all(&self, pods: &[BarePod<'_>], state: &str) -> Result<Vec<Value>> {
        let mut last = Vec::new();
        let found = eventually(DEADLINE, "the state of pods", || {
            last = self.targets().ok()?;
            last.retain(|target| pods.iter().any(|pod| target["uid"] == pod.uid()));
            (last.len() == pods.len() && last.iter().all(|target| target["state"] == state)).then(|| last.clone())
        });
        found.with_context(|| {
            format!("{state}; at last: {}; it said: {}", Value::from(last), self.process.so_far(Stream::Err))
        })
    }

    /// The keeper's process id.
    pub fn keeper(&self) -> u32 {
        self.process.pid()
    }

    /// The worker's process id.
    ///
    /// # Errors
    /// When there is none.
    pub fn worker(&self) -> Result<u32> {
        children(self.process.pid()).first().copied().context("no worker")
    }

    /// Sends a signal to the keeper.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.so_far(Stream::Err)
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// When it does not, or not well.
    pub fn end(mut self) -> Result<String> {
        self.process.signal(Signal::TERM)?;
        let finished = self.process.finish()?;
        ensure!(finished.code() == 0, "it ended with {}: {}", finished.code(), finished.err);
        Ok(finished.err)
    }
}

/// The names of what agents keep on a cluster's machine that outlives them; they begin with a pod's uid.
pub fn pins(cluster: &Cluster) -> Vec<String> {
    let all = std::fs::read_dir(cluster.host().path(PINS)).into_iter().flatten().flatten();
    all.map(|one| one.file_name().to_string_lossy().into_owned()).collect()
}
