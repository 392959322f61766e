//! A record as JSON lines: what `ls -o json`, `tail -o json` and `export --format jsonl` speak. The types are the
//! schema: `record.schema.json` is generated from them. Names never change meaning; a new key is an addition; a
//! removed or changed one raises [`VERSION`].

mod convert;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub(crate) use convert::{grpc_of, head_fields, headers};

/// The `v` of a record.
pub const VERSION: u32 = 1;

/// The JSON Schema (draft 2020-12) of one line.
pub const SCHEMA: &str = include_str!("../../record.schema.json");

/// Name and value, as sent.
pub type Header = (String, String);

/// A ULID: 26 characters, sorts by time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Id(#[cfg_attr(test, schemars(regex(pattern = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$")))] pub String);

/// RFC 3339, UTC, microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Time(#[cfg_attr(test, schemars(regex(pattern = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")))] pub String);

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Record {
    Exchange(Box<ExchangeRecord>),
    Connection(Box<ConnectionRecord>),
    Message(Box<MessageRecord>),
    Loss(Box<LossRecord>),
    Notice(NoticeRecord),
}

/// One HTTP request with its response; written when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExchangeRecord {
    #[cfg_attr(test, schemars(range(min = 1, max = 1)))]
    pub v: u32,
    pub id: Id,
    /// When the first byte of the request arrived.
    pub time: Time,
    pub kind: ExchangeKind,
    #[serde(flatten)]
    pub facts: Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    pub request: Request,
    /// Absent: no final response was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
    /// Interim (1xx) responses that came before the final one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interim: Vec<Interim>,
    #[serde(flatten)]
    pub ending: Ending,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Grpc>,
    /// Which redaction rules changed this record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<String>,
    /// Which parts were given up, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
}

/// A connection that was not looked into, or whose exchanges could not be told apart any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConnectionRecord {
    #[cfg_attr(test, schemars(range(min = 1, max = 1)))]
    pub v: u32,
    pub id: Id,
    /// When it was accepted.
    pub time: Time,
    pub kind: ConnectionKind,
    #[serde(flatten)]
    pub facts: Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    #[serde(flatten)]
    pub ending: Ending,
}

/// One message of a WebSocket or of a gRPC call, or a piece of an endless body; written while its exchange is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MessageRecord {
    #[cfg_attr(test, schemars(range(min = 1, max = 1)))]
    pub v: u32,
    pub id: Id,
    /// When its first byte arrived.
    pub time: Time,
    pub kind: MessageKind,
    #[serde(flatten)]
    pub facts: Facts,
    /// The `id` of the exchange that it is part of.
    pub exchange: Id,
    /// Counts from 0 within the exchange, both senders together.
    pub seq: u64,
    pub from: Sender,
    #[serde(rename = "type")]
    pub what: MessageType,
    /// After decompression, where the protocol compresses messages.
    pub body: Body,
    /// It came compressed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compressed: bool,
    /// Of a WebSocket's close message that gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    #[serde(flatten)]
    pub ending: Ending,
}

/// Records that were given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LossRecord {
    #[cfg_attr(test, schemars(range(min = 1, max = 1)))]
    pub v: u32,
    pub kind: LossKind,
    pub time: Time,
    pub until: Time,
    pub target: Target,
    /// A fixed word: `queue_full`, `disk_full`, `store_full`, `write_error`, …
    pub reason: String,
    /// How many records.
    pub exchanges: u64,
    /// Bytes of their heads and bodies, as far as they are known.
    pub bytes: u64,
}

/// What a reader of many nodes has to know about the lines around it: that some are missing, or that more follow on
/// another page. Nothing of it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NoticeRecord {
    #[cfg_attr(test, schemars(range(min = 1, max = 1)))]
    pub v: u32,
    pub kind: NoticeKind,
    /// When it was said.
    pub time: Time,
    /// A fixed word: `node_failed`, `node_damaged`, `node_limit`, `page_end`, `watch_end`, ….
    pub reason: String,
    /// The node it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// One sentence.
    pub detail: String,
    /// Where the next page begins: the same question with `continue` set to this.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Whose connection it was, and between whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Facts {
    pub direction: Direction,
    pub protocol: Protocol,
    pub target: Target,
    /// The opener (outbound) or the listener (inbound), of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    pub client: Peer,
    pub server: Peer,
    pub via: Via,
    /// The connection's id: the same in all exchanges of one connection.
    pub connection: Id,
    /// The HTTP/2 stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ending {
    pub timing: Timing,
    pub bytes: Bytes,
    pub outcome: Outcome,
    /// One sentence, where the outcome is not `complete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ExchangeKind {
    #[serde(rename = "exchange")]
    Exchange,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ConnectionKind {
    #[serde(rename = "connection")]
    Connection,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum MessageKind {
    #[serde(rename = "message")]
    Message,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sender {
    Client,
    Server,
}

/// `grpc`: one message of a call; `piece`: a part of an endless body, whose borders mean nothing; the others are
/// WebSocket's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
    Grpc,
    Piece,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum LossKind {
    #[serde(rename = "loss")]
    Loss,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum NoticeKind {
    #[serde(rename = "notice")]
    Notice,
}

/// As seen by the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Inbound,
    Outbound,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Protocol {
    #[serde(rename = "http/1.0")]
    Http10,
    #[serde(rename = "http/1.1")]
    Http11,
    #[serde(rename = "tls")]
    Tls,
    #[serde(rename = "tcp")]
    Tcp,
    #[serde(rename = "h2")]
    Http2,
    #[serde(rename = "grpc")]
    Grpc,
    #[serde(rename = "websocket")]
    WebSocket,
    #[serde(rename = "sse")]
    EventStream,
}

/// How the bytes reached us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    Transparent,
    Direct,
    Reverse,
    ForwardHttp,
    ForwardConnect,
    #[serde(rename = "forward-socks4")]
    ForwardSocks4,
    #[serde(rename = "forward-socks5")]
    ForwardSocks5,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Complete,
    ClientAborted,
    ServerAborted,
    Refused,
    Timeout,
    Malformed,
    Passthrough,
}

/// What is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Target {
    pub kind: TargetKind,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Whose pod it is, with the kind: `Deployment/web`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Those of the pod's labels that were chosen to be recorded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    Command,
    Pod,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Process {
    pub pid: u32,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Peer {
    pub address: IpAddr,
    pub port: u16,
    /// Pod or service, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offered_alpn: Vec<String>,
    /// Only where it can be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    pub opened: bool,
    /// It was to be opened and was not: why, a fixed word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passthrough: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Request {
    pub method: String,
    /// Absolute, as a user would write it.
    pub url: String,
    /// The raw request target, where it cannot be derived from the url.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub headers: Vec<Header>,
    pub body: Body,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<Header>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Response {
    /// Absent: the status line had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub headers: Vec<Header>,
    pub body: Body,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<Header>,
}

/// A 1xx response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Interim {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub headers: Vec<Header>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Body {
    /// Bytes after transfer decoding.
    pub size: u64,
    /// How many of them are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<u64>,
    /// `kept` is less than `size`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// When it is valid UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// `messages`: what was kept of it is in the `message` records of this exchange.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub place: Option<BodyPlace>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BodyPlace {
    Messages,
}

/// What only a gRPC call has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Grpc {
    pub service: String,
    pub method: String,
    /// `grpc-status`; absent: the call ended without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// `grpc-message`, percent-decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub messages: MessageCounts,
}

/// Messages of an exchange, as the target sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MessageCounts {
    pub sent: u64,
    pub received: u64,
}

/// Microseconds after `time`; absent: it did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timing {
    /// The upstream connection stood (only on the first exchange of a connection).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_end: Option<u64>,
    /// First byte of the final response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
}

/// On the wire, by the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bytes {
    pub sent: u64,
    pub received: u64,
}
