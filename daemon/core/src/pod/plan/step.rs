//! One thing to do, small enough to fail by itself. `--dry-run` prints them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::pod::condition::{Condition, Event};
use crate::pod::config::Config;
use crate::pod::observed::{Listener, NamespaceId, Steering};

/// What is to be done for one pod. Steps of one plan are done in order; when one fails, [`Step::key`] is noted with the
/// reason ([`crate::pod::observed::Failure`]), the rest is left, and the next plan is made at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Begin to hold something in this network namespace.
    Enter(NamespaceId),
    /// Bind a listener to these addresses, serve it, and see that it answers. One that is open is bound to these besides;
    /// one that was closed is opened again, and recorded again.
    Listen { listener: Listener, app: Option<u16>, addresses: BTreeSet<IpAddr> },
    /// See that it answers.
    Verify(Listener),
    /// New connections go to this port of the application.
    Point { listener: Listener, app: Option<u16> },
    /// What passes is recorded again.
    Revive(Listener),
    /// Put the configuration in force, for new connections.
    Set(Box<Config>),
    /// Attach the programs to a container's control group.
    Attach { container: String, path: String },
    /// Take them away.
    Detach { container: String },
    /// Let the kernel steer these directions, and no other.
    Steer(Steering),
    /// Close idle connections that are older than steering.
    CloseOlder,
    /// Record nothing more of what passes; go on passing it.
    Retire(Listener),
    /// Accept nothing more; what is open goes on.
    Close(Listener),
    /// Close it and cut what is open.
    End(Listener),
    /// Let go of the network namespace and whatever is attached. No listener is left.
    Leave,
    /// Write the condition.
    Report(Condition),
    /// Tell about it.
    Say(Event),
}

impl Step {
    /// Under which name its failures are counted. A step that does something else has another one.
    pub fn key(&self) -> String {
        match self {
            Self::Enter(_) => "enter".into(),
            Self::Listen { listener, .. } => format!("listen: {listener}"),
            Self::Verify(listener) => format!("verify: {listener}"),
            Self::Point { listener, .. } => format!("point: {listener}"),
            Self::Revive(listener) => format!("revive: {listener}"),
            Self::Set(_) => "set".into(),
            Self::Attach { container, .. } => format!("attach: {container}"),
            Self::Detach { container } => format!("detach: {container}"),
            Self::Steer(_) => "steer".into(),
            Self::CloseOlder => "close older".into(),
            Self::Retire(listener) => format!("retire: {listener}"),
            Self::Close(listener) => format!("close: {listener}"),
            Self::End(listener) => format!("end: {listener}"),
            Self::Leave => "leave".into(),
            Self::Report(_) => "report".into(),
            Self::Say(_) => "say".into(),
        }
    }

    /// Does it change what is captured? The others only speak of it.
    pub fn is_work(&self) -> bool {
        !matches!(self, Self::Report(_) | Self::Say(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enter(NamespaceId { device, inode }) => write!(f, "enter network namespace {device}:{inode}"),
            Self::Listen { listener, app, addresses } => {
                write!(f, "open {listener}")?;
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                if !addresses.is_empty() {
                    write!(f, " on {}", addresses.join(", "))?;
                }
                app.map_or(Ok(()), |app| write!(f, ", leading to {app}"))
            }
            Self::Verify(listener) => write!(f, "see whether {listener} answers"),
            Self::Point { listener, app } => match app {
                Some(app) => write!(f, "let {listener} lead to {app}"),
                None => write!(f, "let {listener} lead where it is asked to"),
            },
            Self::Revive(listener) => write!(f, "record {listener} again"),
            Self::Set(config) => write!(f, "set {}", serde_json::to_string(config).unwrap_or_default()),
            Self::Attach { container, path } => write!(f, "attach to {container} at {path}"),
            Self::Detach { container } => write!(f, "detach from {container}"),
            Self::Steer(Steering { inbound, outbound }) => {
                let what = match (inbound, outbound) {
                    (true, true) => "inbound and outbound",
                    (true, false) => "inbound",
                    (false, true) => "outbound",
                    (false, false) => "nothing",
                };
                write!(f, "steer {what}")
            }
            Self::CloseOlder => f.write_str("close idle connections that are older"),
            Self::Retire(listener) => write!(f, "record nothing more of {listener}"),
            Self::Close(listener) => write!(f, "accept nothing more on {listener}"),
            Self::End(listener) => write!(f, "end {listener}"),
            Self::Leave => f.write_str("leave the network namespace"),
            Self::Report(condition) => {
                let Condition { status, reason, message } = condition;
                write!(f, "report {status}, {reason}: {message}")
            }
            Self::Say(Event { warning, reason, note }) => {
                write!(f, "say {} {reason}: {note}", if *warning { "Warning" } else { "Normal" })
            }
        }
    }
}
