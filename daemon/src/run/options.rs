//! What can be said to `nodetap run` and `nodetap proxy`.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
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

/// `nodetap proxy`.
#[derive(Debug, Clone, Args)]
pub struct Proxy {
    #[command(flatten)]
    pub recording: Recording,
    /// Listen on ADDR and pass everything on to UPSTREAM; may be repeated
    #[arg(long, required = true, value_name = "ADDR=UPSTREAM", value_parser = reverse)]
    pub reverse: Vec<Reverse>,
    /// Pass on without recording
    #[arg(long)]
    pub no_record: bool,
}

/// A listener and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reverse {
    pub listen: SocketAddr,
    pub upstream: SocketAddr,
}

fn reverse(text: &str) -> Result<Reverse, String> {
    let (listen, upstream) =
        text.split_once('=').ok_or("expected ADDR=UPSTREAM, for example 127.0.0.1:4143=127.0.0.1:8080")?;
    Ok(Reverse { listen: resolve(listen)?, upstream: resolve(upstream)? })
}

/// `8080` and `:8080` mean this host, as for other tools.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix(':').unwrap_or(text);
    let text = match bare.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => text.to_owned(),
    };
    let mut found = text.to_socket_addrs().map_err(|error| format!("cannot resolve `{text}`: {error}"))?;
    found.next().ok_or_else(|| format!("`{text}` has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reverse_names_a_listener_and_an_upstream() {
        let expected = Reverse { listen: "127.0.0.1:4143".parse().unwrap(), upstream: "[::1]:8080".parse().unwrap() };
        assert_eq!(reverse("4143=[::1]:8080"), Ok(expected));
        assert_eq!(reverse(":4143=[::1]:8080"), Ok(expected));
        assert!(reverse("4143").is_err());
        assert!(reverse("4143=nowhere:x").is_err());
    }
}
