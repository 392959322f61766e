//! Why a tap stops following a conversation: what is wrong with a message, in words that complete a sentence. It
//! refuses to know what follows from a flaw; [`super`] says that in its table.

use nodetap_core::exchange::Outcome;

/// What is wrong with a message. Its text follows "The request" or "The response".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("has an invalid start line")]
    StartLine,
    #[error("has a NUL byte in its head")]
    Nul,
    #[error("has a CR without LF in its head")]
    BareCr,
    #[error("has a field line without a colon")]
    NoColon,
    #[error("has a field line without a name")]
    NoName,
    #[error("has a first field line that begins with whitespace")]
    SpaceBeforeName,
    #[error("has whitespace before the colon of a framing field")]
    SpaceBeforeColon,
    #[error("has a folded framing field")]
    FoldedFraming,
    #[error("has a field that only some readers take for a framing field")]
    DisguisedFraming,
    #[error("has both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    #[error("has several Content-Length values that differ")]
    LengthsDiffer,
    #[error("has a Content-Length that is not a plain number")]
    LengthInvalid,
    #[error("has a Transfer-Encoding that is not a plain list of codings")]
    CodingInvalid,
    #[error("has chunked more than once in its Transfer-Encoding")]
    ChunkedTwice,
    #[error("has a Transfer-Encoding that does not end in chunked")]
    CodingNotChunked,
    #[error("has Transfer-Encoding although it is HTTP/1.0")]
    CodingInHttp10,
    #[error("has an invalid chunk size")]
    ChunkSize,
    #[error("has a bare CR or NUL in a chunk extension")]
    ChunkExtension,
    #[error("has a chunk line that does not end in CR LF")]
    ChunkLineEnd,
    #[error("has a chunk that is longer or shorter than its size")]
    ChunkEnd,
    #[error("has an invalid trailer section")]
    Trailers,
    #[error("switches protocols before the request was whole")]
    EarlySwitch,
    #[error("came although no request was waiting for it")]
    Unasked,
    #[error("has a head, trailer section or chunk line beyond the tap's limit")]
    TooLarge,
    #[error("has more field lines than the tap's limit")]
    TooManyFields,
    #[error("came while more requests waited than the tap's limit")]
    Pipeline,
    #[error("came while more bytes of requests waited than the tap's limit")]
    Waiting,
    #[error("came behind a request to switch protocols, with more bytes than the tap's limit")]
    Held,
    #[error("passed without being shown to the tap")]
    NotShown,
}

impl Flaw {
    /// `Malformed` only where the bytes are at fault: a limit of ours makes no message wrong.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::TooLarge | Self::TooManyFields | Self::Pipeline | Self::Waiting | Self::Held | Self::NotShown => {
                Outcome::Passthrough
            }
            _ => Outcome::Malformed,
        }
    }
}
