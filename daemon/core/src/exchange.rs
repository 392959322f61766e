//! What the data plane produces: connections, exchanges and losses, as values. Heads are kept as the raw bytes that
//! were seen, so that nothing is normalised away and nothing is parsed twice on the hot path; the JSON view is made of
//! them when somebody reads. It refuses to know how a record is stored, filtered or shown.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ulid::Ulid;

pub use crate::target::{Target, TargetKind};

/// Microseconds since 1970-01-01 UTC.
pub type UnixMicros = u64;
/// Microseconds after the `time` of the record that carries it.
pub type Micros = u64;

/// As seen by the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    Inbound,
    Outbound,
}

/// How the bytes reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Via {
    /// Steered by the kernel.
    Transparent,
    /// Seen by the kernel, not steered.
    Direct,
    /// Accepted by a reverse proxy's listener.
    Reverse,
    /// Asked of the forward proxy: an absolute-form request (RFC 9112 §3.2.2).
    ForwardHttp,
    /// Asked of the forward proxy: a CONNECT tunnel (RFC 9110 §9.3.6), over HTTP/1.1 or HTTP/2.
    ForwardConnect,
    /// Asked of the forward proxy: SOCKS 4 or 4a.
    ForwardSocks4,
    /// Asked of the forward proxy: SOCKS 5 (RFC 1928).
    ForwardSocks5,
}

/// What was spoken, as far as it was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Http10,
    Http11,
    /// TLS that was not opened.
    Tls,
    /// Anything else.
    Tcp,
    Http2,
    /// A call over HTTP/2 with a content type of `application/grpc…`.
    Grpc,
    /// An exchange that became a WebSocket (RFC 6455, RFC 8441).
    WebSocket,
    /// A response of the content type `text/event-stream`.
    EventStream,
}

/// How an exchange or a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    Complete,
    ClientAborted,
    ServerAborted,
    /// The server did not accept the connection (RST or ICMP unreachable), or we did not serve what was asked of us.
    Refused,
    Timeout,
    /// The bytes were not what the protocol allows; they were passed on all the same.
    Malformed,
    /// Passed on without being looked into.
    Passthrough,
}

/// The program of the target that opened (outbound) or accepts (inbound) the connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// The kernel's name of it (`comm`), 15 bytes at most.
    pub name: String,
}

/// What a TLS ClientHello and ServerHello say in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TlsFacts {
    /// Negotiated version ("1.3", "1.2", …); absent when no ServerHello was seen.
    pub version: Option<String>,
    pub sni: Option<String>,
    pub offered_alpn: Vec<String>,
    /// Only where it can be known: TLS 1.2 and older answer it in the clear.
    pub alpn: Option<String>,
    /// Was the TLS terminated by us, so that the plaintext is recorded?
    pub opened: bool,
    /// It was to be opened and was not: why, a fixed word (`upstream_unverified`, `client_rejected`, …).
    pub passthrough: Option<Cow<'static, str>>,
}

/// What all exchanges of one connection have in common. Made once, shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub id: Ulid,
    pub direction: Direction,
    pub via: Via,
    pub target: Arc<Target>,
    /// Which container of the pod.
    pub container: Option<Arc<str>>,
    pub process: Option<Process>,
    /// The real client, never an address of ours.
    pub client: SocketAddr,
    /// Who that is (`shop/client`), where it is known.
    pub client_name: Option<Arc<str>>,
    /// The original destination, never an address of ours.
    pub server: SocketAddr,
    /// Who that is (`web.shop.svc.cluster.local`), where it is known.
    pub server_name: Option<Arc<str>>,
    /// When it was accepted.
    pub accepted: UnixMicros,
}

/// A message body as far as it was kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Body {
    /// Bytes after transfer decoding, whether kept or not.
    pub size: u64,
    /// The first bytes of it, up to the cap; content encodings stay as sent.
    #[serde(with = "serde_bytes")]
    pub kept: Vec<u8>,
    /// What was kept of it is in the [`StreamMessage`]s of this exchange, and not here.
    pub in_messages: bool,
}

/// One HTTP message: request or response.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Message {
    /// Start line and field lines exactly as sent, with the empty line that ends them (absent when cut). Of HTTP/2,
    /// which sends no such bytes: the same fields written as HTTP/1.1 would, the request target in absolute form, the
    /// version `HTTP/2`; `:protocol` (RFC 8441) is kept as a field line, the other pseudo-headers are in the start line.
    #[serde(with = "serde_bytes")]
    pub head: Vec<u8>,
    pub body: Body,
    /// The trailer section exactly as sent, without the empty line; empty when there was none.
    #[serde(with = "serde_bytes")]
    pub trailers: Vec<u8>,
}

/// When things happened. `None`: it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timing {
    /// The upstream connection stood (only on the first exchange of a connection).
    pub connected: Option<Micros>,
    pub request_end: Option<Micros>,
    /// First byte of the (final) response.
    pub first_byte: Option<Micros>,
    pub end: Option<Micros>,
}

/// Bytes on the wire, as the target sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bytes {
    pub sent: u64,
    pub received: u64,
}

/// One request with its response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    pub id: Ulid,
    pub connection: Arc<Connection>,
    /// When the first byte of the request arrived.
    pub time: UnixMicros,
    pub protocol: Protocol,
    /// The HTTP/2 stream it was.
    pub stream: Option<u32>,
    /// Of a connection whose TLS was opened.
    pub tls: Option<Arc<TlsFacts>>,
    pub request: Message,
    /// Interim (1xx) responses that came before the final one, raw heads one after the other.
    #[serde(with = "serde_bytes")]
    pub interim: Vec<u8>,
    /// `None`: no final response was seen.
    pub response: Option<Message>,
    pub timing: Timing,
    pub bytes: Bytes,
    /// How many [`StreamMessage`]s each side sent, where the exchange is a gRPC call or a WebSocket.
    pub messages: Option<Messages>,
    pub outcome: Outcome,
    /// One sentence when the outcome is not `Complete`.
    pub detail: Option<Cow<'static, str>>,
    /// Which redaction rules changed it ("request.header.cookie"); filled in by [`crate::redact`].
    pub redacted: Vec<Cow<'static, str>>,
    /// What was given up of this record, and why, filled in by the tap: so far only interim heads that are beyond its
    /// limit ("interim: beyond the limit of one head"). A body that is cut at its cap says so by `Body::size`.
    pub dropped: Vec<Cow<'static, str>>,
}

/// Messages of an exchange by who sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Messages {
    pub client: u64,
    pub server: u64,
}

/// Who of the two sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sender {
    Client,
    Server,
}

/// What a [`StreamMessage`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageKind {
    /// WebSocket (RFC 6455 §5.6), as the four below.
    Text,
    Binary,
    Ping,
    Pong,
    /// The body is the frame's payload: nothing, or two bytes of code and a reason in UTF-8.
    Close,
    /// One length-prefixed message of a gRPC call, without its prefix.
    Grpc,
    /// A piece of a body that does not end soon, as it came; its border means nothing.
    Piece,
}

/// A part of an exchange that is written while the exchange is open: one WebSocket message, one message of a gRPC
/// call, or a piece of an endless body (64 KiB, or what came in a second).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamMessage {
    pub id: Ulid,
    pub connection: Arc<Connection>,
    /// When its first byte arrived.
    pub time: UnixMicros,
    /// [`Exchange::id`], which is written later.
    pub exchange: Ulid,
    /// Counts from 0 within the exchange, both senders together, in the order in which they were whole.
    pub seq: u64,
    pub stream: Option<u32>,
    pub protocol: Protocol,
    pub sender: Sender,
    pub kind: MessageKind,
    /// After decompression, where the protocol compresses messages (permessage-deflate, `grpc-encoding`).
    pub body: Body,
    /// Bytes of it on the wire, with its framing.
    pub wire: u64,
    /// It came compressed.
    pub compressed: bool,
    /// `time` to its last byte.
    pub end: Micros,
    /// `Complete`, or what was wrong with it (then with a sentence).
    pub outcome: Outcome,
    pub detail: Option<Cow<'static, str>>,
}

/// A connection that holds no exchange (opaque, refused, direct), or whose tap went blind: written when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionSummary {
    pub id: Ulid,
    pub connection: Arc<Connection>,
    pub protocol: Protocol,
    pub tls: Option<TlsFacts>,
    pub timing: Timing,
    pub bytes: Bytes,
    pub outcome: Outcome,
    pub detail: Option<Cow<'static, str>>,
}

/// Records that were given up: law 2 says that none goes uncounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub time: UnixMicros,
    pub until: UnixMicros,
    pub target: Arc<Target>,
    /// A fixed word: `queue_full`, `disk_full`, `store_full`, `write_error`, `tap_panic`, `kernel_ring_full`, `stray`, ….
    pub reason: Cow<'static, str>,
    pub exchanges: u64,
    pub bytes: u64,
}

/// Reasons of losses that are a time in which nobody captured: the agent had died, or handed the node to another one.
pub const AGENT_DOWN: &str = "agent_down";
pub const AGENT_HANDOVER: &str = "agent_handover";

/// Why connections of a pod are not recorded that its application answered in our place while we did not.
pub const FALLBACK: &str = "fallback";

impl Loss {
    /// A time of which nobody knows what passed in it: it counts, whatever its number.
    pub fn is_of_time(&self) -> bool {
        [AGENT_DOWN, AGENT_HANDOVER].contains(&self.reason.as_ref())
    }
}

impl StreamMessage {
    /// Its last byte.
    pub fn until(&self) -> UnixMicros {
        self.time.saturating_add(self.end)
    }

    /// Did the target send it?
    pub fn by_target(&self) -> bool {
        (self.sender == Sender::Client) == (self.connection.direction == Direction::Outbound)
    }

    /// Code and reason of a WebSocket's close message that gives them (RFC 6455 §5.5.1).
    pub fn close(&self) -> Option<(u16, &[u8])> {
        let (code, reason) = self.body.kept.split_first_chunk::<2>()?;
        (self.kind == MessageKind::Close).then_some((u16::from_be_bytes(*code), reason))
    }
}

impl Messages {
    /// How many the target sent, and how many it received.
    pub fn by_target(self, direction: Direction) -> (u64, u64) {
        match direction {
            Direction::Outbound => (self.client, self.server),
            Direction::Inbound => (self.server, self.client),
        }
    }
}

/// What a recorder is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    Exchange(Box<Exchange>),
    Connection(Box<ConnectionSummary>),
    Loss(Loss),
    Message(Box<StreamMessage>),
}
