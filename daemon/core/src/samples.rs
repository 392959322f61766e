//! Events for the tests of this crate.

use std::sync::Arc;

use crate::exchange::{
    Body, Bytes, Connection, ConnectionSummary, Direction, Event, Exchange, Loss, Message, MessageKind, Messages,
    Outcome, Process, Protocol, Sender, StreamMessage, Target, TargetKind, Timing, TlsFacts, Via,
};
use crate::ulid::{Ulid, UlidSource};

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
        target: Target::command("curl"),
        container: None,
        process: Some(Process { pid: 4711, name: "curl".into() }),
        client: "127.0.0.1:50000".parse().unwrap(),
        client_name: None,
        server: "10.0.0.7:8080".parse().unwrap(),
        server_name: None,
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

fn in_messages(head: &str, size: u64) -> Message {
    Message { body: Body { size, kept: vec![], in_messages: true }, ..message(head, "") }
}

/// A pod with all that is known of one.
pub(crate) fn pod() -> Arc<Target> {
    let text = |text: &str| Some(text.to_owned());
    let labels = [("app", "web"), ("tier", "front")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    Arc::new(Target {
        kind: TargetKind::Pod,
        name: "web-6774cc6887-rjz5j".into(),
        namespace: text("shop"),
        workload: text("Deployment/web"),
        node: text("n1"),
        labels: labels.into(),
    })
}

/// The same GET, which a pod was asked by another.
pub(crate) fn of_pod() -> Exchange {
    let exchange = exchange();
    let connection = Connection {
        direction: Direction::Inbound,
        target: pod(),
        container: Some("app".into()),
        client_name: Some("shop/client".into()),
        server_name: Some("web.shop.svc.cluster.local".into()),
        ..(*exchange.connection).clone()
    };
    Exchange { connection: Arc::new(connection), ..exchange }
}

/// A GET over HTTP/2 whose TLS was opened.
pub(crate) fn http2() -> Exchange {
    let tls = TlsFacts {
        version: Some("1.3".into()),
        sni: Some("web.shop".into()),
        offered_alpn: vec!["h2".into()],
        alpn: Some("h2".into()),
        opened: true,
        passthrough: None,
    };
    Exchange {
        protocol: Protocol::Http2,
        stream: Some(1),
        tls: Some(Arc::new(tls)),
        request: message("GET https://web.shop/items?q=1 HTTP/2\r\naccept: */*\r\n\r\n", ""),
        response: Some(message("HTTP/2 200\r\ncontent-type: application/json\r\n\r\n", r#"{"a":[1,true]}"#)),
        ..exchange()
    }
}

/// A call with one message sent and two received.
pub(crate) fn grpc_call() -> Exchange {
    let head = "POST https://web.shop/shop.Items/List HTTP/2\r\ncontent-type: application/grpc\r\nte: trailers\r\n\r\n";
    let mut response = in_messages("HTTP/2 200\r\ncontent-type: application/grpc\r\n\r\n", 17);
    response.trailers = b"grpc-status: 5\r\ngrpc-message: no%20such item\r\n".to_vec();
    let messages = Some(Messages { client: 1, server: 2 });
    let (request, response) = (in_messages(head, 10), Some(response));
    Exchange { protocol: Protocol::Grpc, request, response, messages, ..http2() }
}

/// An HTTP/1.1 exchange that became a WebSocket.
pub(crate) fn websocket() -> Exchange {
    let head = "GET /chat HTTP/1.1\r\nHost: web.shop\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    Exchange {
        protocol: Protocol::WebSocket,
        request: in_messages(head, 5),
        response: Some(in_messages("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 9)),
        messages: Some(Messages { client: 2, server: 1 }),
        ..exchange()
    }
}

/// The client's, of the exchange that the others are; the fourth of it.
pub(crate) fn stream_message(kind: MessageKind, bytes: &[u8]) -> StreamMessage {
    let (connection, exchange) = (exchange().connection, exchange().id);
    let protocol = match kind {
        MessageKind::Grpc => Protocol::Grpc,
        MessageKind::Piece => Protocol::EventStream,
        _ => Protocol::WebSocket,
    };
    StreamMessage {
        id: Ulid::from(u128::from(exchange) + 4),
        connection,
        time: TIME + 1500,
        exchange,
        seq: 3,
        stream: (kind == MessageKind::Grpc).then_some(1),
        protocol,
        sender: if kind == MessageKind::Piece { Sender::Server } else { Sender::Client },
        kind,
        body: Body { size: bytes.len() as u64, kept: bytes.to_vec(), in_messages: false },
        wire: bytes.len() as u64 + 6,
        compressed: false,
        end: 0,
        outcome: Outcome::Complete,
        detail: None,
    }
}

/// One of each kind.
pub(crate) fn messages() -> Vec<StreamMessage> {
    use MessageKind::{Binary, Close, Grpc, Ping, Pong, Text};
    let mut all: Vec<StreamMessage> = [
        (Text, &b"hello"[..]),
        (Binary, &[0xff, 0, 1]),
        (Ping, b""),
        (Pong, b"\x1b]0;"),
        (Close, b"\x03\xe8bye"),
        (Grpc, b"\x0a\x03abc\x12\x02\x18\x2a"),
        (MessageKind::Piece, b"data: 1\n\n"),
    ]
    .map(|(kind, bytes)| stream_message(kind, bytes))
    .into();
    if let Some(grpc) = all.iter_mut().find(|message| message.kind == Grpc) {
        grpc.compressed = true;
        grpc.body.size = 100;
        grpc.outcome = Outcome::Malformed;
        grpc.detail = Some("It does not decompress to its end.".into());
    }
    all
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
    let loss = Loss { time: TIME, until: TIME + 5, target: Target::command("curl"), reason, exchanges: 17, bytes: 4 };
    let mut pinned = connection();
    if let Some(tls) = &mut pinned.tls {
        tls.passthrough = Some("client_rejected".into());
    }
    let mut all = vec![exchange().into(), connection().into(), refused.into(), binary.into(), Event::Loss(loss)];
    all.extend([http2().into(), grpc_call().into(), websocket().into(), pinned.into(), of_pod().into()]);
    all.extend(messages().into_iter().map(|message| Event::Message(Box::new(message))));
    all
}
