//! Bodies that do not end soon: they reach the record in pieces, while they come. It refuses to know what they say.

use nodetap_core::exchange::{Body, Exchange, MessageKind, Micros, UnixMicros};

use super::super::{Context, Side};
use super::journal::{Draft, Journal};

/// Bytes of a piece; only the last one, or one that waited for [`PATIENCE`], has fewer. Where less is kept of each body
/// (since there are many connections), a piece is as small, down to the second number.
const PIECE: usize = 64 * 1024;
const SMALLEST: usize = 1024;
/// How long a byte of an endless body waits for more, and a body of unknown length for its end: a second.
const PATIENCE: Micros = 1_000_000;

/// A body of unknown length that may yet be short.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wait {
    /// When it is taken for one that does not end; zero: it does not matter.
    due: UnixMicros,
    /// When the first byte and the last one came.
    first: UnixMicros,
    last: UnixMicros,
}

impl Wait {
    /// The head is whole now.
    pub(super) fn begin(now: UnixMicros) -> Self {
        Self { due: now.saturating_add(PATIENCE), first: 0, last: now }
    }

    pub(super) fn due(&self) -> Option<UnixMicros> {
        (self.due != 0).then_some(self.due)
    }

    pub(super) fn is_set(&self) -> bool {
        self.due != 0
    }

    pub(super) fn is_over(&self, now: UnixMicros) -> bool {
        self.due != 0 && now >= self.due
    }

    /// Bytes of the body came.
    pub(super) fn saw(&mut self, now: UnixMicros) {
        if self.first == 0 {
            self.first = now;
        }
        self.last = now;
    }
}

/// Cuts a body into pieces.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Bytes that may still be kept of the whole body; `usize::MAX`: it has no bound.
    left: usize,
    /// When the first byte came of what waits, and the last; meaningless when nothing waits.
    since: UnixMicros,
    until: UnixMicros,
    waits: bool,
    /// Bytes on the wire since the last piece.
    wire: u64,
}

impl Pieces {
    /// Of a body that is known to be endless: all of it, unless no bodies are wanted at all.
    pub(super) fn all(cap: usize) -> Option<Self> {
        (cap > 0).then(|| Self::new(usize::MAX))
    }

    fn new(left: usize) -> Self {
        Self { left, since: 0, until: 0, waits: false, wire: 0 }
    }

    /// Of a body that turned out not to end soon: what there is of it is written now.
    pub(super) fn after(
        wait: Wait,
        from: Side,
        cap: usize,
        body: &mut Body,
        journal: &mut Journal,
        cx: &mut Context<'_>,
    ) -> Self {
        let kept = std::mem::take(&mut body.kept);
        // Where bytes were left out, none may follow.
        let left = if body.size > kept.len() as u64 { kept.len() } else { cap };
        let mut pieces = Self { since: wait.first, until: wait.last, ..Self::new(left) };
        for part in kept.chunks(PIECE) {
            pieces.wire = part.len() as u64;
            pieces.write(part.to_vec(), from, journal, cx);
        }
        pieces.wire = 0;
        pieces
    }

    /// Keep up to this many bytes before the next [`Self::settle`], where `cap` are kept of each body.
    pub(super) fn cap(&self, cap: usize) -> usize {
        PIECE.min(cap.max(SMALLEST)).min(self.left)
    }

    /// Whether no more is kept.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Bytes were added to the body, and to what of it is kept.
    pub(super) fn settle(
        &mut self,
        from: Side,
        wire: usize,
        body: &mut Body,
        journal: &mut Journal,
        cx: &mut Context<'_>,
    ) {
        self.wire = self.wire.saturating_add(wire as u64);
        if body.kept.is_empty() {
            return;
        }
        if !self.waits {
            (self.waits, self.since) = (true, cx.now);
        }
        self.until = cx.now;
        if body.kept.len() >= self.cap(cx.limits.body) || cx.now >= self.since.saturating_add(PATIENCE) {
            self.flush(from, body, journal, cx);
        }
    }

    /// When what waits has waited long enough.
    pub(super) fn due(&self) -> Option<UnixMicros> {
        self.waits.then(|| self.since.saturating_add(PATIENCE))
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self, from: Side, body: &mut Body, journal: &mut Journal, cx: &mut Context<'_>) {
        if self.waits {
            let mut kept = std::mem::take(&mut body.kept);
            kept.shrink_to_fit();
            self.write(kept, from, journal, cx);
        }
    }

    fn write(&mut self, kept: Vec<u8>, from: Side, journal: &mut Journal, cx: &mut Context<'_>) {
        if self.left != usize::MAX {
            self.left = self.left.saturating_sub(kept.len());
        }
        let body = Body { size: kept.len() as u64, kept, in_messages: false };
        let (since, until, wire) = (self.since, self.until, std::mem::take(&mut self.wire));
        self.waits = false;
        let kind = MessageKind::Piece;
        journal.write(Draft { from, kind, since, until, body, wire, compressed: false, fault: None }, cx);
    }
}

/// The body of one side of an exchange, once it is to be had.
pub(super) fn body_of(record: &mut Exchange, from: Side) -> Option<&mut Body> {
    match from {
        Side::Client => Some(&mut record.request.body),
        Side::Server => record.response.as_mut().map(|response| &mut response.body),
    }
}
