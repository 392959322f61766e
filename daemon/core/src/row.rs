//! An event in the few words that fit a line: what tables, the live line and filters look at.

use std::borrow::Cow;

use crate::exchange::{
    Connection, ConnectionSummary, Direction, Event, Exchange, MessageKind, Outcome, Protocol, StreamMessage, TlsFacts,
};
use crate::head::Head;
use crate::text::decode;
use crate::ulid::Ulid;
use crate::{excerpt, grpc, url};

/// What a line shows of a record.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    pub id: Ulid,
    pub time: u64,
    pub connection: &'a Connection,
    pub protocol: Protocol,
    /// What only an exchange has.
    pub http: Option<Http<'a>>,
    /// What only a message of an exchange has.
    pub message: Option<&'a StreamMessage>,
    /// Where it went: url, or host and port.
    pub target: String,
    /// Body bytes of the response; of a connection, all that was received.
    pub size: u64,
    /// From the first byte to the last, in microseconds.
    pub duration: Option<u64>,
    pub outcome: Outcome,
    pub detail: Option<&'a str>,
    /// Why TLS that was to be opened was not, a fixed word.
    pub passthrough: Option<&'a str>,
}

/// What only an exchange has.
#[derive(Debug, Clone)]
pub struct Http<'a> {
    pub method: Cow<'a, str>,
    /// `None`: there was no final response, or its status line had none.
    pub status: Option<u16>,
    /// Of a gRPC call that said how it ended.
    pub grpc: Option<u32>,
    /// Messages that the target sent and received, of a WebSocket or a gRPC call.
    pub messages: Option<(u64, u64)>,
}

impl<'a> Row<'a> {
    /// `None` for a loss.
    pub fn of(event: &'a Event) -> Option<Self> {
        match event {
            Event::Exchange(exchange) => Some(Self::of_exchange(exchange)),
            Event::Connection(summary) => Some(Self::of_connection(summary)),
            Event::Message(message) => Some(Self::of_message(message)),
            Event::Loss(_) => None,
        }
    }

    fn of_exchange(exchange: &'a Exchange) -> Self {
        let head = Head::parse(&exchange.request.head);
        let response = exchange.response.as_ref();
        let connection = &*exchange.connection;
        Self {
            id: exchange.id,
            time: exchange.time,
            connection,
            protocol: exchange.protocol,
            http: Some(Http {
                method: decode(head.start.request().method),
                status: response.and_then(|response| Head::parse(&response.head).start.status().code),
                grpc: (exchange.protocol == Protocol::Grpc).then(|| grpc::status(exchange)).flatten(),
                messages: exchange.messages.map(|messages| messages.by_target(connection.direction)),
            }),
            message: None,
            target: url::of_head(&head, exchange).text,
            size: response.map_or(0, |response| response.body.size),
            duration: exchange.timing.end,
            outcome: exchange.outcome,
            detail: exchange.detail.as_deref(),
            passthrough: None,
        }
    }

    fn of_connection(summary: &'a ConnectionSummary) -> Self {
        let server = summary.connection.server;
        let sni = summary.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        Self {
            id: summary.id,
            time: summary.connection.accepted,
            connection: &summary.connection,
            protocol: summary.protocol,
            http: None,
            message: None,
            target: sni.map_or_else(|| server.to_string(), |sni| format!("{sni}:{}", server.port())),
            size: summary.bytes.received,
            duration: summary.timing.end,
            outcome: summary.outcome,
            detail: summary.detail.as_deref(),
            passthrough: summary.tls.as_ref().and_then(passthrough),
        }
    }

    fn of_message(message: &'a StreamMessage) -> Self {
        Self {
            id: message.id,
            time: message.time,
            connection: &message.connection,
            protocol: message.protocol,
            http: None,
            message: Some(message),
            target: message.connection.server.to_string(),
            size: message.body.size,
            duration: Some(message.end).filter(|end| *end > 0),
            outcome: message.outcome,
            detail: message.detail.as_deref(),
            passthrough: None,
        }
    }

    /// `GET`, what was spoken instead, or what kind of message it is.
    pub fn method(&self) -> &str {
        match (&self.http, self.message) {
            (Some(http), _) => &http.method,
            (None, Some(message)) => message_kind(message.kind),
            (None, None) => protocol(self.protocol),
        }
    }

    /// `200`, `200/5` where gRPC has a status of its own, or `-`; of a message the arrow that points the way it went,
    /// as the target sees it.
    pub fn status(&self) -> Cow<'static, str> {
        if let Some(message) = self.message {
            return Cow::Borrowed(if message.by_target() { "→" } else { "←" });
        }
        match self.http.as_ref().map(|http| (http.status, http.grpc)) {
            Some((Some(status), Some(grpc))) => Cow::Owned(format!("{status}/{grpc}")),
            Some((Some(status), None)) => Cow::Owned(status.to_string()),
            _ => Cow::Borrowed("-"),
        }
    }

    /// Where it went, and why it was not looked into; or what a message is part of, and what it says. `id_width`: so
    /// many of the last characters of an id are shown.
    pub fn what(&self, id_width: usize) -> String {
        match (self.message, self.passthrough) {
            (Some(message), _) => {
                let exchange = message.exchange.to_string();
                let short = exchange.get(exchange.len().saturating_sub(id_width)..).unwrap_or(&exchange);
                let what = format!("{short}#{} {} {}", message.seq, protocol(message.protocol), excerpt::of(message));
                what.trim_end().to_owned()
            }
            (None, Some(reason)) => format!("{} ({}: {})", self.target, protocol(self.protocol), said(reason)),
            (None, None) => self.target.clone(),
        }
    }

    /// `curl[4711]`, or nothing.
    pub fn process(&self) -> String {
        self.connection.process.as_ref().map_or_else(String::new, |one| format!("{}[{}]", one.name, one.pid))
    }

    /// `shop/web-6774cc6887-rjz5j`, if the target is a pod.
    pub fn pod(&self) -> Option<String> {
        self.connection.target.pod().map(|_| self.connection.target.to_string())
    }

    /// Whose it was: the pod, or the process.
    pub fn who(&self) -> String {
        self.pod().unwrap_or_else(|| self.process())
    }
}

fn passthrough(tls: &TlsFacts) -> Option<&str> {
    tls.passthrough.as_deref()
}

/// A reason of [`TlsFacts::passthrough`] in words; one that is not known here stays as it is.
pub fn said(reason: &str) -> &str {
    match reason {
        "asked" => "left alone as asked",
        "upstream_unverified" => "the server's certificate does not verify",
        "client_certificate_wanted" => "the server wants a client certificate",
        "upstream_unsupported" => "the server's TLS is not supported",
        "upstream_failed" => "the handshake with the server failed",
        "client_unsupported" => "the client's TLS is not supported",
        "no_certificate" => "no certificate can be made for the server's name",
        "client_rejected" => "pinned by the client",
        "client_silent" => "the client closes in silence, it may pin",
        "hello_unreadable" => "the ClientHello is not readable",
        reason => reason,
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
pub fn message_kind(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Text => "text",
        MessageKind::Binary => "binary",
        MessageKind::Ping => "ping",
        MessageKind::Pong => "pong",
        MessageKind::Close => "close",
        MessageKind::Grpc => "grpc",
        MessageKind::Piece => "piece",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_message_is_told_by_its_exchange_its_number_and_its_first_words() {
        let event = Event::Message(Box::new(samples::stream_message(MessageKind::Text, b"hello")));
        let row = Row::of(&event).unwrap();
        assert_eq!((row.method(), &*row.status()), ("text", "→"));
        assert_eq!(row.what(6), "000002#3 websocket hello");
    }

    #[test]
    fn a_call_shows_its_own_status_beside_that_of_http() {
        let event = Event::from(samples::grpc_call());
        let row = Row::of(&event).unwrap();
        assert_eq!((row.method(), &*row.status()), ("POST", "200/5"));
        assert_eq!(row.what(6), "https://web.shop/shop.Items/List");
    }

    #[test]
    fn tls_that_was_to_be_opened_says_why_it_was_not() {
        for (reason, said) in [("client_rejected", "pinned by the client"), ("remembered", "remembered")] {
            let mut summary = samples::connection();
            summary.tls.as_mut().unwrap().passthrough = Some(reason.to_owned().into());
            let event = Event::from(summary);
            assert_eq!(Row::of(&event).unwrap().what(6), format!("web.shop:8080 (tls: {said})"));
        }
    }
}
