//! What can be said of a pod in one word, and why.

use std::collections::BTreeSet;

use super::refusal::Refusal;

/// The state of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nobody asks for it, and nothing is left of an earlier capture.
    Off(Off),
    /// It is to be captured and cannot be yet: why.
    Pending(String),
    /// All that was asked for was verified.
    Capturing,
    /// Some of it does not work.
    Degraded(BTreeSet<String>),
    /// It asks for what cannot be: nothing is captured until somebody changes that.
    Refused(Vec<Refusal>),
    /// It is not captured any more, and connections that began before are let end.
    Draining(Off),
}

/// Why nothing is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    NotAsked,
    /// Somebody stopped all capture in the cluster.
    Paused,
    /// The pod's containers have ended for good, or it is deleted.
    Ended,
}

impl Off {
    fn reason(self) -> &'static str {
        match self {
            Self::NotAsked => "NotAsked",
            Self::Paused => "Paused",
            Self::Ended => "Ended",
        }
    }

    fn why(self) -> &'static str {
        match self {
            Self::NotAsked => "nothing asks for capture",
            Self::Paused => "all capture is paused: `nodetap resume` goes on",
            Self::Ended => "the pod has ended",
        }
    }
}

impl State {
    /// One word for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Off(off) => off.reason(),
            Self::Pending(_) => "Pending",
            Self::Capturing => "Capturing",
            Self::Degraded(_) => "Degraded",
            Self::Refused(refusals) => refusals.first().map_or("Refused", Refusal::reason),
            Self::Draining(_) => "Draining",
        }
    }

    /// One word for metrics: one of six.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Off(_) => "off",
            Self::Pending(_) => "pending",
            Self::Capturing => "capturing",
            Self::Degraded(_) => "degraded",
            Self::Refused(_) => "refused",
            Self::Draining(_) => "draining",
        }
    }

    pub(super) fn why(&self) -> BTreeSet<String> {
        match self {
            Self::Off(off) | Self::Draining(off) => BTreeSet::from([off.why().to_owned()]),
            Self::Pending(why) => BTreeSet::from([why.clone()]),
            Self::Capturing => BTreeSet::new(),
            Self::Degraded(why) => why.clone(),
            Self::Refused(refusals) => refusals.iter().map(ToString::to_string).collect(),
        }
    }
}
