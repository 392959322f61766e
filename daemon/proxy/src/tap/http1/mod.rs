//! The tap for HTTP/1.x (RFC 9112): two readers, one a side, and between them a queue of exchanges that wait for their
//! response. It refuses to repair: where two honest readers could disagree about where a message ends, it stops.
//!
//! What is recorded when the bytes are not the plain case:
//!
//! | bytes | record |
//! |---|---|
//! | bare LF as line end of a head, obs-fold in ordinary fields, repeated identical Content-Length, missing or double Host, empty lines before a request, absent reason phrase, whitespace before the colon of an ordinary field, blanks behind a chunk size | complete: only one reading |
//! | Content-Length or Transfer-Encoding in what has no body (HEAD, 1xx, 204, 304), whatever it says | complete (§6.3 rule 1) |
//! | a response's Transfer-Encoding that does not end in chunked | complete, body until close (§6.3 rule 4); codings other than chunked stay as sent |
//! | a final response before the request was whole | complete when the request ends or the connection does; then with a sentence |
//! | Content-Length and Transfer-Encoding; Content-Lengths that differ, have a sign, a list, a fold; Transfer-Encoding that is no list of tokens, has chunked twice, stands in HTTP/1.0, or (request) does not end in chunked; whitespace before the colon of either; a fold or a decorated name that hides either | malformed |
//! | bare CR or NUL in a head; a field line without name or colon, or beginning with whitespace as the first one; a start line that is none | malformed |
//! | chunk framing: a size that is not plain hexadecimal within 64 bits, bare LF, bare CR, data longer or shorter than its size; a trailer section that is none | malformed |
//! | bytes from the server when no request waits; 101 before the request was whole | malformed |
//! | a head, chunk line, trailer section, number of fields or queue beyond [`super::Limits`] | passthrough: nothing was wrong but our limit |
//!
//! What follows from a flaw: the exchange says so. If the request was at fault, the client's side is read no further,
//! while the server's is followed until the requests that were understood (and the first one that was not) have their
//! response: what a server answers to an odd request is worth knowing. If the response was at fault, both sides are
//! over. Then the connection gets a summary of its own when it ends, with all its bytes.
//!
//! A connection that becomes a WebSocket by a 101 that both heads agree on is handed to [`super::messages`]; the exchange
//! is written when it ends.
//!
//! Behind a request that may switch protocols (CONNECT, Upgrade), the client's bytes are held unread, up to the limit
//! of a head, until the response says what they are.

mod blame;
mod body;
mod chunked;
mod flaw;
mod framing;
mod head;
mod open;
mod passing;
mod requests;
mod responses;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use nodetap_core::exchange::{Connection, Exchange, Micros, Outcome, UnixMicros};

use super::messages::{Fault, WebSocket};
use super::{Context, End, Side, Verdict};
use blame::Ends;
use body::Body;
use flaw::Flaw;
use framing::{Length, RequestFacts, ResponseFacts};
pub(in crate::tap) use framing::{is_token, number};
use head::{HeadReader, Read};
use open::{Open, Progress};
pub(in crate::tap) use open::{add, after};

/// What the next byte of the client is.
#[derive(Debug)]
enum Requests {
    /// Of a new request, or an empty line before it; the CR of one may have come.
    Between {
        cr: bool,
    },
    Head,
    Body(Body),
    /// Unknown until the response to a request to switch has come.
    Held,
    /// Not read any more.
    Blind,
}

/// Bytes of the client that wait for a response to tell what they are.
#[derive(Debug, Default)]
struct HeldBytes {
    bytes: Vec<u8>,
    /// Of them, whether they are here or not.
    count: u64,
    since: UnixMicros,
    over: bool,
}

/// The connection goes on in HTTP/2 (RFC 7540 §3.2).
#[derive(Debug)]
pub(in crate::tap) struct Upgraded {
    /// The request that asked for it, which is whole; its final response is the first one of HTTP/2.
    pub(in crate::tap) record: Box<Exchange>,
    pub(in crate::tap) is_head: bool,
    /// What the client sent too early, and since when.
    pub(in crate::tap) client: Vec<u8>,
    pub(in crate::tap) since: UnixMicros,
    /// What the server sent behind its 101.
    pub(in crate::tap) server: Vec<u8>,
    pub(in crate::tap) client_fin: bool,
}

/// The conversation of one connection.
#[derive(Debug)]
pub(in crate::tap) struct Http1 {
    /// The front one is being answered, the back one is being asked.
    open: VecDeque<Open>,
    requests: Requests,
    request_head: HeadReader,
    response_head: HeadReader,
    /// Of the response at the front, once its head is whole.
    response_body: Option<Body>,
    held: HeldBytes,
    /// What the exchange at the front, the only one, became.
    websocket: Option<Box<WebSocket>>,
    /// Empty lines before the next request.
    stray: u64,
    begun: bool,
    ends: Ends,
    /// Why the client's side is not read any more.
    blind: Option<Verdict>,
    upgraded: Option<Box<Upgraded>>,
}

impl Http1 {
    pub(in crate::tap) fn new() -> Self {
        Self {
            open: VecDeque::new(),
            requests: Requests::Between { cr: false },
            request_head: HeadReader::default(),
            response_head: HeadReader::default(),
            response_body: None,
            held: HeldBytes::default(),
            websocket: None,
            stray: 0,
            begun: false,
            ends: Ends::default(),
            blind: None,
            upgraded: None,
        }
    }

    /// Bytes of memory that are held of what is open.
    pub(in crate::tap) fn held(&self) -> usize {
        let heads = self.request_head.held() + self.response_head.held() + self.held.bytes.capacity();
        let websocket = self.websocket.as_ref().map_or(0, |websocket| websocket.held());
        self.open.iter().map(Open::held).sum::<usize>() + heads + websocket
    }

    /// Is nothing open?
    pub(in crate::tap) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.held.count == 0
    }

    /// What waits for its response goes to another server.
    pub(in crate::tap) fn relocate(&mut self, connection: &Arc<Connection>, connected: Option<Micros>) {
        for (index, open) in self.open.iter_mut().enumerate() {
            // Those behind the first find the connection standing.
            open.relocate(connection, connected.filter(|_| index == 0));
        }
    }

    /// After [`Self::observe`]: whether what follows is HTTP/2. This tap is over, then.
    pub(in crate::tap) fn upgraded(&mut self) -> Option<Box<Upgraded>> {
        self.upgraded.take()
    }

    /// Reads on. A verdict means that the tap is over: all records are out.
    pub(in crate::tap) fn observe(&mut self, from: Side, bytes: &[u8], cx: &mut Context<'_>) -> Option<Verdict> {
        if self.websocket.is_some() {
            self.frames(from, bytes, cx);
            return None;
        }
        match from {
            Side::Client => {
                self.client(bytes, cx);
                self.verdict_if_blind()
            }
            Side::Server => self.server(bytes, cx).or_else(|| self.verdict_if_blind()),
        }
    }

    /// How many of the next bytes of that side need only be counted.
    pub(in crate::tap) fn skippable(&self, from: Side, cap: usize) -> u64 {
        if let Some(websocket) = &self.websocket {
            return websocket.skippable(from, cap);
        }
        match (from, &self.requests) {
            (Side::Client, Requests::Blind) => u64::MAX,
            (Side::Client, Requests::Held) if self.held.over => u64::MAX,
            (Side::Client, Requests::Body(body)) => self.open.back().map_or(0, |open| open.skippable(from, body, cap)),
            (Side::Client, _) => 0,
            (Side::Server, _) => match (&self.response_body, self.open.front()) {
                (Some(body), Some(open)) => open.skippable(from, body, cap),
                _ => 0,
            },
        }
    }

    /// Counts bytes that were not shown.
    pub(in crate::tap) fn skip(&mut self, from: Side, count: u64, cx: &mut Context<'_>) -> Option<Verdict> {
        if self.websocket.is_some() {
            self.skip_frames(from, count, cx);
            return None;
        }
        if count > self.skippable(from, cx.limits.body) {
            return match from {
                Side::Client => {
                    self.client_flaw(Flaw::NotShown, cx);
                    self.verdict_if_blind()
                }
                Side::Server => Some(self.server_flaw(Flaw::NotShown, cx)),
            };
        }
        let whole = match (from, &mut self.requests, &mut self.response_body) {
            (Side::Client, Requests::Body(body), _) => {
                self.open.back_mut().is_some_and(|open| open.skip(from, body, count))
            }
            (Side::Server, _, Some(body)) => self.open.front_mut().is_some_and(|open| open.skip(from, body, count)),
            (Side::Client, Requests::Held, _) => {
                self.held.count += count;
                false
            }
            _ => false,
        };
        match from {
            Side::Client if whole => self.request_done(cx),
            Side::Server if whole => self.response_done(cx),
            _ => {}
        }
        self.verdict_if_blind()
    }

    /// That side sends no more.
    pub(in crate::tap) fn ended(&mut self, from: Side, end: End, cx: &mut Context<'_>) -> Option<Verdict> {
        self.ends.note(from, end);
        if self.websocket_ended(from, end) {
            return None;
        }
        if (from, end) == (Side::Server, End::Fin) && matches!(self.response_body, Some(Body::UntilClose)) {
            self.response_done(cx);
        }
        if (from, end) == (Side::Client, End::Fin) {
            self.cut_request(cx);
        }
        self.verdict_if_blind()
    }

    /// The connection is over: what is open is written down as it is. A verdict when bytes are left that no exchange
    /// accounts for.
    pub(in crate::tap) fn finish(&mut self, cx: &mut Context<'_>) -> Option<Verdict> {
        self.finish_websocket(cx);
        self.settle_cut_heads(cx);
        while let Some(open) = self.open.pop_front() {
            let fault = self.ends.blame(&open);
            open.finish(Some(fault), cx);
        }
        let held = (self.held.over || !self.held.bytes.is_empty()).then(|| {
            let detail = "Bytes came behind a request to switch protocols that was never answered.";
            Verdict::http1(Outcome::Passthrough, Cow::Borrowed(detail))
        });
        self.blind.take().or(held)
    }

    /// The verdict on the client's side, once nothing is open that the server's could still add to.
    fn verdict_if_blind(&mut self) -> Option<Verdict> {
        if self.open.is_empty() { self.blind.take() } else { None }
    }

    /// Heads that are not whole go to the exchanges at both ends of the queue.
    fn settle_cut_heads(&mut self, cx: &mut Context<'_>) {
        let (request, response) = (self.request_head.take(), self.response_head.take());
        if let Some(open) = self.open.back_mut().filter(|_| !request.is_empty()) {
            open.set_odd_request_head(request);
        }
        if let Some(open) = self.open.front_mut().filter(|_| !response.is_empty()) {
            open.set_cut_response_head(response, cx.limits.head);
        }
    }
}

/// What is wrong with whose message, as one sentence.
fn sentence(from: Side, flaw: Flaw) -> Cow<'static, str> {
    let whose = match from {
        Side::Client => "request",
        Side::Server => "response",
    };
    Cow::Owned(format!("The {whose} {flaw}."))
}
