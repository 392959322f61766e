//! Messages inside exchanges: what reaches the record while the exchange is still open. WebSocket messages, the
//! messages of gRPC calls, and pieces of bodies that do not end soon. It refuses to know how heads and bodies are framed:
//! the taps of HTTP/1 and HTTP/2 show it bodies as they come, and the bytes of a connection or stream that became a
//! WebSocket.
//!
//! Which of the two bodies of an exchange is written as messages:
//!
//! | body | messages |
//! |---|---|
//! | request of the content type `application/grpc…`, and its response if it has one such, too | one for each gRPC message |
//! | response of the content type `text/event-stream` | pieces of 64 KiB, or of what came in a second; all of it |
//! | response of `application/x-ndjson`, `application/stream+json`, `multipart/x-mixed-replace`, its length unknown | the same |
//! | any other whose length is unknown and which is still open a second after its head | the same, until the cap of a body is kept |
//! | any other | none: it stands in the exchange |

mod endless;
mod extensions;
mod frames;
mod grpc;
mod inflate;
mod journal;
mod kept;
mod websocket;

use nodetap_core::exchange::{Body, Exchange, Outcome, Protocol, UnixMicros};

use super::{Context, Side};
use endless::{Pieces, Wait, body_of};
use grpc::Splitter;
use journal::Journal;

pub(in crate::tap) use journal::Fault;
pub(in crate::tap) use kept::keep;
pub(in crate::tap) use websocket::WebSocket;

/// What a content type says about how its body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::tap) enum MediaType {
    Grpc,
    EventStream,
    /// Other types that are made for bodies that do not end.
    Endless,
    #[default]
    Other,
}

impl MediaType {
    /// Of the value of a Content-Type field.
    pub(in crate::tap) fn of(value: &[u8]) -> Self {
        const KNOWN: [(&[u8], MediaType); 5] = [
            (b"application/grpc", MediaType::Grpc),
            (b"text/event-stream", MediaType::EventStream),
            (b"application/x-ndjson", MediaType::Endless),
            (b"application/stream+json", MediaType::Endless),
            (b"multipart/x-mixed-replace", MediaType::Endless),
        ];
        let is = |name: &[u8]| match value.split_at_checked(name.len()) {
            Some((begin, rest)) => {
                let ends = matches!(rest, [] | [b';' | b' ' | b'\t', ..]) || name.ends_with(b"grpc") && rest[0] == b'+';
                ends && begin.eq_ignore_ascii_case(name)
            }
            None => false,
        };
        KNOWN.into_iter().find(|(name, _)| is(name)).map_or(Self::Other, |(_, media)| media)
    }
}

/// What is written of a body while it comes.
#[derive(Debug)]
enum Lane {
    Pieces(Pieces),
    Grpc(Box<Splitter>),
}

/// An exchange of which at least one body is written as messages.
#[derive(Debug)]
struct Streamed {
    journal: Journal,
    client: Option<Lane>,
    server: Option<Lane>,
    /// The first thing that was wrong with them.
    fault: Option<Fault>,
}

impl Streamed {
    fn lane(&mut self, from: Side) -> &mut Option<Lane> {
        match from {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn parts(&mut self, from: Side) -> Option<(&mut Lane, &mut Journal, &mut Option<Fault>)> {
        let lane = match from {
            Side::Client => self.client.as_mut()?,
            Side::Server => self.server.as_mut()?,
        };
        Some((lane, &mut self.journal, &mut self.fault))
    }

    fn lane_of(&self, from: Side) -> Option<&Lane> {
        match from {
            Side::Client => self.client.as_ref(),
            Side::Server => self.server.as_ref(),
        }
    }
}

/// The two bodies of an exchange while they come. An exchange whose bodies stand in itself costs a look at a flag for
/// each piece of bytes.
#[derive(Debug, Default)]
pub(in crate::tap) struct Bodies {
    streamed: Option<Box<Streamed>>,
    client: Wait,
    server: Wait,
}

impl Bodies {
    /// The head of a message is whole and a body follows it; `sized`: it says how long the body is. The record holds
    /// the head.
    pub(in crate::tap) fn begin(
        &mut self,
        from: Side,
        media: MediaType,
        sized: bool,
        record: &mut Exchange,
        cx: &Context<'_>,
    ) {
        let lane = match (from, media) {
            (Side::Client, MediaType::Grpc) => {
                record.protocol = Protocol::Grpc;
                Some(Lane::Grpc(Box::new(Splitter::new(&record.request.head))))
            }
            (Side::Server, MediaType::Grpc) if record.protocol == Protocol::Grpc => {
                record.response.as_ref().map(|response| Lane::Grpc(Box::new(Splitter::new(&response.head))))
            }
            (Side::Server, MediaType::EventStream) => {
                if record.protocol != Protocol::Grpc {
                    record.protocol = Protocol::EventStream;
                }
                Pieces::all(cx.limits.body).map(Lane::Pieces)
            }
            (Side::Server, MediaType::Endless) if !sized => Pieces::all(cx.limits.body).map(Lane::Pieces),
            _ => None,
        };
        match lane {
            Some(lane) => {
                let streamed = self.streamed_of(record);
                streamed.journal.speaks(record.protocol);
                *streamed.lane(from) = Some(lane);
            }
            None if !sized && cx.limits.body > 0 => *self.wait(from) = Wait::begin(cx.now),
            None => {}
        }
    }

    /// How many of `count` bytes may be added to the body before [`Self::settle`], and up to which number they are kept.
    /// `kept`: so many are kept of it now.
    pub(in crate::tap) fn portion(&self, from: Side, count: usize, kept: usize, cap: usize) -> (usize, usize) {
        match self.lane_of(from) {
            None => (count, cap),
            Some(Lane::Pieces(pieces)) if pieces.is_full() => (count, 0),
            Some(Lane::Pieces(pieces)) => {
                // The cap may have come down meanwhile.
                let cap = pieces.cap(cap).max(kept.saturating_add(1));
                (count.min(cap.saturating_sub(kept)), cap)
            }
            Some(Lane::Grpc(splitter)) if splitter.is_blind() => (count, 0),
            Some(Lane::Grpc(_)) => (count, usize::MAX),
        }
    }

    /// Bytes were added to the body of that side; `wire`: so many passed for it.
    pub(in crate::tap) fn settle(&mut self, from: Side, wire: usize, record: &mut Exchange, cx: &mut Context<'_>) {
        let wait = self.wait(from);
        if wait.is_set() {
            wait.saw(cx.now);
            if wait.is_over(cx.now) {
                self.lasts(from, record, cx);
            }
            return;
        }
        let Some((lane, journal, fault)) = self.streamed.as_mut().and_then(|streamed| streamed.parts(from)) else {
            return;
        };
        let Some(body) = body_of(record, from) else { return };
        match lane {
            Lane::Pieces(pieces) => pieces.settle(from, wire, body, journal, cx),
            Lane::Grpc(splitter) => {
                let data = std::mem::take(&mut body.kept);
                if let Err(wrong) = splitter.read(&data, from, journal, cx) {
                    fault.get_or_insert(wrong);
                }
            }
        }
    }

    /// Whether no more of that side's body is wanted but the number of its bytes; `kept`: so many are kept of it now.
    pub(in crate::tap) fn is_full(&self, from: Side, kept: usize, cap: usize) -> bool {
        match self.lane_of(from) {
            None => kept >= cap,
            Some(Lane::Pieces(pieces)) => pieces.is_full(),
            Some(Lane::Grpc(splitter)) => splitter.is_blind(),
        }
    }

    /// The body of that side is whole.
    pub(in crate::tap) fn whole(&mut self, from: Side, record: &mut Exchange, cx: &mut Context<'_>) {
        *self.wait(from) = Wait::default();
        if self.streamed.is_some() {
            self.over(from, None, record, cx);
        }
    }

    /// When [`Self::tick`] is to be called for that side.
    pub(in crate::tap) fn due(&self, from: Side) -> Option<UnixMicros> {
        let wait = match from {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        match self.lane_of(from) {
            None => wait.due(),
            Some(Lane::Pieces(pieces)) => pieces.due(),
            Some(Lane::Grpc(_)) => None,
        }
    }

    /// Writes what has waited long enough.
    pub(in crate::tap) fn tick(&mut self, from: Side, record: &mut Exchange, cx: &mut Context<'_>) {
        if self.due(from).is_none_or(|due| due > cx.now) {
            return;
        }
        if self.wait(from).is_set() {
            return self.lasts(from, record, cx);
        }
        let parts = self.streamed.as_mut().and_then(|streamed| streamed.parts(from));
        if let (Some((Lane::Pieces(pieces), journal, _)), Some(body)) = (parts, body_of(record, from)) {
            pieces.flush(from, body, journal, cx);
        }
    }

    /// The exchange is over, because of `fault` if there is one: what waits is written, and the record says where its
    /// bodies are. The answer is why it is not complete.
    pub(in crate::tap) fn finish(
        &mut self,
        fault: Option<Fault>,
        record: &mut Exchange,
        cx: &mut Context<'_>,
    ) -> Option<Fault> {
        if self.streamed.is_none() {
            return fault;
        }
        self.over(Side::Client, fault.as_ref(), record, cx);
        self.over(Side::Server, fault.as_ref(), record, cx);
        let Some(streamed) = self.streamed.take() else { return fault };
        for from in [Side::Client, Side::Server] {
            if let Some(body) = body_of(record, from).filter(|_| streamed.lane_of(from).is_some()) {
                *body = Body { size: body.size, kept: Vec::new(), in_messages: true };
            }
        }
        if record.protocol == Protocol::Grpc {
            record.messages = Some(streamed.journal.counts());
        }
        match fault {
            Some(fault) if fault.outcome != Outcome::Complete => Some(fault),
            fault => streamed.fault.or(fault),
        }
    }

    /// Whether that side's body is written as messages.
    pub(in crate::tap) fn streams(&self, from: Side) -> bool {
        self.lane_of(from).is_some()
    }

    /// Bytes of memory that are held of messages which are not whole, without what the record holds.
    pub(in crate::tap) fn held(&self) -> usize {
        let lane = |lane: &Option<Lane>| match lane {
            Some(Lane::Grpc(splitter)) => size_of::<Splitter>() + splitter.held(),
            Some(Lane::Pieces(_)) | None => 0,
        };
        self.streamed
            .as_ref()
            .map_or(0, |streamed| size_of::<Streamed>() + lane(&streamed.client) + lane(&streamed.server))
    }

    /// Adds bytes to the body of that side, and writes what becomes whole by them.
    pub(in crate::tap) fn add(&mut self, from: Side, mut data: &[u8], record: &mut Exchange, cx: &mut Context<'_>) {
        while !data.is_empty() {
            let Some(body) = body_of(record, from) else { return };
            let (count, cap) = self.portion(from, data.len(), body.kept.len(), cx.limits.body);
            keep(body, data.get(..count).unwrap_or_default(), cap, None);
            self.settle(from, count, record, cx);
            data = data.get(count..).unwrap_or_default();
        }
    }

    /// A body of unknown length did not end within its time.
    fn lasts(&mut self, from: Side, record: &mut Exchange, cx: &mut Context<'_>) {
        let wait = std::mem::take(self.wait(from));
        let streamed = self.streamed_of(record);
        let Some(body) = body_of(record, from) else { return };
        let pieces = Pieces::after(wait, from, cx.limits.body, body, &mut streamed.journal, cx);
        *streamed.lane(from) = Some(Lane::Pieces(pieces));
    }

    fn over(&mut self, from: Side, fault: Option<&Fault>, record: &mut Exchange, cx: &mut Context<'_>) {
        let Some((lane, journal, first)) = self.streamed.as_mut().and_then(|streamed| streamed.parts(from)) else {
            return;
        };
        match (lane, body_of(record, from)) {
            (Lane::Pieces(pieces), Some(body)) => pieces.flush(from, body, journal, cx),
            (Lane::Grpc(splitter), _) => {
                if let Some(cut) = splitter.end(fault, from, journal, cx).filter(|_| fault.is_none()) {
                    first.get_or_insert(cut);
                }
            }
            _ => {}
        }
    }

    fn streamed_of(&mut self, record: &Exchange) -> &mut Streamed {
        self.streamed.get_or_insert_with(|| {
            Box::new(Streamed { journal: Journal::new(record), client: None, server: None, fault: None })
        })
    }

    fn lane_of(&self, from: Side) -> Option<&Lane> {
        self.streamed.as_ref()?.lane_of(from)
    }

    fn wait(&mut self, from: Side) -> &mut Wait {
        match from {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}
