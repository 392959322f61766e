//! The tap for HTTP/2 (RFC 9113): two readers of frames, one a side, and a table of the streams that are open. Each
//! stream is an exchange of its own, written when both its messages are whole, or when it is known that they will not
//! be. It refuses to enforce: windows, the number of concurrent streams and priorities are the peers' business.
//!
//! What is recorded when the bytes are not the plain case:
//!
//! | bytes | record |
//! |---|---|
//! | unknown frames, settings and flags; PRIORITY anywhere; frames on streams that are over; blanks around a value; a request without an authority | complete: they mean nothing, or have only one reading |
//! | a final response before the request was whole | complete when the request ends, the stream is reset or the connection is over; then with a sentence |
//! | PUSH_PROMISE | an exchange of its own, with a sentence |
//! | CONNECT that is accepted | both bodies are what went through |
//! | RST_STREAM, GOAWAY, the end of the connection | by whom: see [`ends`] |
//! | a message that RFC 9113 §8.1.1 calls malformed | malformed; the stream and the others are followed on |
//! | a control frame of an impossible length; a frame on a stream that is idle, or that must not carry it | ignored; the connection gets a summary that says so |
//! | no preface, no SETTINGS first, a frame beyond what the receiver allows, a header block that is interrupted or cannot be decompressed | malformed, and the tap is blind: the connection gets a summary, and what was open a record |
//! | a header block or header table beyond our limits | passthrough, and the tap is blind |
//! | fields of one head beyond [`Limits`] | left out; the exchange says so, and the stream is followed on |
//! | more bytes in open streams than [`Limits::waiting`] | bodies may take half of it, and are kept no more beyond that, which the exchange says; beyond all of it a new stream is written with nothing but its request's head, as passthrough |
//!
//! A stream counts the bytes of its own frames while it is open, with their nine bytes of header; those of the
//! connection (SETTINGS, PING, …) and of streams that are over are in no exchange. A connection without a stream gets a
//! summary.
//!
//! [`Limits`]: super::Limits
//! [`Limits::waiting`]: super::Limits::waiting

mod blocks;
mod content;
mod control;
mod ends;
mod flaw;
mod frame;
mod hpack;
mod section;
mod stream;

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use nodetap_core::exchange::{Exchange, Outcome, Protocol, UnixMicros};

use super::{Context, End, Side, Verdict};
use blocks::Block;
use content::Held;
use ends::{Ends, Fault};
use flaw::Broken;
use frame::{END_STREAM, Frame, Frames, Kind, Read};
pub(in crate::tap) use frame::{PREFACE, begins_with_settings};
use hpack::Decoder;
use section::Section;
use stream::Stream;

/// What one side sends.
#[derive(Debug)]
struct Lane {
    frames: Frames,
    decoder: Decoder,
    /// A header block that is not whole.
    block: Option<Block>,
    /// What of it has come, when it comes in pieces. At most [`super::Limits::head`] bytes.
    gathered: Vec<u8>,
    /// The first frame, which is SETTINGS, has come.
    begun: bool,
    /// The first six bytes of a setting that is not whole.
    setting: ([u8; 6], usize),
    /// The highest number of a stream that this side opened: all below that are not in the table are over.
    highest: u32,
    /// Streams of this side with a higher number will not be looked at, said the other side.
    refused_above: Option<u32>,
}

impl Lane {
    fn new(preface: bool) -> Self {
        Self {
            frames: Frames::new(preface),
            decoder: Decoder::new(),
            block: None,
            gathered: Vec::new(),
            begun: false,
            setting: ([0; 6], 0),
            highest: 0,
            refused_above: None,
        }
    }
}

/// Numbers of streams grow by two: they need no hashing to be spread.
#[derive(Debug, Default)]
struct ByNumber(u64);

impl Hasher for ByNumber {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        // The table takes its place from the low bits and a tag from the high ones.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// The conversation of one connection.
#[derive(Debug)]
pub(in crate::tap) struct Http2 {
    client: Lane,
    server: Lane,
    /// Open ones: each is charged to `held`, and that is bounded.
    streams: HashMap<u32, Box<Stream>, BuildHasherDefault<ByNumber>>,
    held: Held,
    section: Section,
    /// A stream was opened.
    begun: bool,
    ends: Ends,
    /// The first thing that was wrong with the connection although it could be followed on.
    odd: Option<(Side, Broken)>,
}

impl Http2 {
    pub(in crate::tap) fn new() -> Self {
        Self {
            client: Lane::new(true),
            server: Lane::new(false),
            streams: HashMap::default(),
            held: Held::default(),
            section: Section::default(),
            begun: false,
            ends: Ends::default(),
            odd: None,
        }
    }

    /// The connection was upgraded by this request, which is whole, and whose final response comes on stream 1; `head`:
    /// it is a HEAD request.
    pub(in crate::tap) fn upgraded(record: Box<Exchange>, head: bool) -> Self {
        let mut http2 = Self::new();
        let stream = Stream::upgraded(record, head, &mut http2.held);
        http2.streams.insert(1, Box::new(stream));
        http2.client.highest = 1;
        http2.begun = true;
        // The request's HTTP2-Settings may have allowed it.
        http2.server.decoder.allow(u32::MAX);
        http2.server.frames.allow(u32::MAX);
        http2
    }

    /// Bytes of memory that are held of what is open.
    pub(in crate::tap) fn held(&self) -> usize {
        self.held.total() + self.client.gathered.capacity() + self.server.gathered.capacity()
    }

    /// Is nothing open?
    pub(in crate::tap) fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// Reads on. A verdict means that the tap is over: all records are out.
    pub(in crate::tap) fn observe(&mut self, from: Side, mut bytes: &[u8], cx: &mut Context<'_>) -> Option<Verdict> {
        loop {
            let read = match self.lane(from).frames.next(&mut bytes, cx.now) {
                Ok(Some(read)) => read,
                Ok(None) => return None,
                Err(broken) => return Some(self.blind(from, broken, cx)),
            };
            let done = match read {
                Read::Begin(frame) => self.begin(from, frame, cx),
                Read::Content(frame, piece) => self.content(from, frame, piece, cx),
                Read::End(frame) => self.end(from, frame, cx),
            };
            if let Err(broken) = done {
                return Some(self.blind(from, broken, cx));
            }
        }
    }

    /// How many of the next bytes of that side need only be counted.
    pub(in crate::tap) fn skippable(&self, from: Side, limits: &super::Limits) -> u64 {
        let lane = match from {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        let Some((frame, left)) = lane.frames.in_content() else { return 0 };
        let wanted = match frame.kind {
            Kind::Data => self.streams.get(&frame.stream).is_some_and(|stream| stream.wants_data(from, limits)),
            Kind::Settings => true,
            kind => kind.has_block(),
        };
        if wanted { 0 } else { u64::from(left) }
    }

    /// Counts bytes that were not shown.
    pub(in crate::tap) fn skip(&mut self, from: Side, count: u64, cx: &mut Context<'_>) -> Option<Verdict> {
        if count > self.skippable(from, cx.limits) {
            return Some(self.blind(from, Broken::NotShown, cx));
        }
        if let (Some((frame, _)), Ok(skipped)) = (self.lane(from).frames.in_content(), u32::try_from(count)) {
            let (kind, id) = (frame.kind, frame.stream);
            self.lane(from).frames.skip(skipped);
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.count(from, count);
                if kind == Kind::Data {
                    stream.skip_data(from, count);
                }
            }
        }
        self.observe(from, &[], cx)
    }

    /// When [`Self::tick`] is to be called though no byte passes; it may turn out that nothing waits.
    pub(in crate::tap) fn due(&self) -> Option<UnixMicros> {
        self.held.due()
    }

    /// Writes what has waited long enough.
    pub(in crate::tap) fn tick(&mut self, cx: &mut Context<'_>) {
        if self.held.due().is_some_and(|due| due <= cx.now) {
            self.held.look_again();
            for stream in self.streams.values_mut() {
                stream.tick(&mut self.held, cx);
            }
        }
    }

    /// That side sends no more.
    pub(in crate::tap) fn ended(&mut self, from: Side, end: End) {
        self.ends.note(from, end);
    }

    /// The connection is over: what is open is written down as it is. A verdict when there is something to say of the
    /// connection that its exchanges do not say.
    pub(in crate::tap) fn finish(&mut self, cx: &mut Context<'_>) -> Option<Verdict> {
        for (_, stream) in self.take_streams(|_| true) {
            let fault = self.ends.blame(stream.stand());
            stream.finish(Some(fault), &mut self.held, cx);
        }
        if let Some((from, broken)) = self.odd {
            return Some(verdict(broken.outcome(), broken.sentence(from)));
        }
        if self.client.frames.in_preface() {
            let detail = "The connection ended within the preface of HTTP/2.";
            return Some(verdict(Outcome::Passthrough, Cow::Borrowed(detail)));
        }
        (!self.begun).then(|| verdict(Outcome::Complete, Cow::Borrowed("No request was made.")))
    }

    /// The conversation cannot be followed any more: all that is open is written as it is.
    fn blind(&mut self, from: Side, broken: Broken, cx: &mut Context<'_>) -> Verdict {
        let at_fault = self.lane(from).block.take().map(|block| block.stream);
        for (id, mut stream) in self.take_streams(|_| true) {
            if at_fault == Some(id) {
                stream.blame(Fault { outcome: broken.outcome(), detail: broken.sentence(from) });
            }
            let detail = "It could not be followed to its end: the connection was not understood any more.";
            stream.finish(
                Some(Fault { outcome: Outcome::Passthrough, detail: Cow::Borrowed(detail) }),
                &mut self.held,
                cx,
            );
        }
        let (from, broken) = self.odd.unwrap_or((from, broken));
        verdict(broken.outcome(), broken.sentence(from))
    }

    /// A frame begins: its first fields are known.
    fn begin(&mut self, from: Side, frame: Frame, cx: &mut Context<'_>) -> Result<(), Broken> {
        let lane = self.lane(from);
        if !lane.begun {
            if frame.kind != Kind::Settings || frame.has(frame::ACK) || frame.stream != 0 {
                return Err(Broken::NotSettings);
            }
            lane.begun = true;
        }
        match (&lane.block, frame.kind) {
            (Some(block), Kind::Continuation) if block.carrier == frame.stream => {}
            (Some(_), _) => return Err(Broken::Interrupted),
            (None, Kind::Continuation) => return Err(Broken::Continuation),
            (None, _) => {}
        }
        match frame.kind {
            Kind::Settings => lane.setting.1 = 0,
            kind if kind.has_block() => self.begin_block(from, &frame, cx)?,
            Kind::Data => self.begin_data(from, &frame),
            _ => {}
        }
        self.count(from, frame.stream, frame.before_content());
        Ok(())
    }

    fn begin_data(&mut self, from: Side, frame: &Frame) {
        match self.streams.get_mut(&frame.stream) {
            Some(stream) => stream.begin_data(from, frame.misfit),
            None => self.note_unknown(from, frame.stream),
        }
    }

    fn content(&mut self, from: Side, frame: Frame, piece: &[u8], cx: &mut Context<'_>) -> Result<(), Broken> {
        if frame.kind == Kind::Data {
            let left = frame.content;
            if let Some(stream) = self.streams.get_mut(&frame.stream) {
                stream.count(from, piece.len() as u64);
                stream.data(from, piece, left, &mut self.held, cx);
            }
            return Ok(());
        }
        self.count(from, frame.stream, piece.len() as u64);
        match frame.kind {
            Kind::Settings => self.settings(from, &frame, piece),
            kind if kind.has_block() => return self.block_piece(from, &frame, piece, cx),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, from: Side, frame: Frame, cx: &mut Context<'_>) -> Result<(), Broken> {
        self.count(from, frame.stream, u64::from(frame.padding));
        match frame.kind {
            Kind::Data if frame.has(END_STREAM) => self.end_message(from, frame.stream, cx),
            kind if kind.has_block() => return self.end_block_frame(from, &frame, cx),
            _ => return self.control(from, &frame, cx),
        }
        Ok(())
    }

    /// END_STREAM of that side.
    fn end_message(&mut self, from: Side, id: u32, cx: &mut Context<'_>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.end(from, cx);
        if stream.is_whole() {
            self.close(id, None, cx);
        }
    }

    /// Nothing more comes of that stream.
    fn close(&mut self, id: u32, fault: Option<Fault>, cx: &mut Context<'_>) {
        if let Some(stream) = self.streams.remove(&id) {
            stream.finish(fault, &mut self.held, cx);
        }
        if self.streams.is_empty() {
            // After a flood, the table would stay large for the rest of the connection.
            self.streams.shrink_to(TABLE_KEPT);
        }
    }

    /// Those streams that are chosen, by number.
    fn take_streams(&mut self, choose: impl Fn(u32) -> bool) -> Vec<(u32, Box<Stream>)> {
        let mut taken: Vec<_> = self.streams.extract_if(|id, _| choose(*id)).collect();
        taken.sort_unstable_by_key(|(id, _)| *id);
        taken
    }

    fn count(&mut self, from: Side, id: u32, bytes: u64) {
        if id != 0
            && let Some(stream) = self.streams.get_mut(&id)
        {
            stream.count(from, bytes);
        }
    }

    /// The connection is odd, if the stream of a frame is not one that is over.
    fn note_unknown(&mut self, from: Side, id: u32) {
        if id == 0 {
            self.note(from, Broken::WrongStream);
        } else if id > self.lane(opener(id)).highest {
            self.note(from, Broken::IdleStream);
        }
    }

    fn note(&mut self, from: Side, broken: Broken) {
        self.odd.get_or_insert((from, broken));
    }

    fn lane(&mut self, from: Side) -> &mut Lane {
        match from {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

/// Room that the table of streams keeps when none is open.
const TABLE_KEPT: usize = 128;

/// Whose streams have such numbers (RFC 9113 §5.1.1).
fn opener(id: u32) -> Side {
    if id % 2 == 1 { Side::Client } else { Side::Server }
}

fn verdict(outcome: Outcome, detail: Cow<'static, str>) -> Verdict {
    Verdict { protocol: Protocol::Http2, outcome, detail }
}
