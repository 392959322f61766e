//! What passes of an exchange while it is open: the data of its bodies, or of the WebSocket that it became. It refuses
//! to know heads.

use nodetap_core::exchange::{Message, UnixMicros};

use super::super::messages::{MediaType, WebSocket};
use super::super::{Context, End, Side};
use super::body::Body;
use super::chunked::Fed;
use super::flaw::Flaw;
use super::open::{Open, Progress};
use super::{Http1, Requests};

impl Open {
    /// The head of that side's message is whole, and a body follows.
    pub(super) fn begin_body(&mut self, from: Side, media: MediaType, body: &Body, cx: &Context<'_>) {
        self.bodies.begin(from, media, !body.is_unsized(), &mut self.record, cx);
    }

    /// Takes bytes up to the end of the body, or fewer. The error carries how many were taken.
    pub(super) fn feed(
        &mut self,
        from: Side,
        body: &mut Body,
        bytes: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<Fed, (Flaw, usize)> {
        let Some(message) = (match from {
            Side::Client => Some(&mut self.record.request),
            Side::Server => self.record.response.as_mut(),
        }) else {
            return Ok(Fed { used: bytes.len(), done: false });
        };
        let (count, cap) = self.bodies.portion(from, bytes.len(), message.body.kept.len(), cx.limits.body);
        let fed = body.feed(bytes.get(..count).unwrap_or(bytes), message, cap, cx.limits.head);
        let (Ok(Fed { used, .. }) | Err((_, used))) = fed;
        self.count(from, used as u64);
        self.bodies.settle(from, used, &mut self.record, cx);
        fed
    }

    /// How many of the next bytes of that side's body need only be counted.
    pub(super) fn skippable(&self, from: Side, body: &Body, cap: usize) -> u64 {
        match self.message(from) {
            Some(message) if self.bodies.is_full(from, message.body.kept.len(), cap) => body.skippable(),
            _ => 0,
        }
    }

    /// Counts bytes that were not shown; says whether the body is whole.
    pub(super) fn skip(&mut self, from: Side, body: &mut Body, count: u64) -> bool {
        self.count(from, count);
        match from {
            Side::Client => body.skip(count, &mut self.record.request.body),
            Side::Server => self.record.response.as_mut().is_some_and(|response| body.skip(count, &mut response.body)),
        }
    }

    /// The body of that side is whole.
    pub(super) fn body_whole(&mut self, from: Side, cx: &mut Context<'_>) {
        self.bodies.whole(from, &mut self.record, cx);
    }

    fn message(&self, from: Side) -> Option<&Message> {
        match from {
            Side::Client => Some(&self.record.request),
            Side::Server => self.record.response.as_ref(),
        }
    }
}

impl Http1 {
    /// When [`Self::tick`] is to be called though no byte passes.
    pub(in crate::tap) fn due(&self) -> Option<UnixMicros> {
        let client = self.open.back().and_then(|open| open.bodies.due(Side::Client));
        let server = self.open.front().and_then(|open| open.bodies.due(Side::Server));
        client.into_iter().chain(server).min()
    }

    /// Writes what has waited long enough.
    pub(in crate::tap) fn tick(&mut self, cx: &mut Context<'_>) {
        if let Some(open) = self.open.back_mut() {
            open.bodies.tick(Side::Client, &mut open.record, cx);
        }
        if let Some(open) = self.open.front_mut() {
            open.bodies.tick(Side::Server, &mut open.record, cx);
        }
    }

    /// The connection is a WebSocket from here on, if both heads say so.
    pub(super) fn become_websocket(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(open) = self.open.front_mut() else { return false };
        let response = open.record.response.as_ref().map(|response| &response.head[..]);
        if !WebSocket::agreed(&open.record.request.head, response.unwrap_or_default()) {
            return false;
        }
        let mut websocket = Box::new(WebSocket::begin(&mut open.record));
        let held = std::mem::take(&mut self.held);
        open.count(Side::Client, held.count);
        if held.over {
            websocket.give_up(Side::Client, "More bytes came before the switch to WebSocket than the tap's limit.");
        }
        let now = std::mem::replace(&mut cx.now, held.since);
        websocket.observe(Side::Client, &held.bytes, cx);
        cx.now = now;
        self.requests = Requests::Between { cr: false };
        self.websocket = Some(websocket);
        true
    }

    /// Bytes of the WebSocket.
    pub(super) fn frames(&mut self, from: Side, bytes: &[u8], cx: &mut Context<'_>) {
        if let (Some(websocket), Some(open)) = (&mut self.websocket, self.open.front_mut()) {
            open.count(from, bytes.len() as u64);
            websocket.observe(from, bytes, cx);
        }
    }

    /// Bytes of the WebSocket that were not shown.
    pub(super) fn skip_frames(&mut self, from: Side, count: u64, cx: &mut Context<'_>) {
        if let (Some(websocket), Some(open)) = (&mut self.websocket, self.open.front_mut()) {
            open.count(from, count);
            websocket.skip(from, count, cx);
        }
    }

    /// The connection is over, and the WebSocket that it was.
    pub(super) fn finish_websocket(&mut self, cx: &mut Context<'_>) {
        if let Some(websocket) = self.websocket.take()
            && let Some(mut open) = self.open.pop_front()
        {
            let fault = websocket.finish(None, &mut open.record, cx);
            open.response = Progress::Done;
            open.finish(fault, cx);
        }
    }

    pub(super) fn websocket_ended(&mut self, from: Side, end: End) -> bool {
        self.websocket.as_mut().map(|websocket| websocket.ended(from, end)).is_some()
    }
}
