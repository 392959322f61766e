//! gRPC's framing (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, "Length-Prefixed-Message"): one
//! side's body becomes messages. It refuses to know frames of HTTP/2 and what the messages mean.

use nodetap_core::exchange::{Body, MessageKind, Outcome, UnixMicros};
use nodetap_core::head::Head;

use super::super::{Context, Side};
use super::inflate::{Budget, Format, Stop, whole};
use super::journal::{Draft, Fault, Journal};
use super::kept::keep;

/// A flag byte, and four of length.
const PREFIX: usize = 5;

/// What `grpc-encoding` says of one side's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Encoding {
    Identity,
    Known(Format),
    /// One that is not decompressed here.
    Other(String),
}

impl Encoding {
    fn of(head: &[u8]) -> Self {
        let field = Head::parse(head).fields().find(|field| field.is("grpc-encoding"));
        match field.map(|field| field.value.to_ascii_lowercase()).as_deref() {
            None | Some(b"identity") => Self::Identity,
            Some(b"gzip") => Self::Known(Format::Gzip),
            Some(b"deflate") => Self::Known(Format::Zlib),
            Some(name) => Self::Other(String::from_utf8_lossy(name.get(..32).unwrap_or(name)).into_owned()),
        }
    }
}

#[derive(Debug)]
struct Partial {
    since: UnixMicros,
    until: UnixMicros,
    compressed: bool,
    length: u64,
    /// As sent.
    body: Body,
}

/// Splits one side of a call into its messages.
#[derive(Debug)]
pub(super) struct Splitter {
    encoding: Encoding,
    prefix: [u8; PREFIX],
    have: usize,
    since: UnixMicros,
    message: Option<Partial>,
    budget: Budget,
    /// The framing cannot be followed.
    blind: bool,
}

impl Splitter {
    /// `head`: of that side.
    pub(super) fn new(head: &[u8]) -> Self {
        Self {
            encoding: Encoding::of(head),
            prefix: [0; PREFIX],
            have: 0,
            since: 0,
            message: None,
            budget: Budget::default(),
            blind: false,
        }
    }

    pub(super) fn is_blind(&self) -> bool {
        self.blind
    }

    /// Bytes that are held of a message which is not whole.
    pub(super) fn held(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.body.kept.len())
    }

    /// Reads on. What is wrong with the framing ends the reading.
    pub(super) fn read(
        &mut self,
        mut data: &[u8],
        from: Side,
        journal: &mut Journal,
        cx: &mut Context<'_>,
    ) -> Result<(), Fault> {
        while !data.is_empty() && !self.blind {
            let used = match &mut self.message {
                None => self.prefix(data, from, cx.now)?,
                Some(message) => {
                    let left = message.length.saturating_sub(message.body.size);
                    let used = usize::try_from(left).map_or(data.len(), |left| left.min(data.len()));
                    keep(&mut message.body, data.get(..used).unwrap_or_default(), cx.limits.body, Some(left));
                    message.until = cx.now;
                    used
                }
            };
            data = data.get(used..).unwrap_or_default();
            if let Some(message) = self.message.take_if(|message| message.body.size >= message.length) {
                self.write(message, from, journal, cx);
            }
        }
        Ok(())
    }

    /// Takes bytes of a prefix; when it is whole, its message begins.
    fn prefix(&mut self, data: &[u8], from: Side, now: UnixMicros) -> Result<usize, Fault> {
        if self.have == 0 {
            self.since = now;
        }
        let mut used = 0;
        for (place, byte) in self.prefix.iter_mut().skip(self.have).zip(data) {
            *place = *byte;
            used += 1;
        }
        self.have += used;
        if self.have == PREFIX {
            self.have = 0;
            let [flag, length @ ..] = self.prefix;
            if flag > 1 {
                self.blind = true;
                let whose = whose(from);
                let detail = format!("A message of the {whose} has the flag {flag:#04x}, which gRPC does not know.");
                return Err(Fault::malformed(detail));
            }
            self.message = Some(Partial {
                since: self.since,
                until: now,
                compressed: flag == 1,
                length: u64::from(u32::from_be_bytes(length)),
                body: Body::default(),
            });
        }
        Ok(used)
    }

    fn write(&mut self, message: Partial, from: Side, journal: &mut Journal, cx: &mut Context<'_>) {
        let Partial { since, until, compressed, length, body } = message;
        let wire = length.saturating_add(PREFIX as u64);
        let (body, fault) = if compressed { self.decompress(body, cx.limits.body) } else { (body, None) };
        journal.write(Draft { from, kind: MessageKind::Grpc, since, until, body, wire, compressed, fault }, cx);
    }

    /// The message as it was before it was compressed, or as it was sent, with the reason.
    fn decompress(&mut self, sent: Body, cap: usize) -> (Body, Option<Fault>) {
        let format = match &self.encoding {
            Encoding::Known(format) => *format,
            Encoding::Identity => {
                let detail = "It is marked as compressed although no grpc-encoding was named; it is kept as sent.";
                return (sent, Some(Fault::malformed(detail)));
            }
            Encoding::Other(name) => {
                let detail =
                    format!("It is compressed with {name}, which is not decompressed here; it is kept as sent.");
                return (sent, Some(Fault::passthrough(detail)));
            }
        };
        if sent.size > sent.kept.len() as u64 {
            let detail = "It has more compressed bytes than are kept of a body, so that it was not decompressed.";
            return (sent, Some(Fault::passthrough(detail)));
        }
        match whole(&sent.kept, format, cap, &mut self.budget) {
            (body, Ok(())) => (body, None),
            (_, Err(Stop::Invalid)) => {
                let detail = "It could not be decompressed: it is not what grpc-encoding says; it is kept as sent.";
                (sent, Some(Fault::malformed(detail)))
            }
            (body, Err(stop)) => {
                (body, Some(Fault::passthrough(format!("Only the first bytes of it were decompressed: {stop}."))))
            }
        }
    }

    /// The body is over: what of a message is there is written down. `fault`: why the exchange is not complete, if it
    /// is not; the answer is why it cannot be.
    pub(super) fn end(
        &mut self,
        fault: Option<&Fault>,
        from: Side,
        journal: &mut Journal,
        cx: &mut Context<'_>,
    ) -> Option<Fault> {
        let have = std::mem::take(&mut self.have);
        let cut = self.message.take().map(|cut| (cut.body.size.saturating_add(PREFIX as u64), cut)).or_else(|| {
            let body = Body::default();
            let cut = Partial { since: self.since, until: self.since, compressed: false, length: 0, body };
            (have > 0 && !self.blind).then_some((have as u64, cut))
        });
        let (wire, Partial { since, until, compressed, body, .. }) = cut?;
        let fault = fault
            .filter(|fault| fault.outcome != Outcome::Complete)
            .cloned()
            .unwrap_or_else(|| Fault::malformed(format!("The last message of the {} is cut short.", whose(from))));
        let kind = MessageKind::Grpc;
        let draft = Draft { from, kind, since, until, body, wire, compressed, fault: Some(fault.clone()) };
        journal.write(draft, cx);
        Some(fault)
    }
}

fn whose(from: Side) -> &'static str {
    match from {
        Side::Client => "request",
        Side::Server => "response",
    }
}
