//! What the data plane produces: connections, exchanges and losses, as values. Heads are kept as the raw bytes that
//! were seen, so that nothing is normalised away and nothing is parsed twice on the hot path; the JSON view is made of
//! them when somebody reads. It refuses to know how a record is stored, filtered or shown.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ulid::Ulid;

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
}

/// How an exchange or a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    Complete,
    ClientAborted,
    ServerAborted,
    /// The server did not accept the connection (RST or ICMP unreachable).
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
}

/// What all exchanges of one connection have in common. Made once, shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub id: Ulid,
    pub direction: Direction,
    pub via: Via,
    /// The command line's or pod's name for the target.
    pub target: String,
    pub process: Option<Process>,
    /// The real client, never an address of ours.
    pub client: SocketAddr,
    /// The original destination, never an address of ours.
    pub server: SocketAddr,
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
}

/// One HTTP message: request or response.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Message {
    /// Start line and field lines exactly as sent, with the empty line that ends them (absent when cut).
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
    pub request: Message,
    /// Interim (1xx) responses that came before the final one, raw heads one after the other.
    #[serde(with = "serde_bytes")]
    pub interim: Vec<u8>,
    /// `None`: no final response was seen.
    pub response: Option<Message>,
    pub timing: Timing,
    pub bytes: Bytes,
    pub outcome: Outcome,
    /// One sentence when the outcome is not `Complete`.
    pub detail: Option<Cow<'static, str>>,
    /// Which redaction rules changed it ("request.header.cookie"); filled in by [`crate::redact`].
    pub redacted: Vec<Cow<'static, str>>,
    /// What was given up of this record, and why, filled in by the tap: so far only interim heads that are beyond its
    /// limit ("interim: beyond the limit of one head"). A body that is cut at its cap says so by `Body::size`.
    pub dropped: Vec<Cow<'static, str>>,
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
    pub target: String,
    /// A fixed word: `queue_full`, `disk_full`, `store_full`, `write_error`, `tap_panic`, `kernel_ring_full`, `stray`, ….
    pub reason: Cow<'static, str>,
    pub exchanges: u64,
    pub bytes: u64,
}

/// What a recorder is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    Exchange(Box<Exchange>),
    Connection(Box<ConnectionSummary>),
    Loss(Loss),
}
