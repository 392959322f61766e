//! Identifiers that sort by time. It refuses to know a clock or a random source: both are handed in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Crockford's base 32, as the ULID specification orders it: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const RANDOM_BITS: u32 = 80;

/// A ULID (<https://github.com/ulid/spec>): 48 bits of milliseconds since 1970, then 80 bits that make it unique.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ulid(u128);

impl Ulid {
    /// Length of the text form, in characters.
    pub const LENGTH: usize = 26;

    /// Milliseconds since 1970 that it was made from.
    pub fn milliseconds(self) -> u64 {
        (self.0 >> RANDOM_BITS) as u64
    }
}

impl From<Ulid> for u128 {
    fn from(ulid: Ulid) -> Self {
        ulid.0
    }
}

impl From<u128> for Ulid {
    fn from(value: u128) -> Self {
        Self(value)
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; Self::LENGTH];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not 26 characters of Crockford's base 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAUlid;

impl fmt::Display for NotAUlid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a ULID: 26 characters of 0-9 and A-Z without I, L, O, U are expected")
    }
}

impl std::error::Error for NotAUlid {}

impl FromStr for Ulid {
    type Err = NotAUlid;

    fn from_str(text: &str) -> Result<Self, NotAUlid> {
        if text.len() != Self::LENGTH || text.as_bytes()[0] > b'7' {
            return Err(NotAUlid);
        }
        text.bytes()
            .try_fold(0u128, |value, byte| {
                let digit = ALPHABET.iter().position(|a| *a == byte.to_ascii_uppercase()).ok_or(NotAUlid)?;
                Ok((value << 5) | digit as u128)
            })
            .map(Ulid)
    }
}

/// Makes ULIDs that never repeat and grow within one source: a counter that starts at a random place.
/// One source a thread; the 80 random bits keep several sources apart.
#[derive(Debug)]
pub struct UlidSource {
    counter: u128,
}

impl UlidSource {
    /// `seed` is 80 bits of randomness (the upper 48 are ignored).
    pub fn new(seed: u128) -> Self {
        // The top bit stays free, so that the counter cannot overflow into the time.
        Self { counter: seed & ((1 << (RANDOM_BITS - 1)) - 1) }
    }

    /// The next identifier for something that happened `microseconds` after 1970.
    pub fn next(&mut self, microseconds: u64) -> Ulid {
        self.counter += 1;
        Ulid((u128::from(microseconds / 1000) << RANDOM_BITS) | self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_sorts_like_the_value() {
        let mut source = UlidSource::new(u128::MAX);
        let (a, b, c) = (source.next(1_000_000), source.next(1_000_000), source.next(2_000_000));
        assert!(a < b && b < c);
        assert!(a.to_string() < b.to_string() && b.to_string() < c.to_string());
        assert_eq!(a.to_string().parse::<Ulid>(), Ok(a));
        assert_eq!(a.to_string().to_lowercase().parse::<Ulid>(), Ok(a));
        assert_eq!(c.milliseconds(), 2000);
    }

    #[test]
    fn what_is_no_ulid_is_refused() {
        for text in
            ["", "x", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01KD3000000000000000000000U", "0lKD3000000000000000000000U"]
        {
            assert_eq!(text.parse::<Ulid>(), Err(NotAUlid), "{text}");
        }
    }
}
