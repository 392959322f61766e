//! The messages of one exchange as records: numbered, counted by sender, written the moment they are whole. It refuses
//! to know how they were told apart.

use std::borrow::Cow;
use std::sync::Arc;

use nodetap_core::exchange::{
    Body, Event, Exchange, MessageKind, Messages, Outcome, Protocol, Sender, StreamMessage, UnixMicros,
};
use nodetap_core::ulid::Ulid;

use super::super::{Context, Side};

/// Why a message or an exchange is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tap) struct Fault {
    pub(in crate::tap) outcome: Outcome,
    /// One sentence.
    pub(in crate::tap) detail: Cow<'static, str>,
}

impl Fault {
    pub(in crate::tap) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Malformed, detail: detail.into() }
    }

    /// Nothing was wrong but what we can or will not look into.
    pub(in crate::tap) fn passthrough(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Passthrough, detail: detail.into() }
    }
}

/// A message that is whole, or that gets no further.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) from: Side,
    pub(super) kind: MessageKind,
    /// When its first byte came, and its last.
    pub(super) since: UnixMicros,
    pub(super) until: UnixMicros,
    pub(super) body: Body,
    pub(super) wire: u64,
    pub(super) compressed: bool,
    pub(super) fault: Option<Fault>,
}

/// Writes the messages of one exchange.
#[derive(Debug)]
pub(super) struct Journal {
    exchange: Ulid,
    stream: Option<u32>,
    protocol: Protocol,
    seq: u64,
    counts: Messages,
}

impl Journal {
    pub(super) fn new(exchange: &Exchange) -> Self {
        Self {
            exchange: exchange.id,
            stream: exchange.stream,
            protocol: exchange.protocol,
            seq: 0,
            counts: Messages::default(),
        }
    }

    /// What the exchange turned out to be.
    pub(super) fn speaks(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    pub(super) fn counts(&self) -> Messages {
        self.counts
    }

    pub(super) fn write(&mut self, draft: Draft, cx: &mut Context<'_>) {
        let (sender, count) = match draft.from {
            Side::Client => (Sender::Client, &mut self.counts.client),
            Side::Server => (Sender::Server, &mut self.counts.server),
        };
        *count += 1;
        let (outcome, detail) =
            draft.fault.map_or((Outcome::Complete, None), |fault| (fault.outcome, Some(fault.detail)));
        cx.out.push(Event::Message(Box::new(StreamMessage {
            id: cx.ids.next(draft.since),
            connection: Arc::clone(cx.connection),
            time: draft.since,
            exchange: self.exchange,
            seq: self.seq,
            stream: self.stream,
            protocol: self.protocol,
            sender,
            kind: draft.kind,
            body: draft.body,
            wire: draft.wire,
            compressed: draft.compressed,
            end: draft.until.saturating_sub(draft.since),
            outcome,
            detail,
        })));
        self.seq += 1;
    }
}
