//! A body in the making: how much of it is to come, and how much of it is kept. It refuses to know whose body it is.

use nodetap_core::exchange::{Body as Kept, Message};

use super::super::messages::keep;
use super::chunked::{Chunked, Fed};
use super::flaw::Flaw;
use super::framing::Length;

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

    /// Whether nothing says how long it is.
    pub(super) fn is_unsized(&self) -> bool {
        !matches!(self, Self::Sized(_))
    }

    /// How many of the next bytes need only be counted, once no more is kept.
    pub(super) fn skippable(&self) -> u64 {
        match self {
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
