//! Taps: parsers that are shown the bytes of a tunnel *after* they were sent on, and make records of them. A tap has
//! no I/O, no clock and no way to touch the traffic; its memory is bounded by [`Limits`]. What it cannot understand
//! or finds ambiguous makes it say so in the record and go blind for the rest of the connection.
//!
//! The contract with the pump: one [`Tap`] a connection; [`Tap::observe`] for each piece of bytes, in the order in
//! which the pieces were written to the other side, so that a request is shown before its response can exist;
//! [`Tap::skip`] for bytes that [`Tap::skippable`] allows not to be shown; [`Tap::ended`] for each end of a direction;
//! [`Tap::finish`] once, when the connection is over. `now` is when the piece was read, and the same clock throughout.
//!
//! What a connection leaves: an exchange for each request, however it went, as soon as it is whole; and a
//! [`ConnectionSummary`] at its end unless exchanges alone account for it. An exchange counts the bytes of its own two
//! messages (to where the tap stopped reading them), a summary all bytes of the connection, those of its exchanges
//! included. A tap that is dropped without [`Tap::finish`] leaves nothing: what was open is the caller's to count.
//!
//! A protocol's tap stands below this one: it is made by [`sniff`], is handed the same calls, and gives a [`Verdict`]
//! when it is over before the connection is.

mod http1;
mod http2;
mod messages;
mod side;
mod sniff;
mod thrift;
pub(crate) mod tls;
mod unopened;

use std::borrow::Cow;
use std::sync::Arc;

use nodetap_core::exchange::{
    Bytes, Connection, ConnectionSummary, Event, Micros, Outcome, Protocol, Timing, TlsFacts, UnixMicros,
};
use nodetap_core::ulid::UlidSource;

use http1::{Http1, Upgraded};
use http2::Http2;
use sniff::{Guess, Sniff};
use tls::Tls;

pub use side::{End, Side};
pub use thrift::{Thrift, admit};
pub use unopened::Reason;

/// Bounds of one tap's memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes kept of each body.
    pub body: usize,
    /// Bytes of one head (or trailer section, or chunk header line) before the tap goes blind.
    pub head: usize,
    /// Field lines of one head before the tap goes blind.
    pub fields: usize,
    /// Requests waiting for their response on one connection (pipelining) before the tap goes blind.
    pub pipeline: usize,
    /// Bytes kept of requests that wait for their response when one more begins, before the tap goes blind.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 256 * 1024, head: 256 * 1024, fields: 2000, pipeline: 128, waiting: 2 * 1024 * 1024 }
    }
}

/// Bytes that the taps of one group should keep together; what a connection may keep shrinks as there are more of them.
const SHARED: usize = 64 * 1024 * 1024;

impl Limits {
    /// The limits of one of `open` connections that may keep `together` so much: at 10,000 of them all taps keep less than
    /// 400 MiB, whatever that is.
    pub fn share(&self, open: usize, together: usize) -> Self {
        let share = together.min(SHARED) / open.max(1);
        Self { body: self.body.min(share.max(1024)), waiting: self.waiting.min(share.max(self.head)), ..*self }
    }
}

/// Watches one connection. Every input is accepted: no bytes and no order of calls make it panic.
#[derive(Debug)]
pub struct Tap {
    connection: Arc<Connection>,
    /// After the connection was accepted.
    connected: Option<Micros>,
    /// The TLS around the bytes that are shown.
    tls: Option<Arc<TlsFacts>>,
    /// The TLS that is shown was to be opened.
    not_opened: Option<Reason>,
    limits: Limits,
    /// The limits when nothing has to be saved.
    full: Limits,
    thrift: Thrift,
    bytes: Bytes,
    first_byte: Option<UnixMicros>,
    stage: Stage,
    reset_by: Option<Side>,
    cut: bool,
}

#[derive(Debug)]
enum Stage {
    Sniffing(Sniff),
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    Tls(Box<Tls>),
    /// Only counted: what will be said of the connection stands.
    Opaque(Verdict),
    Finished,
}

/// What is said of a connection that exchanges do not account for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    protocol: Protocol,
    outcome: Outcome,
    detail: Cow<'static, str>,
}

impl Verdict {
    fn http1(outcome: Outcome, detail: Cow<'static, str>) -> Self {
        Self { protocol: Protocol::Http11, outcome, detail }
    }

    fn passthrough(protocol: Protocol, detail: &'static str) -> Self {
        Self { protocol, outcome: Outcome::Passthrough, detail: Cow::Borrowed(detail) }
    }
}

/// What a protocol's tap is lent for the time of one call.
struct Context<'a> {
    connection: &'a Arc<Connection>,
    /// After the connection was accepted.
    connected: Option<Micros>,
    tls: Option<&'a Arc<TlsFacts>>,
    limits: &'a Limits,
    now: UnixMicros,
    ids: &'a mut UlidSource,
    out: &'a mut Vec<Event>,
}

impl Tap {
    /// The upstream connection stood `connected` after the connection was accepted; it can be told later, too.
    pub fn new(connection: Arc<Connection>, connected: Option<Micros>, limits: Limits) -> Self {
        Self {
            connection,
            connected,
            tls: None,
            not_opened: None,
            limits,
            full: limits,
            thrift: Thrift::None,
            bytes: Bytes::default(),
            first_byte: None,
            stage: Stage::Sniffing(Sniff::default()),
            reset_by: None,
            cut: false,
        }
    }

    /// What is shown is the plaintext of TLS that was opened; to be told before the first byte is shown.
    pub fn opened(&mut self, tls: Arc<TlsFacts>) {
        self.tls = Some(tls);
    }

    /// The client speaks HTTP/1, or wrongly: it is answered as such, whatever it says. To be told before the first byte is
    /// shown.
    pub fn speaks_http1(&mut self) {
        self.stage = Stage::Http1(Box::new(Http1::new()));
    }

    /// The TLS that will be shown was to be opened, and is passed through; to be told before the first byte is shown.
    pub fn not_opened(&mut self, reason: Reason) {
        self.not_opened = Some(reason);
    }

    /// A tap that sees nothing, and says in its summary why.
    pub fn blind(connection: Arc<Connection>, why: &'static str) -> Self {
        let mut tap = Self::new(connection, None, Limits::default());
        tap.stage = Stage::Opaque(Verdict::passthrough(Protocol::Tcp, why));
        tap
    }

    /// The upstream connection stood this long after the connection was accepted; to be told before the first byte
    /// is shown.
    pub fn connected(&mut self, after_accept: Micros) {
        self.connected = Some(after_accept);
    }

    /// One connection of the client may lead to several servers (a forward proxy's): what waits for its response, and
    /// what is still to come, goes to the server of `connection`, which stood `connected` after the accept, if ever.
    pub fn relocate(&mut self, connection: &Arc<Connection>, connected: Option<Micros>) {
        self.connection = Arc::clone(connection);
        if let Stage::Http1(http1) = &mut self.stage {
            http1.relocate(connection, connected);
        }
    }

    /// Shows bytes that `from` sent. Records that became whole by them are pushed to `out`.
    pub fn observe(&mut self, from: Side, bytes: &[u8], now: UnixMicros, ids: &mut UlidSource, out: &mut Vec<Event>) {
        if bytes.is_empty() {
            return;
        }
        self.count(from, bytes.len() as u64, now);
        let (mut cx, stage) = self.lend(now, ids, out);
        if let Stage::Sniffing(sniff) = stage {
            let guess = sniff.look(from, bytes, now);
            if guess == Guess::Undecided {
                return;
            }
            let sniffed = std::mem::take(sniff);
            stage.begin(guess, sniffed, &mut cx);
        }
        stage.observe(from, bytes, &mut cx);
    }

    /// How many of the next bytes of that side the tap needs no more than the number of: zero when it wants to be
    /// shown the next one, `u64::MAX` when it will never want one again. Bodies beyond their cap are skippable to
    /// where their end is known to be.
    pub fn skippable(&self, from: Side) -> u64 {
        match &self.stage {
            Stage::Sniffing(_) => 0,
            Stage::Http1(http1) => http1.skippable(from, self.limits.body),
            Stage::Http2(http2) => http2.skippable(from, &self.limits),
            Stage::Tls(tls) if tls.wants(from) => 0,
            Stage::Tls(_) | Stage::Opaque(_) | Stage::Finished => u64::MAX,
        }
    }

    /// Whether the next byte of that side should be shown.
    pub fn wants(&self, from: Side) -> bool {
        self.skippable(from) == 0
    }

    /// Whether nothing that is still to come will be looked into.
    pub fn is_blind(&self) -> bool {
        matches!(self.stage, Stage::Opaque(_) | Stage::Finished)
    }

    /// Counts bytes of `from` that are not shown. More of them than [`Self::skippable`] allows make the tap go blind.
    pub fn skip(&mut self, from: Side, count: u64, now: UnixMicros, ids: &mut UlidSource, out: &mut Vec<Event>) {
        if count == 0 {
            return;
        }
        self.count(from, count, now);
        let (mut cx, stage) = self.lend(now, ids, out);
        match stage {
            Stage::Sniffing(_) => {
                *stage =
                    Stage::Opaque(Verdict::passthrough(Protocol::Tcp, "Bytes passed without being shown to the tap."));
            }
            Stage::Http1(http1) => {
                let verdict = http1.skip(from, count, &mut cx);
                stage.settle(verdict);
            }
            Stage::Http2(http2) => {
                let verdict = http2.skip(from, count, &mut cx);
                stage.settle(verdict);
            }
            Stage::Tls(tls) => tls.give_up(from),
            Stage::Opaque(_) | Stage::Finished => {}
        }
    }

    /// `from` sends no more.
    pub fn ended(&mut self, from: Side, end: End, now: UnixMicros, ids: &mut UlidSource, out: &mut Vec<Event>) {
        match end {
            End::Fin => {}
            End::Reset => self.reset_by = self.reset_by.or(Some(from)),
            End::Cut => self.cut = true,
        }
        let (mut cx, stage) = self.lend(now, ids, out);
        match stage {
            Stage::Sniffing(sniff) => sniff.note(from, end),
            Stage::Http1(http1) => {
                let verdict = http1.ended(from, end, &mut cx);
                stage.settle(verdict);
            }
            Stage::Http2(http2) => http2.ended(from, end),
            Stage::Tls(_) | Stage::Opaque(_) | Stage::Finished => {}
        }
    }

    /// When [`Self::tick`] is to be called though no byte passes; `None`: there is nothing that waits for the clock.
    pub fn due(&self) -> Option<UnixMicros> {
        match &self.stage {
            Stage::Http1(http1) => http1.due(),
            Stage::Http2(http2) => http2.due(),
            Stage::Sniffing(_) | Stage::Tls(_) | Stage::Opaque(_) | Stage::Finished => None,
        }
    }

    /// Writes what has waited long enough.
    pub fn tick(&mut self, now: UnixMicros, ids: &mut UlidSource, out: &mut Vec<Event>) {
        let (mut cx, stage) = self.lend(now, ids, out);
        match stage {
            Stage::Http1(http1) => http1.tick(&mut cx),
            Stage::Http2(http2) => http2.tick(&mut cx),
            Stage::Sniffing(_) | Stage::Tls(_) | Stage::Opaque(_) | Stage::Finished => {}
        }
    }

    /// From time to time, for connections that stay open: a summary so far of one that will have a summary at its end.
    pub fn still_open(&mut self, now: UnixMicros, ids: &mut UlidSource, out: &mut Vec<Event>) {
        let (verdict, facts) = match &self.stage {
            Stage::Sniffing(sniff) => (sniff.verdict(), None),
            Stage::Tls(tls) => {
                let (verdict, facts) = tls.verdict(self.not_opened);
                (verdict, Some(facts))
            }
            Stage::Opaque(verdict) => (verdict.clone(), None),
            Stage::Http1(_) | Stage::Http2(_) | Stage::Finished => return,
        };
        let detail = Cow::Owned(format!("{} It is still open.", verdict.detail));
        self.summarise(Verdict { detail, ..verdict }, facts, now, ids, out);
    }

    /// The connection is over: writes what is open, and the summary if there is to be one. Later calls do nothing.
    pub fn finish(&mut self, now: UnixMicros, ids: &mut UlidSource, out: &mut Vec<Event>) {
        let mut stage = std::mem::replace(&mut self.stage, Stage::Finished);
        let mut facts = None;
        let verdict = match &mut stage {
            Stage::Http1(http1) => http1.finish(&mut self.lend(now, ids, out).0),
            Stage::Http2(http2) => http2.finish(&mut self.lend(now, ids, out).0),
            Stage::Sniffing(sniff) => Some(sniff.verdict()),
            Stage::Tls(tls) => {
                let (verdict, known) = tls.verdict(self.not_opened);
                facts = Some(known);
                Some(verdict)
            }
            Stage::Opaque(verdict) => Some(verdict.clone()),
            Stage::Finished => None,
        };
        if let Some(verdict) = verdict {
            let verdict = Verdict { detail: self.with_ending(verdict.detail), ..verdict };
            self.summarise(verdict, facts, now, ids, out);
        }
    }

    /// Instead of [`Self::finish`] when the upstream never stood: `outcome` is `Refused` or `Timeout`, `detail` one
    /// sentence. Nothing was sent on, so nothing can have been shown.
    pub fn unreached(
        &mut self,
        outcome: Outcome,
        detail: Cow<'static, str>,
        now: UnixMicros,
        ids: &mut UlidSource,
        out: &mut Vec<Event>,
    ) {
        if !matches!(std::mem::replace(&mut self.stage, Stage::Finished), Stage::Finished) {
            self.connected = None;
            self.summarise(Verdict { protocol: Protocol::Tcp, outcome, detail }, None, now, ids, out);
        }
    }

    /// Instead of [`Self::finish`] when TLS was to be opened and its handshake came to nothing, so that no plaintext
    /// passed: `facts` are what is known of it, `detail` is one sentence.
    pub fn no_handshake(
        &mut self,
        facts: TlsFacts,
        outcome: Outcome,
        detail: Cow<'static, str>,
        now: UnixMicros,
        ids: &mut UlidSource,
        out: &mut Vec<Event>,
    ) {
        if !matches!(std::mem::replace(&mut self.stage, Stage::Finished), Stage::Finished) {
            self.summarise(Verdict { protocol: Protocol::Tls, outcome, detail }, Some(facts), now, ids, out);
        }
    }

    fn lend<'a>(
        &'a mut self,
        now: UnixMicros,
        ids: &'a mut UlidSource,
        out: &'a mut Vec<Event>,
    ) -> (Context<'a>, &'a mut Stage) {
        let Self { connection, connected, tls, limits, stage, .. } = self;
        (Context { connection, connected: *connected, tls: tls.as_ref(), limits, now, ids, out }, stage)
    }

    fn count(&mut self, from: Side, count: u64, now: UnixMicros) {
        http1::add(&mut self.bytes, &self.connection, from, count);
        if from == Side::Server {
            self.first_byte.get_or_insert(now);
        }
    }

    fn with_ending(&self, detail: Cow<'static, str>) -> Cow<'static, str> {
        let ending = match (self.reset_by, self.cut) {
            (Some(Side::Client), _) => "The client reset the connection.",
            (Some(Side::Server), _) => "The server reset the connection.",
            (None, true) => "The connection was ended by nodetap.",
            (None, false) => return detail,
        };
        Cow::Owned(format!("{detail} {ending}"))
    }

    fn summarise(
        &mut self,
        verdict: Verdict,
        tls: Option<TlsFacts>,
        now: UnixMicros,
        ids: &mut UlidSource,
        out: &mut Vec<Event>,
    ) {
        let accepted = self.connection.accepted;
        out.push(Event::Connection(Box::new(ConnectionSummary {
            id: ids.next(accepted),
            connection: Arc::clone(&self.connection),
            protocol: verdict.protocol,
            tls,
            timing: Timing {
                connected: self.connected,
                request_end: None,
                first_byte: self.first_byte.map(|at| http1::after(accepted, at)),
                end: Some(http1::after(accepted, now)),
            },
            bytes: self.bytes,
            outcome: verdict.outcome,
            detail: Some(verdict.detail),
        })));
    }
}

impl Stage {
    /// What is spoken is known: the protocol's tap is made, and shown what came before the present piece.
    fn begin(&mut self, guess: Guess, sniffed: Sniff, cx: &mut Context<'_>) {
        *self = match guess {
            Guess::Http1 => Self::Http1(Box::new(Http1::new())),
            Guess::Http2 => Self::Http2(Box::new(Http2::new())),
            Guess::Tls => Self::Tls(Box::default()),
            Guess::Other(detail) => Self::Opaque(Verdict::passthrough(Protocol::Tcp, detail)),
            Guess::Undecided => return,
        };
        let now = std::mem::replace(&mut cx.now, sniffed.since);
        self.observe(Side::Client, &sniffed.client, cx);
        self.observe(Side::Server, &sniffed.server, cx);
        cx.now = now;
        for (from, end) in sniffed.ends {
            match self {
                Self::Http1(http1) => {
                    let verdict = http1.ended(from, end, cx);
                    self.settle(verdict);
                }
                Self::Http2(http2) => http2.ended(from, end),
                _ => {}
            }
        }
    }

    fn observe(&mut self, from: Side, bytes: &[u8], cx: &mut Context<'_>) {
        match self {
            Self::Http1(http1) => {
                let verdict = http1.observe(from, bytes, cx);
                let upgraded = http1.upgraded();
                self.settle(verdict);
                if let Some(upgraded) = upgraded {
                    self.upgrade(*upgraded, cx);
                }
            }
            Self::Http2(http2) => {
                let verdict = http2.observe(from, bytes, cx);
                self.settle(verdict);
            }
            Self::Tls(tls) => tls.observe(from, bytes),
            Self::Sniffing(_) | Self::Opaque(_) | Self::Finished => {}
        }
    }

    /// The connection goes on in HTTP/2.
    fn upgrade(&mut self, upgraded: Upgraded, cx: &mut Context<'_>) {
        let Upgraded { record, is_head, client, since, server, client_fin } = upgraded;
        *self = Self::Http2(Box::new(Http2::upgraded(record, is_head)));
        let now = std::mem::replace(&mut cx.now, since);
        self.observe(Side::Client, &client, cx);
        cx.now = now;
        if let (Self::Http2(http2), true) = (&mut *self, client_fin) {
            http2.ended(Side::Client, End::Fin);
        }
        self.observe(Side::Server, &server, cx);
    }

    fn settle(&mut self, verdict: Option<Verdict>) {
        if let Some(verdict) = verdict {
            *self = Self::Opaque(verdict);
        }
    }
}
