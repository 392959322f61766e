//! What can be said to `nodetap run`, and how recording goes for everyone who records.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use nodetap_core::size;

use crate::trust;

/// How recording goes, whoever captures.
#[derive(Debug, Clone, Args)]
pub struct Recording {
    /// Folder for the segments [default: $XDG_STATE_HOME/nodetap/<ULID>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write a HAR file at the end
    #[arg(long, value_name = "FILE")]
    pub har: Option<PathBuf>,
    /// Write each record as a JSON line while it happens
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print a line for each message of WebSockets, gRPC calls and endless bodies too
    #[arg(long, conflicts_with = "quiet")]
    pub messages: bool,
    /// Print no line for each exchange, and no summary
    #[arg(long, short)]
    pub quiet: bool,
    /// Bytes kept of each body
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = size::parse)]
    pub max_body: u64,
    /// Bytes of all segments together; the oldest goes first, and is counted
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size::parse)]
    pub max_store: u64,
    /// Serve numbers for Prometheus at http://ADDR/metrics
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Threads for traffic [default: one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: Option<u16>,
}

/// `nodetap run`.
#[derive(Debug, Clone, Args)]
pub struct Run {
    #[command(flatten)]
    pub recording: Recording,
    #[command(flatten)]
    pub tls: trust::Options,
    /// Leave connections that arrive at the command alone
    #[arg(long)]
    pub no_inbound: bool,
    /// Leave connections that the command opens alone
    #[arg(long)]
    pub no_outbound: bool,
    /// Leave this name, address or network (CIDR) alone, in both directions; may be repeated
    #[arg(long, value_name = "HOST")]
    pub ignore_host: Vec<String>,
    /// Leave this port alone, in both directions; may be repeated
    #[arg(long, value_name = "PORT")]
    pub ignore_port: Vec<u16>,
    /// Run the command as this user [default: who called sudo]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Load this kernel object instead of the embedded one (`cargo xtask ebpf --log` makes one that logs)
    #[arg(long, value_name = "FILE", hide = true)]
    pub kernel_object: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
