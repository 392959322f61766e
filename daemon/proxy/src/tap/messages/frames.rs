//! One direction of a WebSocket (RFC 6455 §5): frames in whatever pieces become messages. It refuses to know what the
//! other side sends, and how the connection ends.
//!
//! A violation is said of the message in which it stands; reading goes on, since frames say where they end. It stops
//! where a length cannot be one (its highest bit is set), or after [`VIOLATIONS`]: then what passes is no WebSocket.

use nodetap_core::exchange::{Body, MessageKind, Outcome, UnixMicros};

use super::super::{Context, Side};
use super::extensions::Extensions;
use super::inflate::{Inflater, Stop};
use super::journal::{Draft, Fault, Journal};
use super::kept::keep;

/// Malformed messages of one side before it is not read any more.
const VIOLATIONS: u32 = 16;
/// The longest head of a frame: two bytes, eight of length, four of mask.
const HEAD: usize = 14;
/// The most bytes that a control frame may carry (§5.5).
const CONTROL: u64 = 125;
const SCRATCH: usize = 2048;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV: u8 = 0x70;
const MASK: u8 = 0x80;

/// The head of a frame (§5.2).
#[derive(Debug, Clone, Copy)]
struct FrameHead {
    fin: bool,
    /// The three reserved bits, where they stand.
    reserved: u8,
    opcode: u8,
    mask: Option<[u8; 4]>,
    length: u64,
    /// The length is written in as few bytes as can be.
    minimal: bool,
}

/// Collects the head of a frame.
#[derive(Debug, Default)]
struct HeadReader {
    bytes: [u8; HEAD],
    have: usize,
    since: UnixMicros,
}

impl HeadReader {
    /// How long the head is, as far as its first two bytes say.
    fn size(&self) -> usize {
        let [_, second, ..] = self.bytes;
        let length = match (self.have, second & !MASK) {
            (0 | 1, _) => return 2,
            (_, 126) => 2,
            (_, 127) => 8,
            _ => 0,
        };
        2 + length + if second & MASK == 0 { 0 } else { 4 }
    }

    /// Takes bytes up to the end of the head: how many, and the head if it is whole.
    fn read(&mut self, bytes: &[u8], now: UnixMicros) -> (usize, Option<FrameHead>) {
        if self.have == 0 {
            self.since = now;
        }
        for (used, byte) in bytes.iter().enumerate() {
            if let Some(place) = self.bytes.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have >= self.size() {
                return (used + 1, Some(self.whole()));
            }
        }
        (bytes.len(), None)
    }

    fn whole(&self) -> FrameHead {
        let [first, second, rest @ ..] = self.bytes;
        let number = |count: usize| rest.iter().take(count).fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
        let (bytes, length, least) = match second & !MASK {
            126 => (2, number(2), 126),
            127 => (8, number(8), 1 << 16),
            length => (0, u64::from(length), 0),
        };
        let mask = rest.get(bytes..bytes + 4).and_then(|mask| mask.try_into().ok()).filter(|_| second & MASK != 0);
        FrameHead {
            fin: first & FIN != 0,
            reserved: first & RSV,
            opcode: first & 0x0f,
            mask,
            length,
            minimal: length >= least,
        }
    }
}

/// A frame whose payload is coming.
#[derive(Debug)]
struct Frame {
    left: u64,
    mask: Option<[u8; 4]>,
    /// Bytes of the payload so far.
    at: u64,
    /// It ends the message that it belongs to.
    last: bool,
    /// It is a message by itself, whatever message is under way.
    lone: bool,
}

/// What is done with the payload of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    AsSent,
    Inflated,
    Counted,
}

#[derive(Debug)]
struct Partial {
    kind: MessageKind,
    since: UnixMicros,
    until: UnixMicros,
    body: Body,
    wire: u64,
    compressed: bool,
    treatment: Treatment,
    fault: Option<Fault>,
}

/// Reads the frames of one side.
#[derive(Debug)]
pub(super) struct Frames {
    from: Side,
    head: HeadReader,
    frame: Option<Frame>,
    /// The data message under way.
    message: Option<Partial>,
    /// The control frame under way.
    lone: Option<Partial>,
    inflater: Option<Inflater>,
    foreign: bool,
    violations: u32,
    /// Why it is not read any more.
    blind: Option<Fault>,
    closed: bool,
    /// Bytes of all its messages.
    size: u64,
}

impl Frames {
    pub(super) fn new(from: Side, extensions: Extensions) -> Self {
        let inflater = extensions.deflate.map(|deflate| {
            Inflater::new(match from {
                Side::Client => !deflate.client_no_context_takeover,
                Side::Server => !deflate.server_no_context_takeover,
            })
        });
        Self {
            from,
            head: HeadReader::default(),
            frame: None,
            message: None,
            lone: None,
            inflater,
            foreign: extensions.foreign,
            violations: 0,
            blind: None,
            closed: false,
            size: 0,
        }
    }

    /// Why that side is not read any more.
    pub(super) fn blind(&self) -> Option<&Fault> {
        self.blind.as_ref()
    }

    /// Nothing of that side is read from here on.
    pub(super) fn give_up(&mut self, why: Fault) {
        self.blind.get_or_insert(why);
    }

    /// It sent a Close frame.
    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    /// It stands between two messages.
    pub(super) fn between(&self) -> bool {
        self.head.have == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Bytes of the messages that it sent.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are held of messages which are not whole.
    pub(super) fn held(&self) -> usize {
        [&self.message, &self.lone].into_iter().flatten().map(|partial| partial.body.kept.len()).sum()
    }

    pub(super) fn read(&mut self, mut bytes: &[u8], journal: &mut Journal, cx: &mut Context<'_>) {
        while !bytes.is_empty() && self.blind.is_none() {
            let used = match &self.frame {
                None => self.head(bytes, journal, cx),
                Some(_) => self.payload(bytes, cx),
            };
            bytes = bytes.get(used..).unwrap_or_default();
            self.settle(journal, cx);
        }
    }

    /// How many of the next bytes need only be counted.
    pub(super) fn skippable(&self, cap: usize) -> u64 {
        let Some(frame) = self.frame.as_ref().filter(|_| self.blind.is_none()) else {
            return if self.blind.is_some() { u64::MAX } else { 0 };
        };
        match if frame.lone { &self.lone } else { &self.message } {
            Some(Partial { treatment: Treatment::AsSent, body, .. }) if body.kept.len() >= cap => frame.left,
            Some(Partial { treatment: Treatment::Counted, .. }) => frame.left,
            _ => 0,
        }
    }

    /// Counts bytes that were not shown, at most [`Self::skippable`].
    pub(super) fn skip(&mut self, count: u64, journal: &mut Journal, cx: &mut Context<'_>) {
        let Some(frame) = self.frame.as_mut().filter(|_| self.blind.is_none()) else { return };
        frame.left = frame.left.saturating_sub(count);
        frame.at = frame.at.wrapping_add(count);
        if let Some(partial) = if frame.lone { &mut self.lone } else { &mut self.message } {
            partial.wire = partial.wire.saturating_add(count);
            partial.until = cx.now;
            if partial.treatment == Treatment::AsSent {
                partial.body.size = partial.body.size.saturating_add(count);
            }
        }
        self.settle(journal, cx);
    }

    /// No more comes: what is under way is written as it is, because of `fault` if nothing else was wrong with it.
    pub(super) fn end(&mut self, fault: &Fault, journal: &mut Journal, cx: &mut Context<'_>) {
        for partial in [self.message.take(), self.lone.take()].into_iter().flatten() {
            self.write(Partial { fault: partial.fault.or_else(|| Some(fault.clone())), ..partial }, journal, cx);
        }
    }

    fn head(&mut self, bytes: &[u8], journal: &mut Journal, cx: &mut Context<'_>) -> usize {
        let (used, Some(head)) = self.head.read(bytes, cx.now) else { return bytes.len() };
        let (wire, since) = (self.head.have as u64, self.head.since);
        self.head = HeadReader::default();
        if head.length >> 63 != 0 {
            let detail = format!("The {} sent a WebSocket frame whose length has its highest bit set.", self.name());
            self.blind = Some(Fault::malformed(detail));
            return used;
        }
        let lone = head.opcode > 2;
        let fault = self.judge(&head);
        if lone || head.opcode != 0 || self.message.is_none() {
            let partial = self.begin(&head, since, cx.now);
            if lone {
                self.lone = Some(partial);
            } else if let Some(unfinished) = self.message.replace(partial) {
                let why = "Another message began before it was finished.";
                let fault = unfinished.fault.clone().or_else(|| Some(Fault::malformed(why)));
                self.write(Partial { fault, ..unfinished }, journal, cx);
            }
        }
        if let Some(partial) = if lone { &mut self.lone } else { &mut self.message } {
            partial.wire = partial.wire.saturating_add(wire);
            partial.until = cx.now;
            partial.fault = partial.fault.take().or(fault);
        }
        self.frame = Some(Frame { left: head.length, mask: head.mask, at: 0, last: lone || head.fin, lone });
        used
    }

    fn begin(&mut self, head: &FrameHead, since: UnixMicros, now: UnixMicros) -> Partial {
        let kind = match head.opcode {
            1 => MessageKind::Text,
            8 => MessageKind::Close,
            9 => MessageKind::Ping,
            10 => MessageKind::Pong,
            _ => MessageKind::Binary,
        };
        let compressed = head.reserved & RSV1 != 0 && matches!(head.opcode, 1 | 2) && self.inflater.is_some();
        let (mut treatment, mut fault) = (Treatment::AsSent, None);
        if let Some(inflater) = self.inflater.as_mut().filter(|_| compressed) {
            match inflater.begin() {
                Ok(()) => treatment = Treatment::Inflated,
                Err(stop) => {
                    let why = match stop {
                        Stop::NoWindow => "too many compressed WebSockets are open",
                        Stop::Invalid | Stop::TooMuch => "a message before it was not, to which it may refer",
                    };
                    fault = Some(Fault::passthrough(format!("It is kept as sent and was not inflated: {why}.")));
                }
            }
        }
        Partial { kind, since, until: now, body: Body::default(), wire: 0, compressed, treatment, fault }
    }

    /// What is wrong with a frame by its head.
    fn judge(&self, head: &FrameHead) -> Option<Fault> {
        let control = head.opcode & 8 != 0;
        let expected = if matches!(head.opcode, 1 | 2) && self.inflater.is_some() { RSV1 } else { 0 };
        let unexpected = head.reserved & !expected != 0;
        let wrong = match (self.from, head.mask) {
            _ if matches!(head.opcode, 3..=7 | 11..) => "It has a reserved opcode.",
            _ if unexpected && !self.foreign => "It has a reserved bit set that no extension explains.",
            _ if control && !head.fin => "It is a control frame that is fragmented.",
            _ if control && head.length > CONTROL => "It is a control frame of more than 125 bytes.",
            _ if head.opcode == 0 && self.message.is_none() => "It continues a message that was never begun.",
            (Side::Client, None) => "It is not masked, as a client's frames must be.",
            (Side::Server, Some(_)) => "It is masked, as a server's frames must not be.",
            _ if !head.minimal => "It has a length that is not written in as few bytes as can be.",
            _ if self.closed && !control => "It is data that came behind a Close frame of the same side.",
            _ if unexpected => {
                let detail = "It is kept as sent: an extension that is not known here may have changed it.";
                return Some(Fault::passthrough(detail));
            }
            _ => return None,
        };
        Some(Fault::malformed(wrong))
    }

    fn payload(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        let Some(frame) = &mut self.frame else { return 0 };
        let used = usize::try_from(frame.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let data = bytes.get(..used).unwrap_or_default();
        if let Some(partial) = if frame.lone { &mut self.lone } else { &mut self.message } {
            partial.wire = partial.wire.saturating_add(used as u64);
            partial.until = cx.now;
            match partial.treatment {
                Treatment::AsSent => {
                    let before = partial.body.kept.len();
                    keep(&mut partial.body, data, cx.limits.body, Some(frame.left));
                    unmask(partial.body.kept.get_mut(before..).unwrap_or_default(), frame.mask, frame.at);
                }
                Treatment::Inflated => inflate(partial, self.inflater.as_mut(), data, frame, cx.limits.body),
                Treatment::Counted => {}
            }
        }
        frame.left -= used as u64;
        frame.at = frame.at.wrapping_add(used as u64);
        used
    }

    /// A frame that is whole ends, and with it perhaps its message.
    fn settle(&mut self, journal: &mut Journal, cx: &mut Context<'_>) {
        let Some(Frame { last, lone, .. }) = self.frame.take_if(|frame| frame.left == 0) else { return };
        if !last {
            return;
        }
        let Some(mut partial) = (if lone { self.lone.take() } else { self.message.take() }) else { return };
        if let Some(inflater) = self.inflater.as_mut().filter(|_| partial.treatment == Treatment::Inflated)
            && let Err(stop) = inflater.end(&mut partial.body, cx.limits.body)
        {
            not_inflated(&mut partial, stop);
        }
        if partial.fault.is_none() {
            partial.fault = partial.content_fault().map(Fault::malformed);
        }
        self.closed |= partial.kind == MessageKind::Close;
        self.write(partial, journal, cx);
    }

    fn write(&mut self, partial: Partial, journal: &mut Journal, cx: &mut Context<'_>) {
        let Partial { kind, since, until, body, wire, compressed, fault, .. } = partial;
        self.size = self.size.saturating_add(body.size);
        if fault.as_ref().is_some_and(|fault| fault.outcome == Outcome::Malformed) {
            self.violations += 1;
            if self.violations >= VIOLATIONS {
                let detail = format!("The {} sent {VIOLATIONS} malformed WebSocket messages.", self.name());
                self.blind.get_or_insert(Fault::malformed(detail));
            }
        }
        journal.write(Draft { from: self.from, kind, since, until, body, wire, compressed, fault }, cx);
    }

    fn name(&self) -> &'static str {
        match self.from {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

impl Partial {
    /// What is wrong with a message by its content, as far as that is kept.
    fn content_fault(&self) -> Option<&'static str> {
        let whole = self.body.size == self.body.kept.len() as u64;
        match self.kind {
            MessageKind::Text if !is_text(&self.body.kept, whole) => Some("It is a text that is not valid UTF-8."),
            MessageKind::Close if whole => match &self.body.kept[..] {
                [] => None,
                [_] => Some("It is a Close frame with half a code."),
                [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
                    1000..=1003 | 1007..=1014 | 3000..=4999 if is_text(reason, true) => None,
                    1000..=1003 | 1007..=1014 | 3000..=4999 => {
                        Some("It is a Close frame whose reason is not valid UTF-8.")
                    }
                    _ => Some("It is a Close frame with a code that may not be sent."),
                },
            },
            _ => None,
        }
    }
}

/// Whether it is UTF-8; one that is not whole may end within a character.
fn is_text(bytes: &[u8], whole: bool) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => !whole && error.error_len().is_none(),
    }
}

fn inflate(partial: &mut Partial, inflater: Option<&mut Inflater>, data: &[u8], frame: &Frame, cap: usize) {
    let Some(inflater) = inflater else { return };
    let mut scratch = [0; SCRATCH];
    let mut at = frame.at;
    for part in data.chunks(SCRATCH) {
        let Some(plain) = scratch.get_mut(..part.len()) else { return };
        plain.copy_from_slice(part);
        unmask(plain, frame.mask, at);
        at = at.wrapping_add(part.len() as u64);
        if let Err(stop) = inflater.feed(plain, &mut partial.body, cap) {
            return not_inflated(partial, stop);
        }
    }
}

fn not_inflated(partial: &mut Partial, stop: Stop) {
    partial.treatment = Treatment::Counted;
    partial.fault.get_or_insert(match stop {
        Stop::Invalid => {
            // How much came of it before depends on how its bytes were cut.
            partial.body = Body::default();
            Fault::malformed(format!("It could not be inflated: {stop}."))
        }
        Stop::TooMuch | Stop::NoWindow => {
            Fault::passthrough(format!("Only the first bytes of it were inflated: {stop}."))
        }
    });
}

/// Takes the mask off bytes that stand `at` this place of a payload (§5.3).
fn unmask(bytes: &mut [u8], mask: Option<[u8; 4]>, at: u64) {
    let Some([a, b, c, d]) = mask else { return };
    let mask = match at % 4 {
        0 => [a, b, c, d],
        1 => [b, c, d, a],
        2 => [c, d, a, b],
        _ => [d, a, b, c],
    };
    for four in bytes.chunks_mut(4) {
        four.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}
