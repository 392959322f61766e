//! An event in the few words that fit a line: what tables, the live line and filters look at.

use std::borrow::Cow;

use crate::exchange::{Connection, Direction, Event, Outcome, Protocol};
use crate::head::Head;
use crate::text::decode;
use crate::ulid::Ulid;
use crate::url;

/// What a line shows of an exchange or a connection.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    pub id: Ulid,
    pub time: u64,
    pub connection: &'a Connection,
    pub protocol: Protocol,
    /// `None`: a connection that was not looked into.
    pub http: Option<Http<'a>>,
    /// Where it went: url, or host and port.
    pub target: String,
    /// Body bytes of the response; of a connection, all that was received.
    pub size: u64,
    /// From the first byte to the last, in microseconds.
    pub duration: Option<u64>,
    pub outcome: Outcome,
    pub detail: Option<&'a str>,
}

/// What only an exchange has.
#[derive(Debug, Clone)]
pub struct Http<'a> {
    pub method: Cow<'a, str>,
    /// `None`: there was no final response, or its status line had none.
    pub status: Option<u16>,
}

impl<'a> Row<'a> {
    /// `None` for a loss.
    pub fn of(event: &'a Event) -> Option<Self> {
        match event {
            Event::Exchange(exchange) => {
                let head = Head::parse(&exchange.request.head);
                let response = exchange.response.as_ref();
                Some(Self {
                    id: exchange.id,
                    time: exchange.time,
                    connection: &exchange.connection,
                    protocol: exchange.protocol,
                    http: Some(Http {
                        method: decode(head.start.request().method),
                        status: response.and_then(|response| Head::parse(&response.head).start.status().code),
                    }),
                    target: url::of_head(&head, exchange.connection.server).text,
                    size: response.map_or(0, |response| response.body.size),
                    duration: exchange.timing.end,
                    outcome: exchange.outcome,
                    detail: exchange.detail.as_deref(),
                })
            }
            Event::Connection(summary) => {
                let server = summary.connection.server;
                let sni = summary.tls.as_ref().and_then(|tls| tls.sni.as_deref());
                Some(Self {
                    id: summary.id,
                    time: summary.connection.accepted,
                    connection: &summary.connection,
                    protocol: summary.protocol,
                    http: None,
                    target: sni.map_or_else(|| server.to_string(), |sni| format!("{sni}:{}", server.port())),
                    size: summary.bytes.received,
                    duration: summary.timing.end,
                    outcome: summary.outcome,
                    detail: summary.detail.as_deref(),
                })
            }
            Event::Message(message) => Some(Self {
                id: message.id,
                time: message.time,
                connection: &message.connection,
                protocol: message.protocol,
                http: None,
                target: message.connection.server.to_string(),
                size: message.body.size,
                duration: Some(message.end),
                outcome: message.outcome,
                detail: message.detail.as_deref(),
            }),
            Event::Loss(_) => None,
        }
    }

    /// `GET`, or what was spoken instead.
    pub fn method(&self) -> &str {
        self.http.as_ref().map_or(protocol(self.protocol), |http| &http.method)
    }

    /// `200`, or `-`.
    pub fn status(&self) -> Cow<'static, str> {
        match self.http.as_ref().and_then(|http| http.status) {
            Some(status) => Cow::Owned(status.to_string()),
            None => Cow::Borrowed("-"),
        }
    }

    /// `curl[4711]`, or nothing.
    pub fn process(&self) -> String {
        self.connection.process.as_ref().map_or_else(String::new, |one| format!("{}[{}]", one.name, one.pid))
    }
}

/// The name in records and on the command line.
pub fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

/// The name in records.
pub fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http10 => "http/1.0",
        Protocol::Http11 => "http/1.1",
        Protocol::Tls => "tls",
        Protocol::Tcp => "tcp",
        Protocol::Http2 => "h2",
        Protocol::Grpc => "grpc",
        Protocol::WebSocket => "websocket",
        Protocol::EventStream => "sse",
    }
}

/// The name in records.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::ClientAborted => "client_aborted",
        Outcome::ServerAborted => "server_aborted",
        Outcome::Refused => "refused",
        Outcome::Timeout => "timeout",
        Outcome::Malformed => "malformed",
        Outcome::Passthrough => "passthrough",
    }
}
