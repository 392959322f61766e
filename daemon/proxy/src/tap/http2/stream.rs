//! An exchange while it is going on. It refuses to know frames and header compression; it knows what is written down at
//! the end.

use std::borrow::Cow;
use std::sync::Arc;

use nodetap_core::exchange::{Bytes, Event, Exchange, Message, Outcome, Protocol, Timing, UnixMicros};

use super::super::http1::{add, after};
use super::super::{Context, Limits, Side};
use super::content::{Content, Held, drop_part, message_mut};
use super::ends::{Fault, Stand};
use super::flaw::Flaw;
use super::section::{Method, Text};

/// What an open stream is charged beyond the bytes it holds.
const CHARGE: usize = size_of::<Stream>() + size_of::<Exchange>() + 64;

/// How far one of the two messages has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Head,
    Content,
    Done,
}

/// One of the two messages.
#[derive(Debug, Clone, Copy, Default)]
struct Half {
    place: Place,
    /// Its Content-Length, where that says how long the content is.
    length: Option<u64>,
    /// It must have no content (RFC 9110 §6.4.1).
    empty: bool,
}

/// A record in the making.
#[derive(Debug)]
pub(super) struct Stream {
    record: Box<Exchange>,
    request: Half,
    response: Half,
    content: Content,
    method: Method,
    pushed: bool,
    fault: Option<Fault>,
    /// It is to be written as soon as the head of its request is known: it is followed no further.
    pub(super) only_head: Option<Fault>,
    /// Bytes it is charged, without those of its content.
    charged: usize,
}

impl Stream {
    /// A request begins, or (`pushed`) the promise of one.
    pub(super) fn open(
        id: u32,
        began: UnixMicros,
        first: bool,
        pushed: bool,
        held: &mut Held,
        cx: &mut Context<'_>,
    ) -> Self {
        let stood = |wait| cx.connection.accepted.saturating_add(wait);
        let record = Box::new(Exchange {
            id: cx.ids.next(began),
            connection: Arc::clone(cx.connection),
            time: began,
            protocol: Protocol::Http2,
            stream: Some(id),
            tls: cx.tls.cloned(),
            request: Message::default(),
            interim: Vec::new(),
            response: None,
            timing: Timing {
                connected: cx.connected.filter(|_| first).map(|wait| after(began, stood(wait))),
                ..Timing::default()
            },
            bytes: Bytes::default(),
            messages: None,
            outcome: Outcome::Complete,
            detail: None,
            redacted: Vec::new(),
            dropped: Vec::new(),
        });
        Self::new(record, pushed, held)
    }

    /// A request that was made in HTTP/1.1 with an upgrade to HTTP/2, and is whole.
    pub(super) fn upgraded(mut record: Box<Exchange>, head: bool, held: &mut Held) -> Self {
        (record.protocol, record.stream) = (Protocol::Http2, Some(1));
        let charge = record.request.head.len() + record.request.body.kept.len() + record.interim.len();
        let mut stream = Self::new(record, false, held);
        stream.request.place = Place::Done;
        stream.method = if head { Method::Head } else { Method::Other };
        stream.charge(charge, held);
        stream
    }

    fn new(record: Box<Exchange>, pushed: bool, held: &mut Held) -> Self {
        let (request, response) = (Half::default(), Half::default());
        let (content, method) = (Content::default(), Method::Other);
        held.add_head(CHARGE);
        Self { record, request, response, content, method, pushed, fault: None, only_head: None, charged: CHARGE }
    }

    pub(super) fn count(&mut self, from: Side, bytes: u64) {
        add(&mut self.record.bytes, &self.record.connection, from, bytes);
    }

    /// Something is wrong with that side's message; what was wrong first is what is said.
    pub(super) fn note(&mut self, from: Side, flaw: Flaw) {
        let whose = match from {
            Side::Client => "request",
            Side::Server => "response",
        };
        self.fault.get_or_insert_with(|| Fault {
            outcome: Outcome::Malformed,
            detail: Cow::Owned(format!("The {whose} {flaw}.")),
        });
    }

    /// The stream can be followed no further, for this reason; what was wrong before is what is said.
    pub(super) fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Whether that side's next header block is the head of a request or a final or interim response.
    pub(super) fn wants_head(&self, from: Side) -> bool {
        self.half(from).place == Place::Head
    }

    pub(super) fn request_head(&mut self, text: Text, method: Method, held: &mut Held, cx: &mut Context<'_>) {
        self.method = method;
        self.request.length = text.length.filter(|_| method != Method::Connect && !self.pushed);
        self.request.place = Place::Content;
        let (media, sized) = (text.media, self.request.length.is_some());
        self.keep_head(Side::Client, text, held);
        // Of CONNECT it is not known yet what follows.
        if method != Method::Connect && !self.pushed {
            self.content.begin(Side::Client, media, sized, &mut self.record, held, cx);
        }
        if self.pushed {
            self.end(Side::Client, cx);
        }
    }

    pub(super) fn response_head(
        &mut self,
        text: Text,
        code: Option<u16>,
        began: UnixMicros,
        ends: bool,
        held: &mut Held,
        cx: &mut Context<'_>,
    ) {
        if matches!(code, Some(100..=199)) {
            return self.interim(text, ends, held, cx);
        }
        let tunnel = self.method == Method::Connect && matches!(code, Some(200..=299));
        self.response.empty = self.method == Method::Head || matches!(code, Some(204 | 304));
        self.response.length = text.length.filter(|_| !self.response.empty && !tunnel);
        self.response.place = Place::Content;
        self.record.response = Some(Message::default());
        self.record.timing.first_byte = Some(after(self.record.time, began));
        let (media, sized) = (text.media, self.response.length.is_some());
        self.keep_head(Side::Server, text, held);
        match self.response.empty {
            _ if tunnel => {
                let asking = self.request.place != Place::Done;
                self.content.begin_tunnel(asking, &mut self.record, held, cx);
            }
            true => {}
            false => self.content.begin(Side::Server, media, sized, &mut self.record, held, cx),
        }
    }

    fn interim(&mut self, text: Text, ends: bool, held: &mut Held, cx: &mut Context<'_>) {
        if ends {
            self.note(Side::Server, Flaw::InterimEnd);
        }
        if let Some(flaw) = text.flaw {
            self.note(Side::Server, flaw);
        }
        if text.cut || self.record.interim.len() + text.bytes.len() > cx.limits.head {
            drop_part(&mut self.record, "interim: beyond the limit of one head");
        } else {
            self.charge(text.bytes.len(), held);
            self.record.interim.extend_from_slice(&text.bytes);
        }
    }

    fn keep_head(&mut self, from: Side, text: Text, held: &mut Held) {
        if let Some(flaw) = text.flaw {
            self.note(from, flaw);
        }
        if text.cut {
            drop_part(
                &mut self.record,
                match from {
                    Side::Client => "request.head: beyond the limit of one head",
                    Side::Server => "response.head: beyond the limit of one head",
                },
            );
        }
        self.charge(text.bytes.len(), held);
        if let Some(message) = message_mut(&mut self.record, from) {
            message.head = text.bytes;
        }
    }

    /// A header block behind the head.
    pub(super) fn trailers(&mut self, from: Side, text: Text, ends: bool, held: &mut Held) {
        match self.half(from).place {
            Place::Done => return self.note(from, Flaw::BehindEnd),
            _ if !ends => return self.note(from, Flaw::SecondHead),
            _ => {}
        }
        if let Some(flaw) = text.flaw {
            self.note(from, flaw);
        }
        if text.cut {
            drop_part(
                &mut self.record,
                match from {
                    Side::Client => "request.trailers: beyond the limit of one head",
                    Side::Server => "response.trailers: beyond the limit of one head",
                },
            );
        }
        self.charge(text.bytes.len(), held);
        if let Some(message) = message_mut(&mut self.record, from) {
            message.trailers = text.bytes;
        }
    }

    /// A DATA frame begins.
    pub(super) fn begin_data(&mut self, from: Side, misfit: bool) {
        match self.half(from).place {
            _ if misfit => self.note(from, Flaw::Padding),
            Place::Head => self.note(from, Flaw::DataFirst),
            Place::Content => {}
            Place::Done => self.note(from, Flaw::BehindEnd),
        }
    }

    /// Content of a DATA frame, of which `left` bytes (these included) are to come.
    pub(super) fn data(&mut self, from: Side, bytes: &[u8], left: u32, held: &mut Held, cx: &mut Context<'_>) {
        let Half { place, length, empty } = *self.half(from);
        if place != Place::Content {
            return;
        }
        let so_far = message_mut(&mut self.record, from).map_or(0, |message| message.body.size);
        let expected = length.map_or(u64::from(left), |length| length.saturating_sub(so_far));
        if empty {
            self.note(from, Flaw::Content);
        }
        self.content.feed(from, bytes, expected, &mut self.record, held, cx);
    }

    /// Content that was not shown.
    pub(super) fn skip_data(&mut self, from: Side, count: u64) {
        if self.half(from).place != Place::Content {
            return;
        }
        if self.half(from).empty {
            self.note(from, Flaw::Content);
        }
        self.content.skip(from, count, &mut self.record);
    }

    /// Whether that side's next bytes of content need to be shown.
    pub(super) fn wants_data(&self, from: Side, limits: &Limits) -> bool {
        self.half(from).place == Place::Content && self.content.wants(from, &self.record, limits)
    }

    /// END_STREAM of that side.
    pub(super) fn end(&mut self, from: Side, cx: &mut Context<'_>) {
        let Half { place, length, .. } = *self.half(from);
        match place {
            Place::Done => return,
            Place::Head if from == Side::Server => self.note(from, Flaw::NoHead),
            _ => {
                let size = message_mut(&mut self.record, from).map_or(0, |message| message.body.size);
                if length.is_some_and(|length| length != size) {
                    self.note(from, Flaw::LengthWrong);
                }
            }
        }
        if from == Side::Client {
            self.request.place = Place::Done;
            self.record.timing.request_end = Some(after(self.record.time, cx.now));
        } else {
            self.response.place = Place::Done;
        }
        self.content.end(from, &mut self.record, cx);
    }

    /// Writes what of its content has waited long enough.
    pub(super) fn tick(&mut self, held: &mut Held, cx: &mut Context<'_>) {
        self.content.tick(&mut self.record, held, cx);
    }

    /// Whether both messages are whole.
    pub(super) fn is_whole(&self) -> bool {
        (self.request.place, self.response.place) == (Place::Done, Place::Done)
    }

    /// How far it has come.
    pub(super) fn stand(&self) -> Stand {
        match (self.request.place, self.response.place) {
            (_, Place::Done) => Stand::Answered,
            (_, Place::Content) => Stand::Answering,
            (Place::Done, Place::Head) => Stand::Waiting,
            _ => Stand::Asking,
        }
    }

    /// Nothing more comes of it: the record is written. What was wrong before goes before `fault`.
    pub(super) fn finish(mut self, fault: Option<Fault>, held: &mut Held, cx: &mut Context<'_>) {
        held.release(self.charged, self.content.held());
        self.record.timing.end = Some(after(self.record.time, cx.now));
        match self.content.close(self.fault, fault, &mut self.record, cx) {
            Some(fault) => {
                self.record.outcome = fault.outcome;
                self.record.detail = Some(fault.detail);
            }
            None if self.pushed => self.record.detail = Some(Cow::Borrowed("The server pushed it (PUSH_PROMISE).")),
            None => {}
        }
        cx.out.push(Event::Exchange(self.record));
    }

    fn half(&self, from: Side) -> &Half {
        match from {
            Side::Client => &self.request,
            Side::Server => &self.response,
        }
    }

    fn charge(&mut self, bytes: usize, held: &mut Held) {
        self.charged += bytes;
        held.add_head(bytes);
    }
}
