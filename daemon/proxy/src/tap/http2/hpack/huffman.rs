//! The string code of HPACK (RFC 7541 §5.2, Appendix B). The code is canonical: codes of one length follow each other in
//! the order of their symbols, and longer ones come after shorter ones, so that the lengths alone say all. It refuses
//! to know where a string comes from.

use super::Corrupt;

/// The end of a string, which must not occur within one.
const EOS: u16 = 256;
const LONGEST: usize = 30;

/// Bits of the code of each byte, and of EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    /// The first one, in the lowest bits.
    first: u64,
    /// The last one in the highest bits, and ones behind it; zero: there is none.
    last: u64,
    /// Of the first one's symbol in [`SYMBOLS`].
    offset: usize,
}

const fn rows() -> ([u16; 257], [Row; LONGEST + 1]) {
    let mut symbols = [0; 257];
    let mut rows = [Row { first: 0, last: 0, offset: 0 }; LONGEST + 1];
    let (mut code, mut placed, mut length) = (0u64, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        let (first, offset) = (code, placed);
        let mut symbol = 0u16;
        while symbol <= EOS {
            if LENGTHS[symbol as usize] as usize == length {
                symbols[placed] = symbol;
                placed += 1;
                code += 1;
            }
            symbol += 1;
        }
        if code > first {
            let below = 64 - length;
            rows[length] = Row { first, last: ((code - 1) << below) | (u64::MAX >> length), offset };
        }
        length += 1;
    }
    (symbols, rows)
}

const fn short() -> [(u8, u8); 256] {
    let mut table = [(0, 0); 256];
    // Codes of at most eight bits come first, and their symbols are bytes.
    let (mut filled, mut place) = (0, 0);
    while filled < 256 {
        let [symbol, _] = SYMBOLS[place].to_le_bytes();
        let length = LENGTHS[symbol as usize];
        if length > 8 {
            break;
        }
        let end = filled + (1 << (8 - length));
        while filled < end {
            table[filled] = (symbol, length);
            filled += 1;
        }
        place += 1;
    }
    table
}

/// All symbols by the order of their codes.
const SYMBOLS: [u16; 257] = rows().0;
/// By length.
const ROWS: [Row; LONGEST + 1] = rows().1;
/// What begins with these eight bits: a symbol and the bits it takes, or zero when it takes more than eight.
static SHORT: [(u8, u8); 256] = short();

/// Appends the text that `coded` stands for: at most 8/5 times as long.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Result<(), Corrupt> {
    let mut rest = coded.iter();
    // The next `bits` bits, the first one highest; zeros below them.
    let (mut window, mut bits) = (0u64, 0u32);
    loop {
        while bits <= 56 {
            let Some(byte) = rest.next() else { break };
            window |= u64::from(*byte) << (56 - bits);
            bits += 8;
        }
        let (byte, length) = match SHORT[usize::from(window.to_be_bytes()[0])] {
            (_, 0) => long(window).ok_or(Corrupt::Huffman).and_then(|(symbol, length)| match u8::try_from(symbol) {
                Ok(byte) => Ok((byte, length)),
                Err(_) if length > bits => Ok((0, length)),
                Err(_) => Err(Corrupt::Huffman),
            })?,
            (byte, length) => (byte, u32::from(length)),
        };
        if length > bits {
            // Padding is less than a byte of ones.
            let padding = bits < 8 && window.leading_ones() == bits;
            return if padding { Ok(()) } else { Err(Corrupt::Huffman) };
        }
        text.push(byte);
        window <<= length;
        bits -= length;
    }
}

/// The symbol that the window begins with, of more than eight bits.
fn long(window: u64) -> Option<(u16, u32)> {
    let (length, row) = (9u32..).zip(ROWS.get(9..)?).find(|(_, row)| row.last != 0 && window <= row.last)?;
    let place = usize::try_from((window >> (64 - length)) - row.first).ok()?;
    Some((*SYMBOLS.get(row.offset + place)?, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of a symbol, as RFC 7541 Appendix B lists it.
    fn code(symbol: u16) -> (u64, usize) {
        let place = SYMBOLS.iter().position(|other| *other == symbol).unwrap();
        let length = usize::from(LENGTHS[usize::from(symbol)]);
        (ROWS[length].first + (place - ROWS[length].offset) as u64, length)
    }

    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in text {
            let (code, length) = code(u16::from(*byte));
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
    }

    #[test]
    fn codes_are_those_of_the_table() {
        for (symbol, expected) in [
            (0u16, (0x1ff8, 13)),
            (u16::from(b' '), (0x14, 6)),
            (u16::from(b'0'), (0, 5)),
            (u16::from(b'a'), (3, 5)),
            (u16::from(b'z'), (0x7b, 7)),
            (u16::from(b'{'), (0x7ffe, 15)),
            (127, (0x0fff_fffc, 28)),
            (249, (0x0fff_fffe, 28)),
            (255, (0x03ff_ffee, 26)),
            (256, (0x3fff_ffff, 30)),
        ] {
            assert_eq!(code(symbol), expected, "{symbol}");
        }
    }

    #[test]
    fn every_pair_of_bytes_comes_back() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let mut text = Vec::new();
                assert_eq!(decode(&encode(&[first, second, b'!']), &mut text), Ok(()));
                assert_eq!(text, [first, second, b'!']);
            }
        }
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones_and_the_end_must_not_occur() {
        for (coded, ok) in [
            (&[][..], true),
            (&[0xff], false),
            (&[0b0001_1111], true),
            (&[0b0001_1110], false),
            (&[0b0001_1000], false),
            (&[0b0001_1111, 0xff], false),
            (&[0xff, 0xff, 0xff, 0xff], false),
            (&[0xff, 0xff, 0xff, 0xfc], false),
        ] {
            assert_eq!(decode(coded, &mut Vec::new()).is_ok(), ok, "{coded:x?}");
        }
    }
}
