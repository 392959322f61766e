//! Why a pod is not captured as it asks, in words for whoever wrote the annotation: which key, what it says, where it
//! stands, and what would be accepted. Text of users is clipped and made safe here, once, so that it can go into
//! Events, conditions and terminals.

use std::borrow::Cow;
use std::fmt;

use super::value::Wrong;
use crate::text::{clip, one_line};

/// Characters of a user's text that are repeated to them.
const SHOWN: usize = 80;

/// Where an annotation stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// On the pod itself.
    Pod,
    /// On what owns it: `Deployment/web`.
    Workload(String),
    /// On its namespace.
    Namespace(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod => f.write_str("the pod"),
            Self::Workload(name) => f.write_str(&quoted(name)),
            Self::Namespace(name) => write!(f, "namespace {}", quoted(name)),
        }
    }
}

/// A value that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    /// As written, with its prefix.
    pub key: String,
    pub value: String,
    pub on: Source,
    pub wrong: Wrong,
    pub accepted: Cow<'static, str>,
}

impl std::error::Error for BadValue {}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong { entry, meant, too_much } = &self.wrong;
        write!(f, "{}: \"{}\" (on {})", self.key, quoted(&self.value), self.on)?;
        if let Some(entry) = entry {
            write!(f, ", entry \"{}\"", quoted(entry))?;
        }
        match too_much {
            Some(what) => write!(f, " is too much ({what})")?,
            None => f.write_str(" is not accepted")?,
        }
        write!(f, "; accepted: {}", self.accepted)?;
        meant.map_or(Ok(()), |meant| write!(f, "; did you mean \"{meant}\"?"))
    }
}

/// A reason to leave a pod alone that only its owner can remove.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Value(#[from] Box<BadValue>),
    #[error(
        "{} says \"{}\" and {} says \"{}\", both on {on}: remove one of them, or let them say the same",
        said[0].0, quoted(&said[0].1), said[1].0, quoted(&said[1].1)
    )]
    Prefixes {
        /// Names as written, and what each says.
        said: Box<[(String, String); 2]>,
        on: Source,
    },
    #[error("{key}: \"{}\" (on {on}) cannot be done: {why}", quoted(value))]
    Together { key: String, value: String, on: Source, why: String },
    /// What the controller wrote cannot be read.
    #[error("nodetap.io/resolved on the pod cannot be read ({0}); the controller writes it again when it is removed")]
    Resolved(String),
    #[error("the pod has hostNetwork: true, and the network of its node is not captured")]
    HostNetwork,
    #[error(
        "the pod's runtimeClassName is \"{}\": what runs in a sandbox has a network stack of its own, which cannot be \
         entered from its node", quoted(.0)
    )]
    Sandboxed(String),
    #[error("no container is left to capture: {0}")]
    NoContainer(String),
    #[error("{key}: port {port} is taken in the pod by {}; name another one", quoted(by))]
    PortTaken { key: String, port: u16, by: String },
    /// Two pods cannot be in one network namespace.
    #[error("another pod was found in the same network namespace: {0}")]
    SharedNetwork(String),
    #[error("this node captures {0} pods already, which is its limit")]
    NodeFull(usize),
}

impl Refusal {
    /// One word for conditions, Events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Value(_) => "InvalidAnnotation",
            Self::Prefixes { .. } => "ConflictingAnnotations",
            Self::Together { .. } => "ImpossibleAnnotation",
            Self::Resolved(_) => "UnreadableResolution",
            Self::HostNetwork => "HostNetwork",
            Self::Sandboxed(_) => "SandboxedRuntime",
            Self::NoContainer(_) => "NoContainer",
            Self::PortTaken { .. } => "PortTaken",
            Self::SharedNetwork(_) => "SharedNetwork",
            Self::NodeFull(_) => "NodeFull",
        }
    }

    /// Where that stands, as far as it is an annotation that is wrong.
    pub fn on(&self) -> Option<&Source> {
        match self {
            Self::Value(bad) => Some(&bad.on),
            Self::Prefixes { on, .. } | Self::Together { on, .. } => Some(on),
            _ => None,
        }
    }

    /// The annotation that it is about.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Together { key, .. } | Self::PortTaken { key, .. } => Some(key),
            Self::Value(bad) => Some(&bad.key),
            Self::Prefixes { said, .. } => Some(&said[0].0),
            Self::Resolved(_) => Some(super::keys::RESOLVED),
            Self::HostNetwork
            | Self::Sandboxed(_)
            | Self::NoContainer(_)
            | Self::SharedNetwork(_)
            | Self::NodeFull(_) => None,
        }
    }
}

/// Something to say that keeps nobody from being captured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    /// Under one of our prefixes: a slip of the hand that would otherwise go unseen.
    #[error("{} (on {on}) is no annotation of nodetap{}", quoted(key), meaning_of(meant.as_deref()))]
    Unknown { key: String, on: Source, meant: Option<String> },
    /// More unknown keys than are worth naming.
    #[error("{0} more annotations with nodetap's prefixes are not known")]
    MoreUnknown(usize),
    #[error("{key} (on {on}) does nothing here: {why}")]
    Ignored { key: String, on: Source, why: Cow<'static, str> },
    #[error("nodetap.io/resolved is written by the controller, on pods only; on {0} it does nothing")]
    ResolvedElsewhere(Source),
}

impl Remark {
    /// Is it worth an Event of its own?
    pub fn is_warning(&self) -> bool {
        !matches!(self, Self::Ignored { .. })
    }

    /// Where that stands.
    pub fn on(&self) -> Option<&Source> {
        match self {
            Self::Unknown { on, .. } | Self::Ignored { on, .. } | Self::ResolvedElsewhere(on) => Some(on),
            Self::MoreUnknown(_) => None,
        }
    }

    /// The annotation that it is about.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Unknown { key, .. } | Self::Ignored { key, .. } => Some(key),
            Self::ResolvedElsewhere(_) => Some(super::keys::RESOLVED),
            Self::MoreUnknown(_) => None,
        }
    }
}

/// A user's text, clipped, on one line, with nothing in it that a terminal obeys.
pub(super) fn quoted(text: &str) -> String {
    clip(&one_line(text), SHOWN).into_owned()
}

fn meaning_of(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}
