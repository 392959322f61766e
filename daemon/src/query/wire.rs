//! Records on their way from an agent to the controller, and from there to a `nodetap` on somebody's laptop: frames one
//! after the other, each decoded alone.
//!
//! ```text
//! frame = length u32 of payload (little-endian) · kind u8 · payload
//! ```
//! A kind below 128 is one of segments, with its payload; the others are ours. What a reader does not know it skips.

use nodetap_core::exchange::Event;
use nodetap_core::record::NoticeRecord;
use nodetap_core::segment::{self, FRAME};

/// The media type of such a stream.
pub const MEDIA_TYPE: &str = "application/vnd.nodetap.records";

/// Bytes of a frame's head.
const HEAD: usize = 5;
/// Bytes of a payload at most: two bodies and two heads as large as we keep them are far below.
const MAX_PAYLOAD: usize = 16 << 20;
/// JSON of a [`NoticeRecord`].
const NOTICE: u8 = 128;
/// Nothing: what comes from here on is new. Also sent when there has been nothing to say for a while.
const LIVE: u8 = 129;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a record of {0} bytes is more than {MAX_PAYLOAD}")]
    TooLarge(usize),
    #[error("a record cannot be encoded: {0}")]
    Encode(#[from] segment::Error),
    #[error("a record cannot be decoded: {0}")]
    Decode(String),
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Record(Event),
    Notice(NoticeRecord),
    Live,
}

impl Item {
    /// Appends it; on an error `out` is as it was.
    ///
    /// # Errors
    /// When it is too large.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Record(event) => return record(event, out),
            Self::Notice(notice) => {
                let json = serde_json::to_vec(notice).map_err(|error| Error::Decode(error.to_string()))?;
                head(json.len(), NOTICE, out)?;
                out.extend_from_slice(&json);
            }
            Self::Live => head(0, LIVE, out)?,
        }
        Ok(())
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Option<Self>, Error> {
        match kind {
            NOTICE => {
                let notice = serde_json::from_slice(payload).map_err(|error| Error::Decode(error.to_string()))?;
                Ok(Some(Self::Notice(notice)))
            }
            LIVE => Ok(Some(Self::Live)),
            kind => match segment::decode(kind, payload) {
                Ok(event) => Ok(event.map(Self::Record)),
                Err(error) => Err(Error::Decode(error.to_string())),
            },
        }
    }
}

/// What a segment's frame says beside its kind and payload is for files.
fn record(event: &Event, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    segment::encode(event, 0, out)?;
    let payload = out.len().saturating_sub(start + FRAME);
    let Some(length) = u32::try_from(payload).ok().filter(|_| payload <= MAX_PAYLOAD) else {
        out.truncate(start);
        return Err(Error::TooLarge(payload));
    };
    // The kind is the last byte of a segment's frame before its payload, and of ours.
    out.drain(start..start + FRAME - HEAD);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

fn head(payload: usize, kind: u8, out: &mut Vec<u8>) -> Result<(), Error> {
    let length = u32::try_from(payload).ok().filter(|_| payload <= MAX_PAYLOAD).ok_or(Error::TooLarge(payload))?;
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind);
    Ok(())
}

/// Puts together what arrives in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// What of them was decoded.
    done: usize,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.done));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole item; `None`: more bytes are needed.
    ///
    /// # Errors
    /// When it is none; nothing that follows makes sense then.
    pub fn next_item(&mut self) -> Result<Option<Item>, Error> {
        loop {
            let rest = self.bytes.get(self.done..).unwrap_or_default();
            let Some((&[a, b, c, d, kind], rest)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
            let length = u32::from_le_bytes([a, b, c, d]) as usize;
            if length > MAX_PAYLOAD {
                return Err(Error::TooLarge(length));
            }
            let Some(payload) = rest.get(..length) else { return Ok(None) };
            let item = Item::decode(kind, payload)?;
            self.done += HEAD + length;
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    /// Did it end between two frames?
    pub fn is_empty(&self) -> bool {
        self.done == self.bytes.len()
    }
}
