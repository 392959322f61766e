//! Why an agent could not begin: one line that says what was tried.

use std::io;
use std::path::PathBuf;

use crate::{capture, cluster, kubepods, netns, telemetry};

/// EX_NOPERM of sysexits(3): this machine or this user lacks something.
const LACKING: u8 = 77;
/// The command line is wrong.
const USAGE: u8 = 2;
/// Anything else.
const FAILED: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Privileges(String),
    #[error(transparent)]
    Cluster(#[from] cluster::client::Error),
    #[error("{0}; an agent needs the capabilities SYS_ADMIN, SYS_PTRACE and NET_ADMIN")]
    Hooks(#[from] capture::Error),
    #[error(transparent)]
    Cgroups(#[from] kubepods::Error),
    #[error("{0}; an agent needs the node's /proc (--proc) and the capability SYS_PTRACE")]
    Proc(#[from] netns::Error),
    #[error("{0}; choose another address for --metrics")]
    Metrics(#[from] telemetry::Error),
    #[error("cannot listen on {address}: {source}; choose another address for --query")]
    Query { address: std::net::SocketAddr, source: io::Error },
    #[error("cannot write to {path}: {source}; name another place with --out")]
    Output { path: PathBuf, source: io::Error },
    #[error("cannot {what}: {source}")]
    Internal { what: &'static str, source: io::Error },
}

impl Failure {
    /// For errors that only a broken machine brings about.
    pub(super) fn internal(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Internal { what, source }
    }

    /// 77: something is lacking; 2: wrong words; 1: the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Privileges(_) | Self::Hooks(_) | Self::Cgroups(_) | Self::Proc(_) => LACKING,
            Self::Usage(_) => USAGE,
            _ => FAILED,
        }
    }
}
