//! What is fuzzed, and how an input becomes a conversation. All of it is reached through what the engine calls.
//!
//! An input is a list of pieces: one byte that says who sends (the highest bit) and how many bytes (the rest; 0 ends
//! that side), then those bytes. Whatever comes of it, no tap may panic, keep more than its limits, or miscount.

use std::sync::Arc;

use nodetap_core::exchange::{self, Bytes, Connection, Direction, Event, Via};
use nodetap_core::redact::redact;
use nodetap_core::ulid::UlidSource;
use nodetap_proxy::tap::{End, Limits, Side, Tap};

/// Small ones are reached quickly.
const LIMITS: Limits = Limits { body: 512, head: 2048, fields: 40, pipeline: 8, waiting: 4096 };
/// Between two pieces, in microseconds: far enough for what waits for the clock to become due now and then.
const STEP: u64 = 130_000;

/// One target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// What both sides have said before the input begins.
    before: &'static [(Side, &'static [u8])],
    /// How a piece of the input is sent.
    envelope: Envelope,
}

#[derive(Debug, Clone, Copy)]
enum Envelope {
    /// As it is.
    Bare,
    /// All of it at once, to what negotiates with a client of the forward proxy.
    Asking,
    /// All of it at once, to what looks for a ClientHello that is to be answered.
    Hello,
    /// As the payload of a DATA frame of stream 1 (RFC 9113 §6.1).
    Data,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// HEADERS of stream 1, all fields literal: a POST of `application/grpc` with gzip.
const CALL: &[u8] = b"\0\0\x32\x01\x04\0\0\0\x01\x83\x86\x04\x04/a/b\x01\x01a\x0f\x10\x10application/grpc\
\x00\x0dgrpc-encoding\x04gzip";
const ANSWER: &[u8] =
    b"\0\0\0\x04\0\0\0\0\0\0\0\x28\x01\x04\0\0\0\x01\x88\x0f\x10\x10application/grpc\x00\x0dgrpc-encoding\x04gzip";
const UPGRADE: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const SWITCHED_DEFLATE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
const EVENTS: &[u8] = b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n";
const EVENT_STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

const fn target(name: &'static str, before: &'static [(Side, &'static [u8])], envelope: Envelope) -> Target {
    Target { name, before, envelope }
}

pub(crate) const ALL: &[Target] = &[
    // Whatever it is taken for: HTTP/1, HTTP/2, TLS, anything.
    target("sniff", &[], Envelope::Bare),
    target("http1", &[(Side::Client, b"POST / HTTP/1.1\r\nHost: a\r\n")], Envelope::Bare),
    target("http2", &[(Side::Client, PREFACE)], Envelope::Bare),
    target("client-hello", &[(Side::Client, b"\x16\x03\x01")], Envelope::Bare),
    target("tls-hello", &[], Envelope::Hello),
    target("socks-and-connect", &[], Envelope::Asking),
    target("websocket", &[(Side::Client, UPGRADE), (Side::Server, SWITCHED)], Envelope::Bare),
    target("websocket-deflate", &[(Side::Client, UPGRADE), (Side::Server, SWITCHED_DEFLATE)], Envelope::Bare),
    target("events", &[(Side::Client, EVENTS), (Side::Server, EVENT_STREAM)], Envelope::Bare),
    target("grpc", &[(Side::Client, PREFACE), (Side::Client, CALL), (Side::Server, ANSWER)], Envelope::Data),
];

impl Target {
    pub(crate) fn named(name: &str) -> Option<Self> {
        ALL.iter().copied().find(|target| target.name == name)
    }

    pub(crate) fn run(self, input: &[u8]) {
        match self.envelope {
            Envelope::Asking => return assert!(nodetap_proxy::forward::reads_within(input)),
            Envelope::Hello => return assert!(nodetap_proxy::tls::reads_within(input)),
            Envelope::Bare | Envelope::Data => {}
        }
        let mut player = Player::new();
        for (from, bytes) in self.before {
            player.send(*from, bytes);
        }
        let mut rest = input;
        while let Some((control, after)) = rest.split_first() {
            let from = if control & 0x80 == 0 { Side::Client } else { Side::Server };
            let length = usize::from(control & 0x7f).min(after.len());
            let (piece, after) = after.split_at(length);
            rest = after;
            match self.envelope {
                _ if length == 0 => player.end(from),
                Envelope::Bare | Envelope::Asking | Envelope::Hello => player.send(from, piece),
                Envelope::Data => {
                    let mut frame = vec![0, 0, control & 0x7f, 0, 0, 0, 0, 0, 1];
                    frame[2] = u8::try_from(length).unwrap_or(0);
                    frame.extend_from_slice(piece);
                    player.send(from, &frame);
                }
            }
        }
        player.finish();
    }
}

/// Does what the engine does.
struct Player {
    tap: Tap,
    ids: UlidSource,
    now: u64,
    sent: Bytes,
    ended: [bool; 2],
    events: Vec<Event>,
}

impl Player {
    fn new() -> Self {
        let mut ids = UlidSource::new(1);
        let connection = Connection {
            id: ids.next(0),
            direction: Direction::Outbound,
            via: Via::Transparent,
            target: exchange::Target::command("fuzz"),
            container: None,
            process: None,
            client: ([127, 0, 0, 1], 1).into(),
            client_name: None,
            server: ([127, 0, 0, 1], 2).into(),
            server_name: None,
            accepted: 0,
        };
        let tap = Tap::new(Arc::new(connection), Some(1), LIMITS);
        Self { tap, ids, now: 1, sent: Bytes::default(), ended: [false; 2], events: Vec::new() }
    }

    fn send(&mut self, from: Side, bytes: &[u8]) {
        if self.ended[usize::from(from == Side::Server)] {
            return;
        }
        self.now += STEP;
        if self.tap.due().is_some_and(|due| due <= self.now) {
            self.tap.tick(self.now, &mut self.ids, &mut self.events);
        }
        let count = bytes.len() as u64;
        match from {
            Side::Client => self.sent.sent += count,
            Side::Server => self.sent.received += count,
        }
        if self.tap.skippable(from) >= count {
            self.tap.skip(from, count, self.now, &mut self.ids, &mut self.events);
        } else {
            self.tap.observe(from, bytes, self.now, &mut self.ids, &mut self.events);
        }
    }

    fn end(&mut self, from: Side) {
        if !std::mem::replace(&mut self.ended[usize::from(from == Side::Server)], true) {
            self.tap.ended(from, End::Fin, self.now, &mut self.ids, &mut self.events);
        }
    }

    fn finish(mut self) {
        self.tap.finish(self.now, &mut self.ids, &mut self.events);
        let mut exchanges = Bytes::default();
        let mut summary = None;
        for event in &mut self.events {
            redact(event);
            match event {
                Event::Exchange(exchange) => {
                    exchanges.sent += exchange.bytes.sent;
                    exchanges.received += exchange.bytes.received;
                    let messages = [Some(&exchange.request), exchange.response.as_ref()].into_iter().flatten();
                    for message in messages {
                        assert!(message.body.kept.len() <= LIMITS.body, "a body beyond its cap");
                        assert!(message.body.kept.len() as u64 <= message.body.size, "a body that shrank");
                    }
                }
                Event::Message(message) => {
                    assert!(message.body.kept.len() <= LIMITS.body.max(64 * 1024), "a message beyond its cap");
                }
                Event::Connection(connection) => {
                    assert!(summary.replace(connection.bytes).is_none(), "two summaries of one connection");
                }
                Event::Loss(_) => {}
            }
        }
        if let Some(all) = summary {
            assert_eq!(all, self.sent, "the summary counts what passed");
        }
        assert!(
            exchanges.sent <= self.sent.sent && exchanges.received <= self.sent.received,
            "exchanges that count more bytes than passed"
        );
    }
}
