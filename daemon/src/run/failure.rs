//! Why capture could not begin: one line that says what was tried, and what to do; and an exit code.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::{capture, cgroup, child, probes, telemetry, trust};

/// EX_NOPERM of sysexits(3): this machine or this user lacks something.
const LACKING: u8 = 77;
/// The command line is wrong.
const USAGE: u8 = 2;
/// Anything else.
const FAILED: u8 = 1;

const GRANT: &str = "run it with sudo, or grant it once: \
                     `sudo setcap cap_bpf,cap_perfmon,cap_net_admin+ep \"$(command -v nodetap)\"` and start it in a group of your own: `systemd-run --user --scope -p Delegate=yes nodetap run …`";

/// Everything that can stand in the way.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Identity(#[from] child::Error),
    #[error("{source}; {}", advice(.source.is_permission()))]
    Cgroup {
        #[from]
        source: cgroup::Error,
    },
    #[error("{source}; {}", advice(.source.is_permission()))]
    Probes { source: probes::Error },
    #[error(transparent)]
    Trust(#[from] trust::options::Error),
    #[error("cannot listen on {address}: {source}; choose another port, or find who has it: `ss -ltnp`")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    #[error("cannot write to {path}: {source}; name another place")]
    Output { path: PathBuf, source: io::Error },
    #[error("{0}; choose another address for --metrics")]
    Metrics(#[from] telemetry::Error),
    #[error("cannot {what}: {source}")]
    Internal { what: &'static str, source: io::Error },
}

impl Failure {
    /// For errors that only a broken machine brings about.
    pub fn internal(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Internal { what, source }
    }

    /// 77: something is lacking; 2: wrong words; 1: the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Cgroup { .. } | Self::Probes { .. } => LACKING,
            Self::Usage(_) | Self::Identity(_) | Self::Trust(_) => USAGE,
            Self::Listen { .. } | Self::Metrics(_) | Self::Output { .. } | Self::Internal { .. } => FAILED,
        }
    }
}

impl From<capture::Error> for Failure {
    fn from(error: capture::Error) -> Self {
        match error {
            capture::Error::Probes(source) => Self::Probes { source },
            capture::Error::Io { what, source } => Self::Internal { what, source },
        }
    }
}

fn advice(is_permission: bool) -> &'static str {
    if is_permission { GRANT } else { "`nodetap doctor` checks this machine" }
}
