//! What HAR shows of bodies that came in messages. A WebSocket's stand in `_webSocketMessages`, as Chromium writes
//! them (<https://github.com/ChromeDevTools/devtools-frontend>, `HAREntry`); the pieces of an endless body, and the
//! messages of a gRPC call, are put together into the body that they were. gRPC's get their five-byte prefix
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>) back, and are left uncompressed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::exchange::{Body, Exchange, Message, MessageKind, Sender, StreamMessage};
use crate::text::decode;

/// Bytes of a body that is put together, at most: it is held in memory.
const MAX_JOINED: usize = 16 << 20;

/// One element of `_webSocketMessages`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct WebSocketMessage {
    #[serde(rename = "type")]
    way: &'static str,
    /// Seconds since 1970.
    time: f64,
    opcode: u8,
    /// Text as it is, anything else in base64.
    data: String,
    #[serde(rename = "_truncated", skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl WebSocketMessage {
    pub(super) fn of(message: &StreamMessage) -> Self {
        let kept = &message.body.kept;
        let text = message.kind == MessageKind::Text;
        Self {
            // HAR is the client's view, whoever was recorded.
            way: if message.sender == Sender::Client { "send" } else { "receive" },
            time: message.time as f64 / 1e6,
            opcode: match message.kind {
                MessageKind::Text => 1,
                MessageKind::Close => 8,
                MessageKind::Ping => 9,
                MessageKind::Pong => 10,
                MessageKind::Binary | MessageKind::Grpc | MessageKind::Piece => 2,
            },
            data: if text { decode(kept).into_owned() } else { STANDARD.encode(kept) },
            truncated: (kept.len() as u64) < message.body.size,
        }
    }
}

/// The bodies of an exchange, put together of its messages.
#[derive(Debug, Default)]
pub(super) struct Joined {
    request: Side,
    response: Side,
}

/// One of the two bodies.
#[derive(Debug, Default)]
struct Side {
    /// `size`: as it would be if everything were there.
    body: Body,
    framed: bool,
    messages: u64,
}

impl Joined {
    pub(super) fn add(&mut self, message: &StreamMessage) {
        let side = match message.sender {
            Sender::Client => &mut self.request,
            Sender::Server => &mut self.response,
        };
        side.messages += 1;
        side.framed |= message.kind == MessageKind::Grpc;
        if message.kind == MessageKind::Grpc {
            let [_, _, _, _, length @ ..] = (message.body.size).to_be_bytes();
            side.append(&[&[0], &length[..]].concat());
            side.body.size += 5;
        }
        side.append(&message.body.kept);
        side.body.size += message.body.size;
    }

    /// The request with its body, and what is to be said about that.
    pub(super) fn request(self: &Joined, exchange: &Exchange) -> Option<(Message, Option<String>)> {
        self.request.join(&exchange.request, exchange.messages.map(|messages| messages.client))
    }

    /// The response with its body, and what is to be said about that.
    pub(super) fn response(self: &Joined, exchange: &Exchange) -> Option<(Message, Option<String>)> {
        self.response.join(exchange.response.as_ref()?, exchange.messages.map(|messages| messages.server))
    }
}

impl Side {
    /// A body that is cut once is not gone on with.
    fn append(&mut self, bytes: &[u8]) {
        let whole = self.body.kept.len() as u64 == self.body.size;
        if whole || self.framed {
            let room = MAX_JOINED.saturating_sub(self.body.kept.len());
            self.body.kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        }
    }

    /// `None`: it is not in messages.
    fn join(&self, message: &Message, expected: Option<u64>) -> Option<(Message, Option<String>)> {
        if !message.body.in_messages {
            return None;
        }
        let (head, trailers) = (message.head.clone(), message.trailers.clone());
        // Of frames, what was on the wire says nothing about what is here.
        let size = if self.framed { self.body.size } else { self.body.size.max(message.body.size) };
        let body = Body { size, kept: self.body.kept.clone(), in_messages: false };
        let missing = expected.map_or(0, |expected| expected.saturating_sub(self.messages));
        let notes = [
            self.framed.then(|| "messages with their prefixes, uncompressed".to_owned()),
            (missing > 0).then(|| format!("{missing} messages were lost")),
        ];
        let notes: Vec<String> = notes.into_iter().flatten().collect();
        Some((Message { head, body, trailers }, (!notes.is_empty()).then(|| notes.join("; "))))
    }
}
