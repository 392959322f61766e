//! How records lie in a file: a header, then frames that stand for themselves, so that a reader finds every whole
//! record again whatever happened to the bytes between. Pure: it refuses to know files, names and folders.
//!
//! ```text
//! file    = header frame*
//! header  = "NODETAP\n" · version u16 · 0 u16 · salt u32 · created u64 (µs since 1970) · crc32c u32 of all before
//! frame   = marker (F5 'n' 't' A7 · salt u32) · length u32 of payload · crc32c u32 of (length, kind, payload) · kind u8 · payload
//! ```
//! Integers are little-endian. The salt is random per file: what was recorded cannot pass for a frame, even when it
//! is itself a segment. A kind carries the version of its payload; a reader skips kinds it does not know. Payloads are
//! postcard (<https://postcard.jamesmunns.com/wire-format>) of the types in [`crate::exchange`].

mod old;
mod scan;
#[cfg(test)]
mod tests;

use crate::exchange::{Connection, ConnectionSummary, Event, Exchange, Loss, StreamMessage, UnixMicros};
use crate::ulid::Ulid;

pub use scan::{Damage, DamageKind, Frame, Item, Scanner};

pub const MAGIC: &[u8; 8] = b"NODETAP\n";
/// Of the file's layout and of the kinds in it: a reader that knows none of the kinds would find such a file empty, and
/// is to say that it is too old instead. Files of earlier versions are read.
pub const VERSION: u16 = 2;
/// Bytes of a file's header.
pub const HEADER: usize = 28;
/// Bytes of a frame beside its payload.
pub const FRAME: usize = 17;
/// Bytes of a payload at most; a reader needs not much more memory than this.
pub const MAX_PAYLOAD: usize = 64 << 20;

const MARKER: [u8; 4] = [0xF5, b'n', b't', 0xA7];
// 1 and 2 were the kinds of a version that was never released; 3 to 6 are those of version 1 (see `old`).
const LOSS_2: u8 = 7;
const EXCHANGE_3: u8 = 8;
const CONNECTION_3: u8 = 9;
const MESSAGE_2: u8 = 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it is no nodetap segment")]
    NotASegment,
    #[error("it is a segment of version {0}, which this nodetap cannot read (it reads up to {VERSION})")]
    Version(u16),
    #[error("a record of {0} bytes is more than the {MAX_PAYLOAD} that a frame holds")]
    TooLarge(usize),
    #[error("a record cannot be encoded: {0}")]
    Encode(postcard::Error),
    #[error("reading failed: {0}")]
    Read(#[from] std::io::Error),
}

/// The header of a new segment. `salt` should be random.
pub fn header(created: UnixMicros, salt: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let (fields, crc) = bytes.split_at_mut(HEADER - 4);
    fields[..8].copy_from_slice(MAGIC);
    fields[8..10].copy_from_slice(&VERSION.to_le_bytes());
    fields[12..16].copy_from_slice(&salt.to_le_bytes());
    fields[16..24].copy_from_slice(&created.to_le_bytes());
    crc.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
    bytes
}

/// Appends one frame to `out`; on an error `out` is as it was.
pub fn encode(event: &Event, salt: u32, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(&marker(salt));
    out.extend_from_slice(&[0; 8]);
    let result = match event {
        Event::Exchange(exchange) => payload(EXCHANGE_3, exchange, out),
        Event::Connection(connection) => payload(CONNECTION_3, connection, out),
        Event::Loss(loss) => payload(LOSS_2, loss, out),
        Event::Message(message) => payload(MESSAGE_2, message, out),
    };
    let length = match result {
        Ok(()) => out.len() - start - FRAME,
        Err(error) => {
            out.truncate(start);
            return Err(Error::Encode(error));
        }
    };
    let Some(short) = u32::try_from(length).ok().filter(|_| length <= MAX_PAYLOAD) else {
        out.truncate(start);
        return Err(Error::TooLarge(length));
    };
    if let Some((head, kind_and_payload)) = out.get_mut(start..).and_then(|frame| frame.split_at_mut_checked(16)) {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&short.to_le_bytes()), kind_and_payload);
        head[8..12].copy_from_slice(&short.to_le_bytes());
        head[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    Ok(())
}

fn payload<T: serde::Serialize>(kind: u8, value: &T, out: &mut Vec<u8>) -> Result<(), postcard::Error> {
    out.push(kind);
    postcard::to_extend(value, Append(out)).map(drop)
}

/// Lets postcard write behind what is there already.
struct Append<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Append<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

fn marker(salt: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&MARKER);
    bytes[4..].copy_from_slice(&salt.to_le_bytes());
    bytes
}

/// The record in a frame; `None` for a kind that this version does not know.
pub fn decode(kind: u8, payload: &[u8]) -> Result<Option<Event>, postcard::Error> {
    if let Some((kind, payload)) = old::renewed(kind, payload)? {
        return decode(kind, &payload);
    }
    Ok(Some(match kind {
        EXCHANGE_3 => Event::Exchange(Box::new(postcard::from_bytes::<Exchange>(payload)?)),
        CONNECTION_3 => Event::Connection(Box::new(postcard::from_bytes::<ConnectionSummary>(payload)?)),
        LOSS_2 => Event::Loss(postcard::from_bytes::<Loss>(payload)?),
        MESSAGE_2 => Event::Message(Box::new(postcard::from_bytes::<StreamMessage>(payload)?)),
        _ => return Ok(None),
    }))
}

/// What a record is sorted and found by, without decoding the rest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The record's `time`.
    pub time: UnixMicros,
    pub what: What,
}

/// Which record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Loss,
    Exchange(Ulid),
    Connection(Ulid),
    /// With the exchange that it is part of, and its number in there.
    Message {
        id: Ulid,
        exchange: Ulid,
        seq: u64,
    },
}

/// The key of a frame's record; `None` for a kind that this version does not know.
pub fn key(kind: u8, payload: &[u8]) -> Result<Option<Key>, postcard::Error> {
    if let Some((kind, payload)) = old::renewed(kind, payload)? {
        return key(kind, &payload);
    }
    Ok(Some(match kind {
        EXCHANGE_3 => {
            let ((id, _, time), _) = postcard::take_from_bytes::<(Ulid, Connection, UnixMicros)>(payload)?;
            Key { time, what: What::Exchange(id) }
        }
        CONNECTION_3 => {
            let ((id, connection), _) = postcard::take_from_bytes::<(Ulid, Connection)>(payload)?;
            Key { time: connection.accepted, what: What::Connection(id) }
        }
        LOSS_2 => Key { time: postcard::take_from_bytes::<UnixMicros>(payload)?.0, what: What::Loss },
        MESSAGE_2 => {
            type Beginning = (Ulid, Connection, UnixMicros, Ulid, u64);
            let ((id, _, time, exchange, seq), _) = postcard::take_from_bytes::<Beginning>(payload)?;
            Key { time, what: What::Message { id, exchange, seq } }
        }
        _ => return Ok(None),
    }))
}
