//! Reads a segment front to back and finds its way again after damage. Its memory is bounded by the largest frame.

use std::io::Read;

use super::{Error, FRAME, HEADER, MAGIC, MARKER, MAX_PAYLOAD, VERSION, marker};

/// How much is asked of the reader at once, in bytes.
const READ: usize = 64 << 10;
/// How far a frame is looked for in a file whose header is damaged, in bytes.
const SALT_SEARCH: usize = 1 << 20;
/// How many places are tried there.
const SALT_CANDIDATES: usize = 1000;

/// A whole frame: its checksum is right.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Where it begins in the file, and its length beside there: what is needed to read it again.
    pub offset: u64,
    pub bytes: u64,
    pub kind: u8,
    pub payload: &'a [u8],
}

/// Bytes that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub offset: u64,
    pub bytes: u64,
    pub kind: DamageKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DamageKind {
    /// The end of the file is not a whole record: the writer was cut off, or is writing.
    TornTail,
    /// The file ends in zeros: space that was set aside and not written.
    ZeroTail,
    /// Something in the middle is not what was written.
    Corrupt,
    /// The file's header is not what was written.
    Header,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { offset, bytes, kind } = self;
        match kind {
            DamageKind::TornTail => {
                write!(f, "stopped at offset {offset}: the last record is not whole, {bytes} bytes cut")
            }
            DamageKind::ZeroTail => write!(f, "stopped at offset {offset}: {bytes} bytes of zeros follow"),
            DamageKind::Corrupt => write!(f, "damaged at offset {offset}: {bytes} bytes skipped"),
            DamageKind::Header => write!(f, "its header is damaged ({bytes} bytes), the records are read all the same"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Frame(Frame<'a>),
    Damage(Damage),
}

/// Reads frames from any reader. Errors of the reader end it.
#[derive(Debug)]
pub struct Scanner<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where in the file `buffer` begins.
    base: u64,
    /// How much of `buffer` was taken.
    at: usize,
    ended: bool,
    salt: u32,
    header_damage: Option<Damage>,
    /// Behind the last whole frame, in the file.
    good: u64,
}

/// What stands at a place of the buffer.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// A whole frame of that many payload bytes.
    Whole(usize),
    /// No frame.
    Nothing,
    /// It may be the beginning of a frame that the file does not hold to its end.
    Short,
    End,
}

/// Bytes that are being skipped.
struct Lost {
    offset: u64,
    /// They begin like a frame that the file does not hold to its end.
    short: bool,
    zeros: bool,
}

impl Lost {
    fn until(&self, end: u64, kind: DamageKind) -> Damage {
        Damage { offset: self.offset, bytes: end - self.offset, kind }
    }

    fn tail(&self) -> DamageKind {
        match self {
            Self { zeros: true, .. } => DamageKind::ZeroTail,
            Self { short: true, .. } => DamageKind::TornTail,
            _ => DamageKind::Corrupt,
        }
    }
}

impl<R: Read> Scanner<R> {
    /// Reads the header. A damaged header is no error as long as a frame is found: it is reported as damage.
    pub fn open(source: R) -> Result<Self, Error> {
        let mut scanner = Self::at(source, 0, 0);
        scanner.fill(HEADER)?;
        let found = scanner.buffer.get(..HEADER).unwrap_or(&scanner.buffer);
        match read_header(found) {
            Ok(salt) => {
                scanner.salt = salt;
                (scanner.at, scanner.good) = (HEADER, HEADER as u64);
            }
            Err(Some(Error::Version(version))) => return Err(Error::Version(version)),
            Err(_) => scanner.recover_header()?,
        }
        Ok(scanner)
    }

    /// Goes on in a segment whose salt is known, at an offset where a frame begins ([`Scanner::position`]);
    /// `source` stands there.
    pub fn resume(source: R, salt: u32, offset: u64) -> Self {
        Self::at(source, salt, offset)
    }

    fn at(source: R, salt: u32, offset: u64) -> Self {
        Self { source, buffer: Vec::new(), base: offset, at: 0, ended: false, salt, header_damage: None, good: offset }
    }

    pub fn salt(&self) -> u32 {
        self.salt
    }

    /// Behind the last whole frame (or the header), as an offset in the file: what follows a cut is appended there.
    pub fn position(&self) -> u64 {
        self.good
    }

    /// The next frame or damage; `None` at the end.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, Error> {
        if let Some(damage) = self.header_damage.take() {
            return Ok(Some(Item::Damage(damage)));
        }
        self.compact();
        let mut lost: Option<Lost> = None;
        loop {
            let look = self.look()?;
            match (look, &mut lost) {
                (Look::Whole(_), Some(lost)) => {
                    return Ok(Some(Item::Damage(lost.until(self.offset(), DamageKind::Corrupt))));
                }
                (Look::Whole(length), None) => return Ok(Some(Item::Frame(self.take(length)))),
                (Look::End, None) => return Ok(None),
                (Look::End, Some(lost)) => {
                    return Ok(Some(Item::Damage(lost.until(self.offset(), lost.tail()))));
                }
                (Look::Nothing | Look::Short, lost) => {
                    let short = matches!(look, Look::Short);
                    let offset = self.offset();
                    let lost = lost.get_or_insert(Lost { offset, short, zeros: true });
                    self.skip(lost)?;
                }
            }
        }
    }

    fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// `at` must be the place of a whole frame.
    fn take(&mut self, length: usize) -> Frame<'_> {
        let (offset, start) = (self.offset(), self.at);
        self.at += FRAME + length;
        self.good = self.offset();
        let kind = self.buffer.get(start + FRAME - 1).copied().unwrap_or_default();
        let payload = self.buffer.get(start + FRAME..self.at).unwrap_or_default();
        Frame { offset, bytes: (FRAME + length) as u64, kind, payload }
    }

    /// Lets go of what was taken, so that the buffer does not grow with the file.
    fn compact(&mut self) {
        if self.at >= READ {
            self.buffer.drain(..self.at);
            self.base += self.at as u64;
            self.at = 0;
        }
    }

    /// Goes on to the next marker behind this place, or to the end.
    fn skip(&mut self, lost: &mut Lost) -> Result<(), Error> {
        let marker = marker(self.salt);
        let mut from = self.at + 1;
        loop {
            let bytes = self.buffer.get(from..).unwrap_or_default();
            let found = bytes.windows(marker.len()).position(|window| window == marker);
            let next = match found {
                Some(found) => from + found,
                None if self.ended => self.buffer.len(),
                None => from.max(self.buffer.len().saturating_sub(marker.len() - 1)),
            };
            let skipped = self.buffer.get(self.at..next).unwrap_or_default();
            lost.zeros = lost.zeros && skipped.iter().all(|byte| *byte == 0);
            self.at = next.min(self.buffer.len());
            if found.is_some() || self.ended {
                return Ok(());
            }
            self.compact();
            from = self.at;
            self.fill(self.buffer.len() + 1)?;
        }
    }

    fn look(&mut self) -> Result<Look, Error> {
        self.fill(self.at + FRAME)?;
        let bytes = self.buffer.get(self.at..).unwrap_or_default();
        let marker = marker(self.salt);
        let Some(head) = bytes.get(..FRAME) else {
            let begun = marker.starts_with(bytes) || bytes.starts_with(&marker);
            return Ok(if bytes.is_empty() {
                Look::End
            } else if begun {
                Look::Short
            } else {
                Look::Nothing
            });
        };
        let (length_bytes, crc) = (word(head, 8).to_le_bytes(), word(head, 12));
        let length = word(head, 8) as usize;
        if !head.starts_with(&marker) || length > MAX_PAYLOAD {
            return Ok(Look::Nothing);
        }
        let end = self.at + FRAME + length;
        self.fill(end)?;
        match self.buffer.get(self.at + FRAME - 1..end) {
            Some(body) if crc32c::crc32c_append(crc32c::crc32c(&length_bytes), body) == crc => Ok(Look::Whole(length)),
            Some(_) => Ok(Look::Nothing),
            None => Ok(Look::Short),
        }
    }

    /// Reads until `length` bytes are there, or the source ends.
    fn fill(&mut self, length: usize) -> Result<(), Error> {
        while self.buffer.len() < length && !self.ended {
            let have = self.buffer.len();
            let want = READ.max(length - have);
            let got = (&mut self.source).take(want as u64).read_to_end(&mut self.buffer)?;
            self.ended = got < want;
        }
        Ok(())
    }

    /// The header is not readable: any marker that is followed by a whole frame tells the salt.
    fn recover_header(&mut self) -> Result<(), Error> {
        self.fill(SALT_SEARCH)?;
        let candidates: Vec<usize> = (self.buffer.windows(MARKER.len()).enumerate())
            .filter_map(|(at, window)| (window == MARKER).then_some(at))
            .take(SALT_CANDIDATES)
            .collect();
        for at in candidates {
            self.at = at;
            self.fill(at + FRAME)?;
            self.salt = word(self.buffer.get(at..).unwrap_or_default(), 4);
            if let Look::Whole(_) = self.look()? {
                self.header_damage = Some(Damage { offset: 0, bytes: at as u64, kind: DamageKind::Header });
                return Ok(());
            }
        }
        // Nothing but the beginning of a header, or a damaged header and not one whole record.
        let magic = self.buffer.get(..MAGIC.len()).unwrap_or(&self.buffer);
        let known = self.buffer.is_empty() || MAGIC.starts_with(magic) || self.buffer.iter().all(|byte| *byte == 0);
        if !known {
            return Err(Error::NotASegment);
        }
        self.at = 0;
        Ok(())
    }
}

/// The salt; `Err(None)` when it is not a readable header.
fn read_header(bytes: &[u8]) -> Result<u32, Option<Error>> {
    let (fields, crc) = bytes.split_at_checked(HEADER - 4).ok_or(None)?;
    if crc.len() < 4 || crc32c::crc32c(fields) != word(crc, 0) || !fields.starts_with(MAGIC) {
        return Err(None);
    }
    // A version in a header whose checksum is right is meant.
    let version = u16::from_le_bytes([fields[8], fields[9]]);
    if (1..=VERSION).contains(&version) { Ok(word(fields, 12)) } else { Err(Some(Error::Version(version))) }
}

/// A little-endian word; 0 where the bytes end.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}
