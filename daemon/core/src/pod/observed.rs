//! What is, on this node, for one pod: what was found of it, and what we hold of it. Adapters fill it in; nothing here is
//! a wish.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::condition::{Condition, Event};
use super::config::Config;

/// Milliseconds on a clock that never goes back.
pub type Millis = u64;

/// A network namespace, as the file system tells it apart from all others that exist at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId {
    pub device: u64,
    pub inode: u64,
}

/// Everything about one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    pub place: Place,
    /// Control groups of its containers, by the container's id, with their paths.
    pub cgroups: BTreeMap<String, String>,
    /// Listening sockets in its network namespace that are not ours.
    pub listening: BTreeSet<Listening>,
    /// What we hold, of this namespace or one before it.
    pub held: Option<Held>,
    /// Steps that failed and are not tried again yet, or were tried again without success.
    pub failures: BTreeMap<String, Failure>,
    /// What does not work for another reason, one sentence each (a Secret that cannot be read, …).
    pub problems: BTreeSet<String>,
    /// The condition as it was last written.
    pub reported: Option<Condition>,
    /// Events that were said.
    pub said: BTreeSet<Event>,
}

/// Where the pod's network is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Place {
    /// Nobody has looked yet, or it is being made.
    #[default]
    Unknown,
    /// It was looked for and not found, or it did not pass the checks: why.
    Missing(String),
    Found(Namespace),
    /// It is no more.
    Gone,
}

/// A network namespace that was found and whose addresses are the pod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespace {
    pub id: NamespaceId,
    /// There is `::1`.
    pub ipv6: bool,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listening {
    pub address: IpAddr,
    pub port: u16,
    /// Of the container whose control group its process is in, where that is known.
    pub container: Option<String>,
}

/// Which listener of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listener {
    /// Where the kernel steers to: any free ports of the loopback addresses.
    Steered,
    /// Callers use it in the place of a port of the application.
    Reverse { port: u16 },
    /// The application uses it as its proxy.
    Forward { port: u16 },
}

impl Listener {
    /// The port by which others know it.
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Steered => None,
            Self::Reverse { port } | Self::Forward { port } => Some(port),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steered => f.write_str("the steered listeners"),
            Self::Reverse { port } => write!(f, "inbound port {port}"),
            Self::Forward { port } => write!(f, "outbound port {port}"),
        }
    }
}

/// What we hold of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// In which namespace it is.
    pub namespace: NamespaceId,
    pub listeners: BTreeMap<Listener, Open>,
    /// Ids of the containers whose control groups our programs are attached to.
    pub attached: BTreeSet<String>,
    /// What is in force of the configuration.
    pub config: Option<Box<Config>>,
    pub steering: Steering,
    /// Older connections were closed, as was asked, since steering began.
    pub older_closed: bool,
}

/// A listener that is open, or whose connections are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Open {
    /// Those that it is bound to; of the steered ones none are told.
    pub addresses: BTreeSet<IpAddr>,
    /// The application's port to which it leads.
    pub app: Option<u16>,
    /// It answered when it was last asked.
    pub verified: bool,
    /// It is not wanted any more, since then: what passes is not recorded.
    pub retired: Option<Millis>,
    /// It accepts nothing more.
    pub closed: bool,
    /// Open connections.
    pub connections: u64,
}

/// Which directions the kernel steers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steering {
    pub inbound: bool,
    pub outbound: bool,
}

impl Steering {
    pub fn any(self) -> bool {
        self.inbound || self.outbound
    }
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub why: String,
    /// Times in a row.
    pub times: u32,
    /// Not to be tried again before.
    pub until: Millis,
}

/// The first wait after a failure, and the longest.
const WAIT: Millis = 250;
const LONGEST_WAIT: Millis = 30_000;

impl Failure {
    /// The step failed (again).
    pub fn next(before: Option<&Self>, why: impl Into<String>, now: Millis) -> Self {
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        let wait = WAIT.checked_shl(times - 1).filter(|wait| *wait <= LONGEST_WAIT).unwrap_or(LONGEST_WAIT);
        Self { why: why.into(), times, until: now.saturating_add(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_again_and_again_is_tried_less_and_less() {
        let mut failure = None;
        let mut waits = Vec::new();
        for _ in 0..40 {
            let next = Failure::next(failure.as_ref(), "no", 1000);
            waits.push(next.until - 1000);
            failure = Some(next);
        }
        assert_eq!(waits[..9], [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(waits[39], 30_000);
    }
}
