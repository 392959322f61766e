//! The one place where the content of a stream's two messages goes, piece by piece as it comes in DATA frames. Today its
//! first bytes are kept; readers of what stands in it (gRPC, WebSocket, endless bodies) join here. It refuses to know
//! frames.

use nodetap_core::exchange::{Exchange, Message};

use super::super::{Context, Limits, Side};

/// Of what all streams of a connection may hold, content may take one part in this many: so a few large bodies do not
/// keep further streams from being followed.
const CONTENT_PART: usize = 2;
/// The most that is reserved beyond twice of what has come: a Content-Length may lie.
const RESERVE_AHEAD: usize = 1024;

/// Bytes that the open streams of one connection hold. (Buffers of bodies may be up to three times as large as what is
/// in them, and that is what is counted: how bytes are cut must not decide what is kept.)
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Of records and heads.
    heads: usize,
    content: usize,
}

impl Held {
    pub(super) fn add_head(&mut self, bytes: usize) {
        self.heads = self.heads.saturating_add(bytes);
    }

    fn add_content(&mut self, bytes: usize) {
        self.content = self.content.saturating_add(bytes);
    }

    /// Those bytes of heads and of content went with their stream.
    pub(super) fn release(&mut self, heads: usize, content: usize) {
        self.heads = self.heads.saturating_sub(heads);
        self.content = self.content.saturating_sub(content);
    }

    /// No further stream may begin to hold bytes.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.total() > limits.waiting
    }

    /// A stream must go: more than one head too many is held.
    pub(super) fn is_over(&self, limits: &Limits) -> bool {
        self.total() > limits.waiting.saturating_add(limits.head)
    }

    /// Bytes of content that may be added.
    fn room(&self, limits: &Limits) -> usize {
        let for_content = (limits.waiting / CONTENT_PART).saturating_sub(self.content);
        for_content.min(limits.waiting.saturating_sub(self.total()))
    }

    fn total(&self) -> usize {
        self.heads.saturating_add(self.content)
    }
}

/// What is known of the content of one stream.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Kept bytes of both bodies.
    held: usize,
}

impl Content {
    /// The head of that side's (final) message is known, and stands in the record.
    pub(super) fn begin(&mut self, _from: Side, _record: &mut Exchange, _cx: &mut Context<'_>) {}

    /// Takes the next bytes of that side's message, of which `expected` (these included) are to come, as far as is known.
    pub(super) fn feed(
        &mut self,
        from: Side,
        bytes: &[u8],
        expected: u64,
        record: &mut Exchange,
        held: &mut Held,
        cx: &mut Context<'_>,
    ) {
        let Some(message) = message_mut(record, from) else { return };
        let body = &mut message.body;
        let whole_so_far = body.size == body.kept.len() as u64;
        body.size = body.size.saturating_add(bytes.len() as u64);
        if !whole_so_far {
            return;
        }
        let wanted = bytes.len().min(cx.limits.body.saturating_sub(body.kept.len()));
        let count = wanted.min(held.room(cx.limits));
        if body.kept.capacity() - body.kept.len() < count {
            let honest = usize::try_from(expected).unwrap_or(usize::MAX).min(2 * count + RESERVE_AHEAD);
            let ahead = count.max(body.kept.len()).max(honest).min(cx.limits.body - body.kept.len());
            body.kept.reserve_exact(ahead);
        }
        body.kept.extend_from_slice(bytes.get(..count).unwrap_or_default());
        self.held += count;
        held.add_content(count);
        if count < wanted {
            drop_part(
                record,
                match from {
                    Side::Client => "request.body: beyond what the streams of one connection may keep",
                    Side::Server => "response.body: beyond what the streams of one connection may keep",
                },
            );
        }
    }

    /// Counts bytes that were not shown.
    pub(super) fn skip(&mut self, from: Side, count: u64, record: &mut Exchange) {
        if let Some(message) = message_mut(record, from) {
            message.body.size = message.body.size.saturating_add(count);
        }
    }

    /// Whether more than the number of that side's next bytes is needed.
    pub(super) fn wants(&self, from: Side, record: &Exchange, limits: &Limits) -> bool {
        let message = match from {
            Side::Client => Some(&record.request),
            Side::Server => record.response.as_ref(),
        };
        message.is_some_and(|message| {
            let (size, kept) = (message.body.size, message.body.kept.len());
            size == kept as u64 && kept < limits.body
        })
    }

    /// That side's message is whole, its trailers included.
    pub(super) fn end(&mut self, _from: Side, _record: &mut Exchange, _cx: &mut Context<'_>) {}

    /// The stream is over: how much of what is held goes with it.
    pub(super) fn close(&mut self, _record: &mut Exchange, _cx: &mut Context<'_>) -> usize {
        self.held
    }
}

/// That side's message, if its head has come.
pub(super) fn message_mut(record: &mut Exchange, from: Side) -> Option<&mut Message> {
    match from {
        Side::Client => Some(&mut record.request),
        Side::Server => record.response.as_mut(),
    }
}

/// Notes once that a part of the record was given up.
pub(super) fn drop_part(record: &mut Exchange, what: &'static str) {
    if !record.dropped.iter().any(|known| known == what) {
        record.dropped.push(what.into());
    }
}
