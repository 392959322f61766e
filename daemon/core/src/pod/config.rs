//! What a pod gets, once its annotations are read.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::keys::OWN;
use super::network::Network;
use super::value::Here;

/// The inbound listener of the first application port where nothing else is said.
pub const IN_PORT: u16 = 4143;
/// The outbound listener.
pub const OUT_PORT: u16 = 4140;

/// How traffic reaches the listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyType {
    /// The kernel steers it.
    Transparent,
    /// Inbound: callers use a port of ours.
    Reverse,
    /// Outbound: the application uses a port of ours.
    Forward,
    Dual,
}

impl ProxyType {
    /// Does the kernel steer?
    pub fn steers(self) -> bool {
        self == Self::Transparent
    }

    /// Is there a listener that callers of the application use?
    pub fn reverses(self) -> bool {
        matches!(self, Self::Reverse | Self::Dual)
    }

    /// Is there a listener that the application uses as its proxy?
    pub fn forwards(self) -> bool {
        matches!(self, Self::Forward | Self::Dual)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Transparent => "transparent",
            Self::Reverse => "reverse",
            Self::Forward => "forward",
            Self::Dual => "dual",
        }
    }
}

impl fmt::Display for ProxyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether peers are named by their address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    Smart,
    Standard,
    None,
}

/// A port of ours in the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenPort {
    pub port: u16,
    /// The annotation that names it: somebody counts on just this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

/// A key pair in a Secret of the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct KeyPair {
    pub secret: String,
    /// Keys in it.
    pub private: String,
    pub public: String,
}

/// What is left alone in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Ignore {
    /// Everybody (`*`).
    pub all: bool,
    pub networks: BTreeSet<Network>,
    /// Names, to be looked up again and again.
    pub hosts: BTreeSet<String>,
    pub ports: BTreeSet<u16>,
}

/// What a pod gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    pub proxy_type: ProxyType,
    /// The application's ports where they are said; else what it listens on. Transparent: only these are steered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
    #[serde(serialize_with = "as_text")]
    pub upstream: Here,
    /// Of the first application port; the next ones follow. Of no use where nothing is reversed.
    pub in_port: ListenPort,
    pub out_port: ListenPort,
    pub tls_out: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_in: Option<KeyPair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_mutual: Option<KeyPair>,
    /// Clients, and ports of the application.
    pub inbound: Ignore,
    /// Servers, and ports of servers.
    pub outbound: Ignore,
    pub ignore_loopback: bool,
    pub track_loopback: bool,
    pub capture_node_traffic: bool,
    pub host_resolution: Resolution,
    pub kube_api: bool,
    pub reset_older_connections: bool,
    /// Labels of the pod that its records carry.
    pub record_labels: BTreeSet<String>,
    /// Containers that are captured where they are said; else all but known proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<BTreeSet<String>>,
}

fn as_text<S: serde::Serializer>(here: &Here, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(here)
}

impl ListenPort {
    /// What names it, or could.
    pub fn key(&self, name: &str) -> String {
        self.said.clone().unwrap_or_else(|| format!("{OWN}{name}"))
    }
}
