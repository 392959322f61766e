//! What can be said to `nodetap agent`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nodetap_core::size;

/// The option by which the keeper says that this is a worker of its own.
pub(super) const WORKER: &str = "--worker-of-keeper";

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    /// One JSON object a line
    Json,
}

/// `nodetap agent`.
#[derive(Debug, Clone, Args)]
pub struct Agent {
    /// The node whose pods are captured [default: $NODE_NAME]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// How to reach the API server [default: the pod's service account, else $KUBECONFIG]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Our own namespace [default: $POD_NAMESPACE, else the service account's]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Folder for the segments
    #[arg(long, value_name = "DIR", default_value = "/var/lib/nodetap")]
    pub out: PathBuf,
    /// Folder, in memory, where the agents of a node hand over to each other
    #[arg(long, value_name = "DIR", default_value = "/run/nodetap")]
    pub run: PathBuf,
    /// Folder on a BPF file system where what answers for pods under Istio while no agent runs is kept
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/nodetap")]
    pub pins: PathBuf,
    /// Take away everything that is kept there, and end
    #[arg(long)]
    pub unpin: bool,
    /// The node's /proc
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub proc: PathBuf,
    /// The node's cgroup v2 hierarchy [default: where it is mounted]
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Serve /metrics, /healthz, /readyz and /debug/targets at ADDR
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Serve records to the controller at ADDR, over mTLS
    #[arg(long, value_name = "ADDR")]
    pub query: Option<SocketAddr>,
    /// Seconds for what is open when the agent ends
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = seconds)]
    pub grace: Duration,
    /// Bytes kept of each body
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = size::parse)]
    pub max_body: u64,
    /// Bytes of all segments together; the oldest goes first, and is counted
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size::parse)]
    pub max_store: u64,
    /// Connections of one pod that pass through us at a time; more are reset, and counted
    #[arg(long, value_name = "N", default_value_t = 8192)]
    pub pod_connections: u64,
    /// Bytes of bodies and heads of one pod that wait for their records to be complete
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = size::parse)]
    pub pod_bytes: u64,
    /// Threads for traffic [default: one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: Option<u16>,
    /// How logs are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Say what would be done for each pod, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[arg(long = "worker-of-keeper", hide = true)]
    pub(super) worker: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "expected whole seconds".to_owned())
}

impl Agent {
    /// The node's name, from where it was said.
    pub(super) fn node(&self) -> Result<String, String> {
        let said = self.node.clone().or_else(|| std::env::var("NODE_NAME").ok());
        said.filter(|name| !name.is_empty()).ok_or_else(|| "name the node with --node or NODE_NAME".to_owned())
    }

    /// Our namespace, if it was said.
    pub(super) fn namespace(&self) -> Option<String> {
        self.namespace.clone().or_else(|| std::env::var("POD_NAMESPACE").ok()).filter(|name| !name.is_empty())
    }
}
