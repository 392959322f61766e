//! The one place where the content of a stream's two messages goes, piece by piece as it comes in DATA frames. Its first
//! bytes are kept in the record, or what stands in it (gRPC, WebSocket, endless bodies) becomes messages. It refuses to
//! know frames of HTTP/2.

use nodetap_core::exchange::{Exchange, Message, UnixMicros};

use super::super::messages::{Bodies, Fault, MediaType, WebSocket};
use super::super::{Context, End, Limits, Side};

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
    /// The earliest moment at which something may have waited long enough to be written.
    due: Option<UnixMicros>,
}

impl Held {
    pub(super) fn add_head(&mut self, bytes: usize) {
        self.heads = self.heads.saturating_add(bytes);
    }

    fn add_content(&mut self, bytes: usize) {
        self.content = self.content.saturating_add(bytes);
    }

    /// Those bytes of heads and of content are held no more.
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

    pub(super) fn total(&self) -> usize {
        self.heads.saturating_add(self.content)
    }

    pub(super) fn due(&self) -> Option<UnixMicros> {
        self.due
    }

    /// Each stream is asked anew when it is due.
    pub(super) fn look_again(&mut self) {
        self.due = None;
    }

    fn wake_at(&mut self, due: UnixMicros) {
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }
}

/// What is known of the content of one stream.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Kept bytes of both bodies, and what is held of messages.
    held: usize,
    bodies: Bodies,
    /// What the stream became (RFC 8441).
    websocket: Option<Box<WebSocket>>,
}

impl Content {
    /// The head of that side's (final) message is known, and stands in the record; `sized`: it says how long the content
    /// is.
    pub(super) fn begin(
        &mut self,
        from: Side,
        media: MediaType,
        sized: bool,
        record: &mut Exchange,
        held: &mut Held,
        cx: &Context<'_>,
    ) {
        self.bodies.begin(from, media, sized, record, cx);
        self.recharge(record, held);
    }

    /// A CONNECT was accepted: what goes through is both contents, or the frames of a WebSocket. `asking`: the client
    /// may go on.
    pub(super) fn begin_tunnel(&mut self, asking: bool, record: &mut Exchange, held: &mut Held, cx: &mut Context<'_>) {
        if WebSocket::asked(&record.request.head) {
            let early = std::mem::take(&mut record.request.body);
            let mut websocket = Box::new(WebSocket::begin(record));
            if early.size > early.kept.len() as u64 {
                websocket.give_up(Side::Client, "More bytes came before the WebSocket was accepted than are kept.");
            }
            websocket.observe(Side::Client, &early.kept, cx);
            if !asking {
                websocket.ended(Side::Client, End::Fin);
            }
            self.websocket = Some(websocket);
        } else {
            for from in [Side::Client, Side::Server].into_iter().filter(|from| asking || *from == Side::Server) {
                self.bodies.begin(from, MediaType::Other, false, record, cx);
            }
        }
        self.recharge(record, held);
    }

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
        if self.websocket.is_some() || self.bodies.streams(from) {
            return self.pass(from, bytes, record, held, cx);
        }
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
            let ahead = count.max(body.kept.len()).max(honest).min(cx.limits.body.saturating_sub(body.kept.len()));
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
        self.bodies.settle(from, bytes.len(), record, cx);
        if self.bodies.streams(from) {
            self.recharge(record, held);
        }
    }

    /// Bytes of what is written as messages.
    fn pass(&mut self, from: Side, bytes: &[u8], record: &mut Exchange, held: &mut Held, cx: &mut Context<'_>) {
        let room = held.room(cx.limits).saturating_add(self.held);
        let limits = Limits { body: cx.limits.body.min(room), ..*cx.limits };
        let mut cx = Context {
            connection: cx.connection,
            connected: cx.connected,
            tls: cx.tls,
            limits: &limits,
            now: cx.now,
            ids: cx.ids,
            out: cx.out,
        };
        match &mut self.websocket {
            Some(websocket) => websocket.observe(from, bytes, &mut cx),
            None => self.bodies.add(from, bytes, record, &mut cx),
        }
        self.recharge(record, held);
    }

    /// Tells what is held now, and until when it may wait.
    fn recharge(&mut self, record: &Exchange, held: &mut Held) {
        let kept = record.request.body.kept.len() + record.response.as_ref().map_or(0, |one| one.body.kept.len());
        let messages = self.bodies.held() + self.websocket.as_ref().map_or(0, |websocket| websocket.held());
        held.release(0, self.held);
        self.held = kept.saturating_add(messages);
        held.add_content(self.held);
        for due in [Side::Client, Side::Server].into_iter().filter_map(|from| self.bodies.due(from)) {
            held.wake_at(due);
        }
    }

    /// Writes what has waited long enough.
    pub(super) fn tick(&mut self, record: &mut Exchange, held: &mut Held, cx: &mut Context<'_>) {
        self.bodies.tick(Side::Client, record, cx);
        self.bodies.tick(Side::Server, record, cx);
        self.recharge(record, held);
    }

    /// Counts bytes that were not shown.
    pub(super) fn skip(&mut self, from: Side, count: u64, record: &mut Exchange) {
        if self.websocket.is_some() {
            return;
        }
        if let Some(message) = message_mut(record, from) {
            message.body.size = message.body.size.saturating_add(count);
        }
    }

    /// Whether more than the number of that side's next bytes is needed.
    pub(super) fn wants(&self, from: Side, record: &Exchange, limits: &Limits) -> bool {
        if let Some(websocket) = &self.websocket {
            return websocket.skippable(from, limits.body) != u64::MAX;
        }
        let message = match from {
            Side::Client => Some(&record.request),
            Side::Server => record.response.as_ref(),
        };
        message.is_some_and(|message| {
            let (size, kept) = (message.body.size, message.body.kept.len());
            if self.bodies.streams(from) {
                return !self.bodies.is_full(from, kept, limits.body);
            }
            size == kept as u64 && kept < limits.body
        })
    }

    /// That side's message is whole, its trailers included.
    pub(super) fn end(&mut self, from: Side, record: &mut Exchange, cx: &mut Context<'_>) {
        match &mut self.websocket {
            Some(websocket) => websocket.ended(from, End::Fin),
            None => self.bodies.whole(from, record, cx),
        }
    }

    /// How much of what is held goes with the stream.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// The stream is over, because of `fault` if there is one; `noted`: what was wrong with it before. The answer is what
    /// is said of it.
    pub(super) fn close(
        mut self,
        noted: Option<Fault>,
        fault: Option<Fault>,
        record: &mut Exchange,
        cx: &mut Context<'_>,
    ) -> Option<Fault> {
        match self.websocket {
            Some(websocket) => {
                let fault = websocket.finish(fault, record, cx);
                noted.or(fault)
            }
            None => self.bodies.finish(noted.or(fault), record, cx),
        }
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
