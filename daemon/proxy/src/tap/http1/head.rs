//! Collects a head that may arrive in pieces. A head that lies whole in one chunk is judged and copied once, straight
//! from there; only a head in pieces is gathered in a buffer. Either way the result is the same.

use super::flaw::Flaw;
use super::framing::Judged;

/// What became of the bytes.
#[derive(Debug)]
pub(super) enum Read<T> {
    /// All were taken, and the head is not whole.
    More,
    /// `used` of them ended the head.
    Whole { used: usize, head: Vec<u8>, facts: T },
    /// After `used` of them it was clear that this is wrong; `head` is what there is of it.
    Flawed { used: usize, head: Vec<u8>, flaw: Flaw },
}

/// Where in a line the last byte stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    LineStart,
    CrAtLineStart,
    Inside,
}

/// A head in the making; its memory is at most the limit that `read` is given.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    buffer: Vec<u8>,
    place: Place,
    start_line_seen: bool,
}

impl HeadReader {
    /// Takes bytes up to the end of the head, which may be `limit` bytes long; `judge` reads them.
    pub(super) fn read<T>(&mut self, bytes: &[u8], limit: usize, judge: impl Fn(&[u8]) -> Judged<T>) -> Read<T> {
        if self.buffer.is_empty() {
            match settle(bytes, limit, judge(bytes)) {
                Read::More if bytes.len() <= limit => {}
                Read::More => return too_large(bytes, limit, limit),
                settled => return settled,
            }
        }
        self.gather(bytes, limit, judge)
    }

    /// Begins with a CR that was taken for something else.
    pub(super) fn begin_with_cr(&mut self) {
        self.buffer.push(b'\r');
        self.place = Place::Inside;
    }

    /// What has come so far; the reader is as new afterwards.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut head = std::mem::take(self).buffer;
        head.shrink_to_fit();
        head
    }

    /// Bytes of memory that it holds.
    pub(super) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    pub(super) fn so_far(&self) -> &[u8] {
        &self.buffer
    }

    fn gather<T>(&mut self, bytes: &[u8], limit: usize, judge: impl Fn(&[u8]) -> Judged<T>) -> Read<T> {
        let before = self.buffer.len();
        let mut copied = 0;
        while let Some(stop) = self.next_stop(bytes, copied) {
            if before + stop > limit {
                break;
            }
            self.buffer.extend_from_slice(bytes.get(copied..stop).unwrap_or_default());
            copied = stop;
            let settled = settle(&self.buffer, limit, judge(&self.buffer));
            if !matches!(settled, Read::More) {
                *self = Self::default();
                return shift(settled, before);
            }
        }
        self.buffer.extend_from_slice(bytes.get(copied..).unwrap_or_default());
        if self.buffer.len() > limit {
            let head = self.take();
            return too_large(&head, limit, limit.saturating_sub(before));
        }
        Read::More
    }

    /// The next offset behind a line end at which the head may be judged: that of the start line, of an empty line.
    fn next_stop(&mut self, bytes: &[u8], from: usize) -> Option<usize> {
        for (offset, byte) in bytes.iter().enumerate().skip(from) {
            let empty_line = *byte == b'\n' && self.place != Place::Inside;
            self.place = match (*byte, self.place) {
                (b'\n', _) => Place::LineStart,
                (b'\r', Place::LineStart) => Place::CrAtLineStart,
                _ => Place::Inside,
            };
            if empty_line || (*byte == b'\n' && !self.start_line_seen) {
                self.start_line_seen = true;
                return Some(offset + 1);
            }
        }
        None
    }
}

fn settle<T>(bytes: &[u8], limit: usize, judged: Judged<T>) -> Read<T> {
    let (end, facts) = match judged {
        Judged::Unfinished => return Read::More,
        Judged::BadStart { end } => (end, Err(Flaw::StartLine)),
        Judged::Whole { end, facts } => (end, facts),
    };
    if end > limit {
        return too_large(bytes, limit, limit);
    }
    let head = bytes.get(..end).unwrap_or_default().to_vec();
    match facts {
        Ok(facts) => Read::Whole { used: end, head, facts },
        Err(flaw) => Read::Flawed { used: end, head, flaw },
    }
}

fn too_large<T>(bytes: &[u8], limit: usize, used: usize) -> Read<T> {
    Read::Flawed { used, head: bytes.get(..limit).unwrap_or(bytes).to_vec(), flaw: Flaw::TooLarge }
}

/// The same, counted from behind the first `before` bytes.
fn shift<T>(read: Read<T>, before: usize) -> Read<T> {
    match read {
        Read::More => Read::More,
        Read::Whole { used, head, facts } => Read::Whole { used: used.saturating_sub(before), head, facts },
        Read::Flawed { used, head, flaw } => Read::Flawed { used: used.saturating_sub(before), head, flaw },
    }
}
