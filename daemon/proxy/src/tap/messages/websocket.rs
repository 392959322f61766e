//! An exchange that became a WebSocket (RFC 6455; RFC 8441 over HTTP/2): both directions, and how it ended. It refuses
//! to know what carries its bytes.

use nodetap_core::exchange::{Body, Exchange, Outcome, Protocol};
use nodetap_core::head::Head;

use super::super::{Context, End, Side};
use super::endless::body_of;
use super::extensions::Extensions;
use super::frames::Frames;
use super::journal::{Fault, Journal};

/// A WebSocket while it is open.
#[derive(Debug)]
pub(in crate::tap) struct WebSocket {
    journal: Journal,
    client: Frames,
    server: Frames,
    /// The first end of a direction, or of both.
    ended: Option<(Side, End)>,
}

impl WebSocket {
    /// Whether the heads of a request and its 101 both name it (RFC 6455 §4).
    pub(in crate::tap) fn agreed(request: &[u8], response: &[u8]) -> bool {
        let names = |head| {
            Head::parse(head).fields().filter(|field| field.is("upgrade")).any(|field| {
                field.value.split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"websocket"))
            })
        };
        names(request) && names(response)
    }

    /// Whether the head of a request, as it is written of HTTP/2, asks for one (RFC 8441 §5).
    pub(in crate::tap) fn asked(request: &[u8]) -> bool {
        let start = request.iter().position(|byte| *byte == b'\n').unwrap_or(request.len());
        request.get(start + 1..).is_some_and(|fields| fields.starts_with(b":protocol: websocket\r\n"))
    }

    /// The exchange is one from here on; its record holds the head of the response.
    pub(in crate::tap) fn begin(record: &mut Exchange) -> Self {
        record.protocol = Protocol::WebSocket;
        let head = record.response.as_ref().map(|response| &response.head[..]);
        let extensions = Extensions::of(head.unwrap_or_default());
        Self {
            journal: Journal::new(record),
            client: Frames::new(Side::Client, extensions),
            server: Frames::new(Side::Server, extensions),
            ended: None,
        }
    }

    pub(in crate::tap) fn observe(&mut self, from: Side, bytes: &[u8], cx: &mut Context<'_>) {
        let (frames, journal) = self.frames(from);
        frames.read(bytes, journal, cx);
    }

    /// Bytes of memory that it holds, without the windows of compressed messages, which have a limit of their own.
    pub(in crate::tap) fn held(&self) -> usize {
        size_of::<Self>() + self.client.held() + self.server.held()
    }

    /// How many of the next bytes of that side need only be counted.
    pub(in crate::tap) fn skippable(&self, from: Side, cap: usize) -> u64 {
        match from {
            Side::Client => self.client.skippable(cap),
            Side::Server => self.server.skippable(cap),
        }
    }

    /// Counts bytes that were not shown. More of them than [`Self::skippable`] make it blind on that side.
    pub(in crate::tap) fn skip(&mut self, from: Side, count: u64, cx: &mut Context<'_>) {
        if count > self.skippable(from, cx.limits.body) {
            return self.give_up(from, "Bytes of the WebSocket passed without being shown to the tap.");
        }
        let (frames, journal) = self.frames(from);
        frames.skip(count, journal, cx);
    }

    /// Nothing of that side is read any more, which is our doing.
    pub(in crate::tap) fn give_up(&mut self, from: Side, why: &'static str) {
        self.frames(from).0.give_up(Fault::passthrough(why));
    }

    /// That side sends no more.
    pub(in crate::tap) fn ended(&mut self, from: Side, end: End) {
        self.ended.get_or_insert((from, end));
    }

    /// It is over: what is under way is written, and the record says what passed. The answer is why it is not complete;
    /// `otherwise`: if neither frames nor ends say so.
    pub(in crate::tap) fn finish(
        mut self,
        otherwise: Option<Fault>,
        record: &mut Exchange,
        cx: &mut Context<'_>,
    ) -> Option<Fault> {
        let fault = self.verdict(otherwise);
        let cut = fault.clone().unwrap_or_else(|| Fault::passthrough("It was not whole when the WebSocket ended."));
        for from in [Side::Client, Side::Server] {
            let (frames, journal) = self.frames(from);
            frames.end(&cut, journal, cx);
            let size = frames.size();
            // A body that came before the switch is the request's own.
            if let Some(body) = body_of(record, from).filter(|body| body.size == 0) {
                *body = Body { size, kept: Vec::new(), in_messages: true };
            }
        }
        record.messages = Some(self.journal.counts());
        fault
    }

    fn frames(&mut self, from: Side) -> (&mut Frames, &mut Journal) {
        match from {
            Side::Client => (&mut self.client, &mut self.journal),
            Side::Server => (&mut self.server, &mut self.journal),
        }
    }

    /// Why it is not complete, the first that holds: it could not be read; who left without a Close frame having gone
    /// both ways, or an orderly end between messages.
    fn verdict(&self, otherwise: Option<Fault>) -> Option<Fault> {
        if let Some(blind) = self.client.blind().or(self.server.blind()) {
            return Some(blind.clone());
        }
        if self.client.closed() && self.server.closed() {
            return None;
        }
        let aborted = |outcome, detail: &'static str| Some(Fault { outcome, detail: detail.into() });
        match self.ended {
            Some((Side::Client, End::Reset)) => {
                aborted(Outcome::ClientAborted, "The client reset the connection while the WebSocket was open.")
            }
            Some((Side::Server, End::Reset)) => {
                aborted(Outcome::ServerAborted, "The server reset the connection while the WebSocket was open.")
            }
            Some((_, End::Fin)) if !self.client.between() => {
                aborted(Outcome::ClientAborted, "The WebSocket ended in the middle of a message of the client.")
            }
            Some((_, End::Fin)) if !self.server.between() => {
                aborted(Outcome::ServerAborted, "The WebSocket ended in the middle of a message of the server.")
            }
            Some((_, End::Fin)) => None,
            None if otherwise.is_some() => otherwise,
            Some((_, End::Cut)) | None => {
                aborted(Outcome::Passthrough, "The connection was ended by nodetap while the WebSocket was open.")
            }
        }
    }
}
