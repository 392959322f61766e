//! An exchange while it is going on. It refuses to know how bytes are read; it knows what is written down at the end.

use std::borrow::Cow;
use std::sync::Arc;

use nodetap_core::exchange::{
    Bytes, Connection, Direction, Exchange, Message, Micros, Outcome, Protocol, Timing, UnixMicros,
};
use nodetap_core::head::Head;

use super::super::messages::{Bodies, Fault};
use super::super::{Context, Side};
use super::framing::{Method, RequestFacts};

/// How far the response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    NotBegun,
    /// Its head is in the making (or an interim response's).
    Head,
    /// Its head is whole, so that it is known to be final and no switch of protocols.
    Body,
    Done,
}

/// A record in the making.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) record: Box<Exchange>,
    method: Option<Method>,
    pub(super) may_switch: bool,
    /// Nothing more is read of the request: it is whole, or at fault.
    pub(super) request_over: bool,
    pub(super) response: Progress,
    pub(super) fault: Option<Fault>,
    pub(super) bodies: Bodies,
}

impl Open {
    /// Begins with the first byte of a request.
    pub(super) fn new(cx: &mut Context<'_>, first: bool) -> Self {
        let stood = |wait| cx.connection.accepted.saturating_add(wait);
        let connected = cx.connected.filter(|_| first).map(|wait| after(cx.now, stood(wait)));
        let record = Box::new(Exchange {
            id: cx.ids.next(cx.now),
            connection: Arc::clone(cx.connection),
            time: cx.now,
            protocol: Protocol::Http11,
            stream: None,
            tls: cx.tls.cloned(),
            request: Message::default(),
            interim: Vec::new(),
            response: None,
            timing: Timing { connected, ..Timing::default() },
            bytes: Bytes::default(),
            messages: None,
            outcome: Outcome::Complete,
            detail: None,
            redacted: Vec::new(),
            dropped: Vec::new(),
        });
        Self {
            record,
            method: None,
            may_switch: false,
            request_over: false,
            response: Progress::NotBegun,
            fault: None,
            bodies: Bodies::default(),
        }
    }

    /// It goes to the server of `connection`, which stood `connected` after the accept.
    pub(super) fn relocate(&mut self, connection: &Arc<Connection>, connected: Option<Micros>) {
        self.record.connection = Arc::clone(connection);
        let stood = |wait| after(self.record.time, connection.accepted.saturating_add(wait));
        self.record.timing.connected = connected.map(stood);
    }

    pub(super) fn count(&mut self, from: Side, bytes: u64) {
        add(&mut self.record.bytes, &self.record.connection, from, bytes);
    }

    /// Bytes of memory that its request holds.
    pub(super) fn request_held(&self) -> usize {
        let request = &self.record.request;
        request.head.capacity() + request.body.kept.capacity() + request.trailers.capacity()
    }

    /// Bytes of memory that it holds.
    pub(super) fn held(&self) -> usize {
        let response = self.record.response.as_ref().map_or(0, |response| {
            response.head.capacity() + response.body.kept.capacity() + response.trailers.capacity()
        });
        self.request_held() + self.record.interim.capacity() + response + self.bodies.held()
    }

    pub(super) fn set_request_head(&mut self, head: Vec<u8>, facts: RequestFacts) {
        self.record.request.head = head;
        self.record.protocol = if facts.http10 { Protocol::Http10 } else { Protocol::Http11 };
        self.method = Some(facts.method);
        self.may_switch = facts.may_switch;
    }

    /// A head that is cut or wrong: what it says is believed as far as it goes.
    pub(super) fn set_odd_request_head(&mut self, head: Vec<u8>) {
        let line = Head::parse(&head).start.request();
        self.method = Some(Method::of(line.method));
        if line.version == b"HTTP/1.0" {
            self.record.protocol = Protocol::Http10;
        }
        self.record.request.head = head;
    }

    /// Of the request, which may still be on its way: `so_far` of its head has come.
    pub(super) fn method(&self, so_far: &[u8]) -> Method {
        self.method.unwrap_or_else(|| Method::of(Head::parse(so_far).start.request().method))
    }

    pub(super) fn end_request(&mut self, now: UnixMicros) {
        self.request_over = true;
        self.record.timing.request_end = Some(after(self.record.time, now));
    }

    /// The first byte of a response has come, interim or final.
    pub(super) fn begin_response(&mut self, now: UnixMicros) {
        self.response = Progress::Head;
        self.record.timing.first_byte = Some(after(self.record.time, now));
    }

    /// An interim response is whole, the final one is yet to come. At most `limit` bytes of them are kept.
    pub(super) fn add_interim(&mut self, head: &[u8], limit: usize) {
        if self.record.interim.len() + head.len() <= limit {
            self.record.interim.extend_from_slice(head);
        } else if self.record.dropped.is_empty() {
            self.record.dropped.push(Cow::Borrowed("interim: beyond the limit of one head"));
        }
        self.response = Progress::NotBegun;
        self.record.timing.first_byte = None;
    }

    pub(super) fn set_response_head(&mut self, head: Vec<u8>) {
        self.record.response = Some(Message { head, ..Message::default() });
        self.response = Progress::Body;
    }

    /// A response head that is cut.
    pub(super) fn set_cut_response_head(&mut self, head: Vec<u8>, limit: usize) {
        match Head::parse(&head).start.status().code {
            Some(100..=199) => self.add_interim(&head, limit),
            _ => self.record.response = Some(Message { head, ..Message::default() }),
        }
    }

    /// It goes on in another protocol: the record, and whether its method is HEAD.
    pub(super) fn into_record(mut self, cx: &mut Context<'_>) -> (Box<Exchange>, bool) {
        self.bodies.finish(None, &mut self.record, cx);
        (self.record, self.method == Some(Method::Head))
    }

    /// Nothing more comes of it: the record is written.
    pub(super) fn finish(mut self, fault: Option<Fault>, cx: &mut Context<'_>) {
        self.record.timing.end = Some(after(self.record.time, cx.now));
        let fault = self.bodies.finish(fault, &mut self.record, cx);
        if let Some(fault) = fault {
            self.record.outcome = fault.outcome;
            self.record.detail = Some(fault.detail);
        }
        cx.out.push(nodetap_core::exchange::Event::Exchange(self.record));
    }
}

/// Microseconds from `time` to `now`; a clock that was set back makes it zero.
pub(in crate::tap) fn after(time: UnixMicros, now: UnixMicros) -> Micros {
    now.saturating_sub(time)
}

/// Counts bytes as the target of the connection sees them.
pub(in crate::tap) fn add(bytes: &mut Bytes, connection: &Connection, from: Side, count: u64) {
    let place = match (connection.direction, from) {
        (Direction::Inbound, Side::Client) | (Direction::Outbound, Side::Server) => &mut bytes.received,
        (Direction::Inbound, Side::Server) | (Direction::Outbound, Side::Client) => &mut bytes.sent,
    };
    *place = place.saturating_add(count);
}
