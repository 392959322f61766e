//! Events for the tests of this crate.

use std::sync::Arc;

use crate::exchange::{
    Body, Bytes, Connection, ConnectionSummary, Direction, Event, Exchange, Loss, Message, Outcome, Process, Protocol,
    Timing, TlsFacts, Via,
};
use crate::ulid::UlidSource;

/// 1970-01-01T00:16:40.000123Z
const TIME: u64 = 1_000_000_123;

impl From<Exchange> for Event {
    fn from(exchange: Exchange) -> Self {
        Self::Exchange(Box::new(exchange))
    }
}

impl From<ConnectionSummary> for Event {
    fn from(summary: ConnectionSummary) -> Self {
        Self::Connection(Box::new(summary))
    }
}

pub(crate) fn message(head: &str, body: &str) -> Message {
    let body = Body { size: body.len() as u64, kept: body.as_bytes().to_vec(), in_messages: false };
    Message { head: head.as_bytes().to_vec(), body, trailers: vec![] }
}

/// A GET of JSON, complete.
pub(crate) fn exchange() -> Exchange {
    let mut ids = UlidSource::new(0);
    let connection = Connection {
        id: ids.next(TIME),
        direction: Direction::Outbound,
        via: Via::Transparent,
        target: "curl".into(),
        process: Some(Process { pid: 4711, name: "curl".into() }),
        client: "127.0.0.1:50000".parse().unwrap(),
        server: "10.0.0.7:8080".parse().unwrap(),
        accepted: TIME,
    };
    Exchange {
        id: ids.next(TIME),
        connection: Arc::new(connection),
        time: TIME,
        protocol: Protocol::Http11,
        stream: None,
        tls: None,
        request: message("GET /items?q=1 HTTP/1.1\r\nHost: web.shop\r\naCCept: */*\r\n\r\n", ""),
        interim: vec![],
        response: Some(message("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", r#"{"a":[1,true]}"#)),
        timing: Timing { connected: Some(310), request_end: Some(322), first_byte: Some(4801), end: Some(5120) },
        bytes: Bytes { sent: 64, received: 190 },
        messages: None,
        outcome: Outcome::Complete,
        detail: None,
        redacted: vec![],
        dropped: vec![],
    }
}

/// A TLS connection that was not opened.
pub(crate) fn connection() -> ConnectionSummary {
    let Exchange { id, connection, timing, bytes, .. } = exchange();
    ConnectionSummary {
        id,
        connection,
        protocol: Protocol::Tls,
        tls: Some(TlsFacts {
            version: Some("1.3".into()),
            sni: Some("web.shop".into()),
            offered_alpn: vec!["h2".into(), "http/1.1".into()],
            alpn: None,
            opened: false,
            passthrough: None,
        }),
        timing,
        bytes,
        outcome: Outcome::Passthrough,
        detail: Some("TLS that was not opened".into()),
    }
}

/// One of each kind, and some odd ones.
pub(crate) fn all() -> Vec<Event> {
    let refused = Exchange {
        response: None,
        outcome: Outcome::Refused,
        detail: Some("connection refused".into()),
        dropped: vec!["interim: beyond the limit of one head".into()],
        ..exchange()
    };
    let mut binary = exchange();
    binary.interim = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
    binary.request = message("POST http://x/y HTTP/1.1\r\nSet-Cookie: \r\nX: \r\n\r\n", "a\u{1b}b");
    binary.redacted = vec!["request.header.set-cookie".into()];
    if let Some(response) = &mut binary.response {
        response.body = Body { size: 100, kept: vec![0xff, 0, 1], in_messages: false };
        response.trailers = b"X-T: 1\r\n".to_vec();
    }
    let reason = "queue_full".into();
    let loss = Loss { time: TIME, until: TIME + 5, target: "curl".into(), reason, exchanges: 17, bytes: 4 };
    vec![exchange().into(), connection().into(), refused.into(), binary.into(), Event::Loss(loss)]
}
