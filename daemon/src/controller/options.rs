//! What `nodetap controller` is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

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
    /// Serve /metrics at ADDR
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// A kubeconfig [default: the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}
