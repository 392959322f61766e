//! What may be wrong with a conversation, in words that complete a sentence. It refuses to know what follows from it;
//! [`super`] says that in its table.

use std::borrow::Cow;

use nodetap_core::exchange::Outcome;

use super::super::Side;
use super::hpack::Corrupt;

/// What is wrong with a message (RFC 9113 §8.1.1): the connection is not harmed by it. Its text follows "The request" or
/// "The response".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("has a field name that is no lower-case token")]
    Name,
    #[error("has a CR, LF or NUL in a field value, which is shown as a space")]
    Value,
    #[error("has an unknown or misplaced pseudo-header field")]
    Pseudo,
    #[error("has a pseudo-header field twice")]
    PseudoTwice,
    #[error("has a pseudo-header field behind an ordinary one")]
    PseudoLate,
    #[error("lacks a pseudo-header field")]
    PseudoMissing,
    #[error("has an invalid method")]
    Method,
    #[error("has an invalid scheme, authority or path")]
    Target,
    #[error("has an invalid status")]
    Status,
    #[error("has a field that HTTP/2 forbids: it is about the connection")]
    ConnectionField,
    #[error("has a Content-Length that is not a plain number")]
    LengthInvalid,
    #[error("has several Content-Length values that differ")]
    LengthsDiffer,
    #[error("has a Content-Length that differs from the length of its content")]
    LengthWrong,
    #[error("has content although it must have none")]
    Content,
    #[error("has a DATA frame before its head")]
    DataFirst,
    #[error("has a DATA frame with more padding than bytes")]
    Padding,
    #[error("has a second head that does not end it")]
    SecondHead,
    #[error("ends with an interim head")]
    InterimEnd,
    #[error("ends without a head")]
    NoHead,
    #[error("goes on behind its end")]
    BehindEnd,
}

/// What is wrong with a connection. Its text follows "The client" or "The server".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("did not send the whole preface of HTTP/2")]
    Preface,
    #[error("did not begin with a SETTINGS frame")]
    NotSettings,
    #[error("sent a frame longer than its receiver allows")]
    FrameSize,
    #[error("sent another frame within a header block")]
    Interrupted,
    #[error("sent a CONTINUATION frame that continues nothing")]
    Continuation,
    #[error("sent a header block that does not fit into its frame")]
    BlockFrame,
    #[error("sent a SETTINGS frame of an impossible length")]
    Settings,
    #[error("sent a header block that ends within a field")]
    BlockCut,
    #[error("sent a header block with a number that is too large")]
    BlockNumber,
    #[error("sent a header block with an index that does not exist")]
    BlockIndex,
    #[error("sent a header block with an invalid Huffman code")]
    BlockHuffman,
    #[error("sent a header block that resizes its table as it must not")]
    BlockTable,
    #[error("sent a header block beyond the tap's limit")]
    BlockTooLarge,
    #[error("uses a header table beyond the tap's limit")]
    TableTooLarge,
    #[error("sent bytes that passed without being shown to the tap")]
    NotShown,
    #[error("sent a control frame of an impossible length")]
    ControlLength,
    #[error("sent a frame on a stream that it must not be sent on")]
    WrongStream,
    #[error("sent a frame on a stream that was not opened")]
    IdleStream,
    #[error("opened a stream with a number that it must not have")]
    StreamNumber,
}

impl Broken {
    /// `Malformed` only where the bytes are at fault: a limit of ours makes nothing wrong.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::BlockTooLarge | Self::TableTooLarge | Self::NotShown => Outcome::Passthrough,
            _ => Outcome::Malformed,
        }
    }

    pub(super) fn sentence(self, from: Side) -> Cow<'static, str> {
        let who = match from {
            Side::Client => "client",
            Side::Server => "server",
        };
        Cow::Owned(format!("The {who} {self}."))
    }
}

impl From<Corrupt> for Broken {
    fn from(corrupt: Corrupt) -> Self {
        match corrupt {
            Corrupt::Cut => Self::BlockCut,
            Corrupt::Number => Self::BlockNumber,
            Corrupt::Index => Self::BlockIndex,
            Corrupt::Huffman => Self::BlockHuffman,
            Corrupt::TableSize => Self::BlockTable,
            Corrupt::TableTooLarge => Self::TableTooLarge,
            Corrupt::TooLarge => Self::BlockTooLarge,
        }
    }
}

/// What an error code says (RFC 9113 §7).
pub(super) fn error_name(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    usize::try_from(code).ok().and_then(|code| NAMES.get(code)).unwrap_or(&"an unknown error")
}
