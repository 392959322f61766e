//! Chunked transfer coding (RFC 9112 §7.1), read strictly: where lenient readers disagree about where a chunk ends,
//! this one reports a [`Flaw`]. It refuses to know what is done with the data.

use nodetap_core::exchange::Message;
use nodetap_core::head::{Fields, Oddities};

use super::super::messages::keep;
use super::flaw::Flaw;

/// Where in the coding the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the digits of a chunk's size; `digits` of them (without leading zeros), `any` at all.
    Size {
        value: u64,
        any: bool,
    },
    /// Spaces behind the size, or an extension once a semicolon has come.
    Rest {
        value: u64,
        extension: bool,
    },
    /// The CR of the size line has come.
    SizeCr {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataEnd,
    DataCr,
    /// In the trailer section; its current line begins at this offset of what is kept.
    Trailers {
        line: usize,
    },
}

/// How many bytes were taken, and whether the body is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fed {
    pub(super) used: usize,
    pub(super) done: bool,
}

/// A chunked body in the making.
#[derive(Debug)]
pub(super) struct Chunked {
    place: Place,
    /// Bytes of the current chunk line.
    line: usize,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { place: Place::Size { value: 0, any: false }, line: 0 }
    }

    /// Data bytes that come next for certain.
    pub(super) fn data_left(&self) -> u64 {
        match self.place {
            Place::Data { left } => left,
            _ => 0,
        }
    }

    /// Counts data bytes (at most [`Self::data_left`]) that were not shown.
    pub(super) fn skip(&mut self, count: u64) {
        if let Place::Data { left } = &mut self.place {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.place = Place::DataEnd;
            }
        }
    }

    /// Takes bytes up to the end of the body; keeps at most `cap` bytes of data, allows lines and trailers of
    /// `limit` bytes. The error carries how many bytes were taken.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        into: &mut Message,
        cap: usize,
        limit: usize,
    ) -> Result<Fed, (Flaw, usize)> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            match self.place {
                Place::Data { left } => {
                    let count = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    keep(&mut into.body, rest.get(..count).unwrap_or_default(), cap, None);
                    self.skip(count as u64);
                    used += count;
                }
                Place::Trailers { line } => match trailer_line(rest, line, into, limit) {
                    Ok((count, Some(line))) => {
                        self.place = Place::Trailers { line };
                        used += count;
                    }
                    Ok((count, None)) => return Ok(Fed { used: used + count, done: true }),
                    Err((flaw, count)) => return Err((flaw, used + count)),
                },
                _ => {
                    self.line += 1;
                    if self.line > limit {
                        return Err((Flaw::TooLarge, used));
                    }
                    used += 1;
                    let byte = rest.first().copied().unwrap_or_default();
                    self.place = self.framing_byte(byte).map_err(|flaw| (flaw, used))?;
                }
            }
        }
        Ok(Fed { used, done: false })
    }

    fn framing_byte(&mut self, byte: u8) -> Result<Place, Flaw> {
        Ok(match (self.place, byte) {
            (Place::Size { any: true, value }, b'\r') => Place::SizeCr { value },
            (Place::Size { any: true, value }, b' ' | b'\t') => Place::Rest { value, extension: false },
            (Place::Size { any: true, value }, b';') => Place::Rest { value, extension: true },
            (Place::Size { any: true, .. }, b'\n') => return Err(Flaw::ChunkLineEnd),
            (Place::Size { value, .. }, digit) => Place::Size { value: append(value, digit)?, any: true },
            (Place::Rest { value, .. }, b'\r') => Place::SizeCr { value },
            (Place::Rest { .. }, b'\n') => return Err(Flaw::ChunkLineEnd),
            (Place::Rest { .. }, 0) => return Err(Flaw::ChunkExtension),
            (Place::Rest { value, extension: true }, _) | (Place::Rest { value, .. }, b';') => {
                Place::Rest { value, extension: true }
            }
            (Place::Rest { value, extension: false }, b' ' | b'\t') => Place::Rest { value, extension: false },
            (Place::Rest { extension: false, .. }, _) => return Err(Flaw::ChunkSize),
            (Place::SizeCr { value: 0 }, b'\n') => Place::Trailers { line: 0 },
            (Place::SizeCr { value }, b'\n') => Place::Data { left: value },
            (Place::SizeCr { .. }, _) => return Err(Flaw::ChunkExtension),
            (Place::DataEnd, b'\r') => Place::DataCr,
            (Place::DataCr, b'\n') => {
                self.line = 0;
                Place::Size { value: 0, any: false }
            }
            (Place::DataEnd, b'\n') => return Err(Flaw::ChunkLineEnd),
            (Place::DataEnd | Place::DataCr, _) => return Err(Flaw::ChunkEnd),
            // These two take whole slices, in `feed`.
            (place @ (Place::Data { .. } | Place::Trailers { .. }), _) => place,
        })
    }
}

/// One more hexadecimal digit.
fn append(value: u64, digit: u8) -> Result<u64, Flaw> {
    let digit = char::from(digit).to_digit(16).ok_or(Flaw::ChunkSize)?;
    value.checked_mul(16).and_then(|value| value.checked_add(u64::from(digit))).ok_or(Flaw::ChunkSize)
}

/// Takes bytes up to the end of the line that began at `line`: how many, and where the next line begins (`None`: that
/// was the empty line, and the section is whole).
fn trailer_line(
    bytes: &[u8],
    line: usize,
    into: &mut Message,
    limit: usize,
) -> Result<(usize, Option<usize>), (Flaw, usize)> {
    let feed = bytes.iter().position(|byte| *byte == b'\n');
    let count = feed.map_or(bytes.len(), |feed| feed + 1);
    // The empty line that ends the section may stand beyond the limit: it is not kept.
    let room = limit.saturating_add(2).saturating_sub(into.trailers.len());
    if count > room {
        into.trailers.extend_from_slice(bytes.get(..room).unwrap_or_default());
        into.trailers.truncate(limit);
        return Err((Flaw::TooLarge, room));
    }
    into.trailers.extend_from_slice(bytes.get(..count).unwrap_or_default());
    if feed.is_none() {
        return Ok((count, Some(line)));
    }
    match into.trailers.get(line..).unwrap_or_default() {
        b"\r\n" => into.trailers.truncate(line),
        [.., b'\r', b'\n'] => return Ok((count, Some(into.trailers.len()))),
        _ => return Err((Flaw::ChunkLineEnd, count)),
    }
    let mut fields = Fields::of(&into.trailers);
    let nameless = fields.by_ref().any(|field| field.name.is_empty());
    fields.by_ref().for_each(drop);
    let wrong = Oddities::NUL.union(Oddities::BARE_CR).union(Oddities::NO_COLON).union(Oddities::SPACE_BEFORE_NAME);
    if nameless || fields.oddities().intersects(wrong) {
        return Err((Flaw::Trailers, count));
    }
    Ok((count, None))
}
