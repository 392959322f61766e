//! How it is said what becomes of a pod: its condition `nodetap.io/Capturing`, whose message is JSON for whoever reads on,
//! and Events for `kubectl describe`. What is written is what was just verified, never what an annotation wishes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::state::State;

/// The condition's type.
pub const TYPE: &str = "nodetap.io/Capturing";
/// What a listener is for that stands for a port of the application.
pub(super) const INBOUND: &str = "inbound";
/// Bytes that its message may have: sentences that do not fit are counted.
const LONGEST: usize = 4096;
/// Sentences of one kind, at most.
const SENTENCES: usize = 16;

/// A pod's condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Is anything captured?
    pub status: bool,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// A [`Message`].
    pub message: String,
}

/// Something to tell about a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    pub warning: bool,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// One or two sentences.
    pub note: String,
}

/// What the condition's message is; empty parts are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Message {
    /// `transparent`, `reverse`, `forward`, `dual`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    /// Those that answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Listens>,
    /// Ports of the application that are captured inbound.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Containers that are captured.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub containers: BTreeSet<String>,
    /// Why it is not, or not wholly, captured.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub why: BTreeSet<String>,
    /// What else a user may want to know.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub notes: BTreeSet<String>,
    /// Sentences that were left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
}

/// A listener that answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Listens {
    pub r#for: &'static str,
    /// Of the steered ones none is told: nobody calls them by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The application's port behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<u16>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub addresses: BTreeSet<IpAddr>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Condition {
    /// What is to be written in this state.
    pub fn of(state: &State, mut message: Message) -> Self {
        message.why = state.why();
        let status = match state {
            State::Capturing => true,
            State::Degraded(_) => !message.listeners.is_empty(),
            _ => false,
        };
        if !status && !matches!(state, State::Degraded(_)) {
            (message.ports, message.containers) = (Vec::new(), BTreeSet::new());
        }
        Self { status, reason: state.reason(), message: message.fit() }
    }
}

impl Message {
    /// As JSON, with as many sentences as fit.
    fn fit(mut self) -> String {
        loop {
            let too_many = |set: &BTreeSet<String>| set.len() > SENTENCES;
            let text = serde_json::to_string(&self).unwrap_or_default();
            let long = text.len() > LONGEST;
            let dropped = if too_many(&self.notes) || (long && !self.notes.is_empty()) {
                self.notes.pop_last()
            } else if too_many(&self.why) || (long && self.why.len() > 1) {
                self.why.pop_last()
            } else {
                return text;
            };
            self.more += usize::from(dropped.is_some());
        }
    }
}

/// What a condition's message says of listeners in the place of the application's ports: by those ports, with our port and
/// its addresses. Nothing, where it says nothing or cannot be read.
pub fn inbound(message: &str) -> BTreeMap<u16, (u16, BTreeSet<IpAddr>)> {
    #[derive(Deserialize)]
    struct Read {
        #[serde(default)]
        listeners: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        r#for: String,
        port: Option<u16>,
        application: Option<u16>,
        #[serde(default)]
        addresses: BTreeSet<IpAddr>,
    }
    let Ok(Read { listeners }) = serde_json::from_str(message) else { return BTreeMap::new() };
    let inbound = listeners.into_iter().filter(|one| one.r#for == INBOUND);
    inbound.filter_map(|one| Some((one.application?, (one.port?, one.addresses)))).collect()
}
