//! What `nodetap controller` is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Serve the cluster's API, and put what workloads say on their pods
#[derive(Debug, Clone, Args)]
pub struct Controller {
    /// Our own namespace [default: $POD_NAMESPACE, else the service account's]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Tells this replica from others [default: $POD_NAME, else the host's name]
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// The Service that the API server reaches us by
    #[arg(long, value_name = "NAME", default_value = "nodetap-controller")]
    pub service: String,
    /// Where the API server reaches us
    #[arg(long, value_name = "ADDR", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Istio's root namespace
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    pub istio_root_namespace: String,
    /// A host that captured pods are to reach besides what they reach today, as Sidecars write it (`tools/*`); may be
    /// repeated
    #[arg(long, value_name = "NAMESPACE/HOST", value_parser = host)]
    pub egress_host: Vec<String>,
    /// Write nothing: print the Sidecars that would be written, and why others would not, and end
    #[arg(long)]
    pub dry_run: bool,
    /// Take away everything of ours that stands on objects that are not ours, let the agents end, and end; with
    /// `--dry-run`: print what that would be. See `deploy/uninstall`
    #[arg(long)]
    pub uninstall: bool,
    /// Seconds that agents serve on after the last pod was told otherwise: Envoy ends what is older than 45 s
    #[arg(long, value_name = "SECONDS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub drain: u64,
    /// How `--dry-run` prints
    #[arg(short, long, value_enum, default_value = "yaml")]
    pub output: Output,
    /// Serve /metrics at ADDR
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// A kubeconfig [default: the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// How a dry run prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Yaml,
    Json,
}

/// A host as Sidecars name it. What takes hosts away (`~`) is nobody's to say here.
fn host(text: &str) -> Result<String, String> {
    let fits = |part: &str| !part.is_empty() && part.len() <= 253 && !part.contains(['/', '~', ' ']);
    match text.split_once('/') {
        Some((namespace, host)) if fits(namespace) && fits(host) => Ok(text.to_owned()),
        _ => Err("expected NAMESPACE/HOST, as in tools/* or tools/api.tools.svc.cluster.local".into()),
    }
}
