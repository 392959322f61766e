//! A body in the making: how much of it is to come, and how much of it is kept. It refuses to know whose body it is.

use nodetap_core::exchange::{Body as Kept, Message};

use super::chunked::Chunked;
use super::flaw::Flaw;
use super::framing::Length;

/// The most that is reserved before bytes have come to fill it: a Content-Length may lie.
const RESERVE_AHEAD: usize = 16 * 1024;

/// How many bytes were taken, and whether the body is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fed {
    pub(super) used: usize,
    pub(super) done: bool,
}

/// What is still to come.
#[derive(Debug)]
pub(super) enum Body {
    /// More than nothing.
    Sized(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Body {
    /// `None`: there is no body.
    pub(super) fn new(length: Length) -> Option<Self> {
        match length {
            Length::Sized(0) | Length::Switch => None,
            Length::Sized(length) => Some(Self::Sized(length)),
            Length::Chunked => Some(Self::Chunked(Chunked::new())),
            Length::UntilClose => Some(Self::UntilClose),
        }
    }

    /// Takes bytes up to the end of the body. See [`Chunked::feed`].
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        into: &mut Message,
        cap: usize,
        limit: usize,
    ) -> Result<Fed, (Flaw, usize)> {
        match self {
            Self::Sized(left) => {
                let used = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                keep(&mut into.body, bytes.get(..used).unwrap_or_default(), cap, Some(*left));
                *left -= used as u64;
                Ok(Fed { used, done: *left == 0 })
            }
            Self::Chunked(chunked) => chunked.feed(bytes, into, cap, limit),
            Self::UntilClose => {
                keep(&mut into.body, bytes, cap, None);
                Ok(Fed { used: bytes.len(), done: false })
            }
        }
    }

    /// How many of the next bytes need only be counted, since no more is kept.
    pub(super) fn skippable(&self, so_far: &Kept, cap: usize) -> u64 {
        match self {
            _ if so_far.kept.len() < cap => 0,
            Self::Sized(left) => *left,
            Self::Chunked(chunked) => chunked.data_left(),
            Self::UntilClose => u64::MAX,
        }
    }

    /// Counts bytes that were not shown, at most [`Self::skippable`]; says whether the body is whole.
    pub(super) fn skip(&mut self, count: u64, into: &mut Kept) -> bool {
        into.size = into.size.saturating_add(count);
        match self {
            Self::Sized(left) => {
                *left = left.saturating_sub(count);
                *left == 0
            }
            Self::Chunked(chunked) => {
                chunked.skip(count);
                false
            }
            Self::UntilClose => false,
        }
    }
}

/// Counts `data` and keeps what fits below `cap`. `expected`: this many bytes are to come, if the sender is honest.
pub(super) fn keep(body: &mut Kept, data: &[u8], cap: usize, expected: Option<u64>) {
    body.size = body.size.saturating_add(data.len() as u64);
    let count = cap.saturating_sub(body.kept.len()).min(data.len());
    let Some(data) = data.get(..count).filter(|data| !data.is_empty()) else { return };
    if body.kept.capacity() - body.kept.len() < count {
        let room = cap - body.kept.len();
        let ahead = match expected {
            Some(expected) => usize::try_from(expected).unwrap_or(room).min(RESERVE_AHEAD.max(body.kept.len())),
            None => body.kept.len(),
        };
        body.kept.reserve_exact(ahead.max(count).min(room));
    }
    body.kept.extend_from_slice(data);
}
