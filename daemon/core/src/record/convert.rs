//! From what the data plane produced to what a reader of JSON lines sees.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{
    Body, BodyPlace, Bytes, ConnectionKind, ConnectionRecord, Direction, Ending, ExchangeKind, ExchangeRecord, Facts,
    Grpc, Header, Id, Interim, LossKind, LossRecord, MessageCounts, MessageKind, MessageRecord, MessageType, Outcome,
    Peer, Process, Protocol, Record, Request, Response, Sender, Target, TargetKind, Time, Timing, Tls, VERSION, Via,
};
use crate::exchange::{self, Connection, ConnectionSummary, Event, Exchange, Loss, Message, StreamMessage, TlsFacts};
use crate::head::{Fields, Head, heads};
use crate::text::decode;
use crate::time::rfc3339;
use crate::url;

impl From<&Event> for Record {
    fn from(event: &Event) -> Self {
        match event {
            Event::Exchange(exchange) => Self::Exchange(Box::new(exchange_record(exchange))),
            Event::Connection(summary) => Self::Connection(Box::new(connection_record(summary))),
            Event::Message(message) => Self::Message(Box::new(message_record(message))),
            Event::Loss(loss) => Self::Loss(Box::new(loss_record(loss))),
        }
    }
}

fn exchange_record(exchange: &Exchange) -> ExchangeRecord {
    let texts = |texts: &[std::borrow::Cow<'static, str>]| texts.iter().map(ToString::to_string).collect();
    ExchangeRecord {
        v: VERSION,
        id: Id(exchange.id.to_string()),
        time: Time(rfc3339(exchange.time)),
        kind: ExchangeKind::Exchange,
        facts: facts(&exchange.connection, exchange.protocol, exchange.stream),
        tls: exchange.tls.as_deref().map(tls),
        request: request(exchange),
        response: exchange.response.as_ref().map(response),
        interim: heads(&exchange.interim)
            .map(|head| Interim { status: head.start.status().code, headers: head_fields(&head) })
            .collect(),
        ending: Ending {
            timing: timing(exchange.timing),
            bytes: bytes(exchange.bytes),
            outcome: exchange.outcome.into(),
            detail: exchange.detail.as_ref().map(ToString::to_string),
        },
        grpc: (exchange.protocol == exchange::Protocol::Grpc).then(|| grpc_of(exchange)),
        redacted: texts(&exchange.redacted),
        dropped: texts(&exchange.dropped),
    }
}

fn connection_record(summary: &ConnectionSummary) -> ConnectionRecord {
    ConnectionRecord {
        v: VERSION,
        id: Id(summary.id.to_string()),
        time: Time(rfc3339(summary.connection.accepted)),
        kind: ConnectionKind::Connection,
        facts: facts(&summary.connection, summary.protocol, None),
        tls: summary.tls.as_ref().map(tls),
        ending: Ending {
            timing: timing(summary.timing),
            bytes: bytes(summary.bytes),
            outcome: summary.outcome.into(),
            detail: summary.detail.as_ref().map(ToString::to_string),
        },
    }
}

fn message_record(message: &StreamMessage) -> MessageRecord {
    let (code, body) = match message.close() {
        Some((code, reason)) => {
            let size = message.body.size.saturating_sub(2);
            (Some(code), body(&exchange::Body { size, kept: reason.to_vec(), in_messages: false }))
        }
        None => (None, body(&message.body)),
    };
    let (sent, received) = if message.by_target() { (message.wire, 0) } else { (0, message.wire) };
    MessageRecord {
        v: VERSION,
        id: Id(message.id.to_string()),
        time: Time(rfc3339(message.time)),
        kind: MessageKind::Message,
        facts: facts(&message.connection, message.protocol, message.stream),
        exchange: Id(message.exchange.to_string()),
        seq: message.seq,
        from: match message.sender {
            exchange::Sender::Client => Sender::Client,
            exchange::Sender::Server => Sender::Server,
        },
        what: message.kind.into(),
        body,
        compressed: message.compressed,
        code,
        ending: Ending {
            timing: Timing { connected: None, request_end: None, first_byte: None, end: Some(message.end) },
            bytes: Bytes { sent, received },
            outcome: message.outcome.into(),
            detail: message.detail.as_ref().map(ToString::to_string),
        },
    }
}

fn tls(tls: &TlsFacts) -> Tls {
    Tls {
        version: tls.version.clone(),
        sni: tls.sni.clone(),
        offered_alpn: tls.offered_alpn.clone(),
        alpn: tls.alpn.clone(),
        opened: tls.opened,
        passthrough: tls.passthrough.as_deref().map(ToOwned::to_owned),
    }
}

/// What only a gRPC call has.
pub(crate) fn grpc_of(exchange: &Exchange) -> Grpc {
    let (service, method) = crate::grpc::method(exchange);
    let (status, message) = (crate::grpc::status(exchange), crate::grpc::message(exchange));
    let (sent, received) = exchange.messages.unwrap_or_default().by_target(exchange.connection.direction);
    Grpc { service, method, status, message, messages: MessageCounts { sent, received } }
}

fn loss_record(loss: &Loss) -> LossRecord {
    LossRecord {
        v: VERSION,
        kind: LossKind::Loss,
        time: Time(rfc3339(loss.time)),
        until: Time(rfc3339(loss.until)),
        target: target(&loss.target, None),
        reason: loss.reason.to_string(),
        exchanges: loss.exchanges,
        bytes: loss.bytes,
    }
}

fn facts(connection: &Connection, protocol: exchange::Protocol, stream: Option<u32>) -> Facts {
    let peer = |address: std::net::SocketAddr, name: Option<&str>| Peer {
        address: address.ip(),
        port: address.port(),
        name: name.map(ToOwned::to_owned),
    };
    Facts {
        direction: connection.direction.into(),
        protocol: protocol.into(),
        target: target(&connection.target, connection.container.as_deref()),
        process: connection.process.as_ref().map(Into::into),
        client: peer(connection.client, connection.client_name.as_deref()),
        server: peer(connection.server, connection.server_name.as_deref()),
        via: connection.via.into(),
        connection: Id(connection.id.to_string()),
        stream,
    }
}

fn target(target: &exchange::Target, container: Option<&str>) -> Target {
    let exchange::Target { kind, name, namespace, workload, node, labels } = target;
    Target {
        kind: match kind {
            exchange::TargetKind::Command => TargetKind::Command,
            exchange::TargetKind::Pod => TargetKind::Pod,
        },
        name: name.clone(),
        namespace: namespace.clone(),
        container: container.map(ToOwned::to_owned),
        workload: workload.clone(),
        node: node.clone(),
        labels: labels.clone(),
    }
}

fn request(exchange: &Exchange) -> Request {
    let message = &exchange.request;
    let head = Head::parse(&message.head);
    let url = url::of_head(&head, exchange);
    Request {
        method: decode(head.start.request().method).into_owned(),
        url: url.text,
        target: url.target,
        headers: head_fields(&head),
        body: body(&message.body),
        trailers: headers(Fields::of(&message.trailers)),
    }
}

fn response(message: &Message) -> Response {
    let head = Head::parse(&message.head);
    Response {
        status: head.start.status().code,
        headers: head_fields(&head),
        body: body(&message.body),
        trailers: headers(Fields::of(&message.trailers)),
    }
}

/// The fields of a head, without HTTP/2's pseudo-header fields: what they say stands elsewhere in a record.
pub(crate) fn head_fields(head: &Head<'_>) -> Vec<Header> {
    let mut fields = headers(head.fields());
    if head.is_http2() {
        fields.retain(|(name, _)| !name.starts_with(':'));
    }
    fields
}

/// Values are unfolded; what is no UTF-8 is read as ISO 8859-1. A line without a colon is a name without a value.
pub(crate) fn headers(fields: Fields<'_>) -> Vec<Header> {
    fields.map(|field| (decode(field.name).into_owned(), decode(&field.unfolded()).into_owned())).collect()
}

fn body(body: &exchange::Body) -> Body {
    let empty = Body { size: body.size, kept: None, truncated: false, text: None, base64: None, place: None };
    if body.in_messages {
        return Body { place: Some(BodyPlace::Messages), ..empty };
    }
    if body.size == 0 && body.kept.is_empty() {
        return empty;
    }
    let cut = (body.kept.len() as u64) < body.size;
    let (text, kept) = match std::str::from_utf8(&body.kept) {
        Ok(text) => (Some(text), body.kept.len()),
        // The cap fell into the middle of a character: its first bytes are let go of, so that the text is one.
        Err(error) if cut && error.error_len().is_none() => {
            let whole = body.kept.get(..error.valid_up_to()).unwrap_or_default();
            (std::str::from_utf8(whole).ok(), error.valid_up_to())
        }
        Err(_) => (None, body.kept.len()),
    };
    Body {
        size: body.size,
        kept: Some(kept as u64),
        truncated: cut,
        text: text.filter(|text| !text.is_empty()).map(ToOwned::to_owned),
        base64: text.is_none().then(|| STANDARD.encode(&body.kept)),
        place: None,
    }
}

fn timing(timing: exchange::Timing) -> Timing {
    let exchange::Timing { connected, request_end, first_byte, end } = timing;
    Timing { connected, request_end, first_byte, end }
}

fn bytes(bytes: exchange::Bytes) -> Bytes {
    Bytes { sent: bytes.sent, received: bytes.received }
}

impl From<exchange::Protocol> for Protocol {
    fn from(protocol: exchange::Protocol) -> Self {
        match protocol {
            exchange::Protocol::Http10 => Self::Http10,
            exchange::Protocol::Http11 => Self::Http11,
            exchange::Protocol::Tls => Self::Tls,
            exchange::Protocol::Tcp => Self::Tcp,
            exchange::Protocol::Http2 => Self::Http2,
            exchange::Protocol::Grpc => Self::Grpc,
            exchange::Protocol::WebSocket => Self::WebSocket,
            exchange::Protocol::EventStream => Self::EventStream,
        }
    }
}

impl From<exchange::Outcome> for Outcome {
    fn from(outcome: exchange::Outcome) -> Self {
        match outcome {
            exchange::Outcome::Complete => Self::Complete,
            exchange::Outcome::ClientAborted => Self::ClientAborted,
            exchange::Outcome::ServerAborted => Self::ServerAborted,
            exchange::Outcome::Refused => Self::Refused,
            exchange::Outcome::Timeout => Self::Timeout,
            exchange::Outcome::Malformed => Self::Malformed,
            exchange::Outcome::Passthrough => Self::Passthrough,
        }
    }
}

impl From<exchange::Direction> for Direction {
    fn from(direction: exchange::Direction) -> Self {
        match direction {
            exchange::Direction::Inbound => Self::Inbound,
            exchange::Direction::Outbound => Self::Outbound,
        }
    }
}

impl From<exchange::Via> for Via {
    fn from(via: exchange::Via) -> Self {
        match via {
            exchange::Via::Transparent => Self::Transparent,
            exchange::Via::Direct => Self::Direct,
            exchange::Via::Reverse => Self::Reverse,
            exchange::Via::ForwardHttp => Self::ForwardHttp,
            exchange::Via::ForwardConnect => Self::ForwardConnect,
            exchange::Via::ForwardSocks4 => Self::ForwardSocks4,
            exchange::Via::ForwardSocks5 => Self::ForwardSocks5,
        }
    }
}

impl From<exchange::MessageKind> for MessageType {
    fn from(kind: exchange::MessageKind) -> Self {
        match kind {
            exchange::MessageKind::Text => Self::Text,
            exchange::MessageKind::Binary => Self::Binary,
            exchange::MessageKind::Ping => Self::Ping,
            exchange::MessageKind::Pong => Self::Pong,
            exchange::MessageKind::Close => Self::Close,
            exchange::MessageKind::Grpc => Self::Grpc,
            exchange::MessageKind::Piece => Self::Piece,
        }
    }
}

impl From<&exchange::Process> for Process {
    fn from(process: &exchange::Process) -> Self {
        Self { pid: process.pid, name: process.name.clone() }
    }
}
