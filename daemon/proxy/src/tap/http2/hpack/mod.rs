//! HPACK (RFC 7541), the reading half: header blocks in, fields out. An error means that the encoder's table is not
//! known any more, so that no later block of that direction can be read. It refuses to know what a field means.

mod huffman;
mod table;
#[cfg(test)]
mod tests;

use table::Table;

/// The largest dynamic table that is followed, in bytes as RFC 7541 §4.1 counts them.
pub(super) const LARGEST_TABLE: usize = 64 * 1024;
/// What it is until its owner allows something else (RFC 9113 §6.5.2).
const FIRST_TABLE: usize = 4096;
/// Capacity that a buffer keeps from one string to the next.
const KEEP: usize = 4096;

/// Why a block cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Corrupt {
    /// It ends within a field.
    Cut,
    /// A number of more than 32 bits.
    Number,
    /// An index that neither table has.
    Index,
    /// A string that is no Huffman code.
    Huffman,
    /// A size update that is larger than the receiver allows, or behind a field.
    TableSize,
    /// A size update within what the receiver allows, beyond [`LARGEST_TABLE`].
    TableTooLarge,
    /// More text than the caller wants to see.
    TooLarge,
}

/// The state of one direction.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Table,
    /// The most that the receiver has ever allowed: what it takes back is known to be taken back only later.
    allowed: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { table: Table::new(FIRST_TABLE), allowed: FIRST_TABLE, name: Vec::new(), value: Vec::new() }
    }

    /// The receiver's SETTINGS_HEADER_TABLE_SIZE.
    pub(super) fn allow(&mut self, size: u32) {
        self.allowed = self.allowed.max(usize::try_from(size).unwrap_or(usize::MAX));
    }

    /// Reads a whole block of at most `limit` bytes of text; `each` is given the name and the value of each field in turn,
    /// also of those before an error.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        limit: usize,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Corrupt> {
        let mut total = 0usize;
        let mut each = |name: &[u8], value: &[u8]| {
            total = total.saturating_add(name.len() + value.len());
            if total > limit {
                return Err(Corrupt::TooLarge);
            }
            each(name, value);
            Ok(())
        };
        let mut reader = Reader { rest: block };
        let mut begun = false;
        while let Some(first) = reader.rest.first().copied() {
            if first & 0x80 != 0 {
                let index = reader.number(7)?;
                let (name, value) = self.table.get(index).ok_or(Corrupt::Index)?;
                each(name, value)?;
            } else if first & 0xe0 == 0x20 {
                let size = reader.number(5)?;
                if begun || size > self.allowed {
                    return Err(Corrupt::TableSize);
                }
                if size > LARGEST_TABLE {
                    return Err(Corrupt::TableTooLarge);
                }
                self.table.resize(size);
                continue;
            } else {
                let indexed = first & 0x40 != 0;
                self.literal(&mut reader, indexed, &mut each)?;
            }
            begun = true;
        }
        self.name.shrink_to(KEEP);
        self.value.shrink_to(KEEP);
        Ok(())
    }

    /// A field whose value is spelt out, to be added to the table if `indexed`.
    fn literal(
        &mut self,
        reader: &mut Reader<'_>,
        indexed: bool,
        each: &mut impl FnMut(&[u8], &[u8]) -> Result<(), Corrupt>,
    ) -> Result<(), Corrupt> {
        let Self { table, name, value, .. } = self;
        match reader.number(if indexed { 6 } else { 4 })? {
            0 => {
                let name = reader.string(name)?;
                let value = reader.string(value)?;
                each(name, value)?;
                if indexed {
                    table.insert(name, value);
                }
            }
            index => {
                let (name, _) = table.get(index).ok_or(Corrupt::Index)?;
                let value = reader.string(value)?;
                each(name, value)?;
                if indexed {
                    table.insert_named(index, value);
                }
            }
        }
        Ok(())
    }
}

/// What is left of a block.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Corrupt> {
        let (first, rest) = self.rest.split_first().ok_or(Corrupt::Cut)?;
        self.rest = rest;
        Ok(*first)
    }

    /// An integer that begins in the lowest `prefix` bits of the next byte (§5.1), within 32 bits.
    fn number(&mut self, prefix: u32) -> Result<usize, Corrupt> {
        let full = (1u64 << prefix) - 1;
        let mut value = u64::from(self.byte()?) & full;
        if value == full {
            for shift in [0, 7, 14, 21, 28] {
                let byte = self.byte()?;
                value += u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    return u32::try_from(value).ok().and_then(|value| value.try_into().ok()).ok_or(Corrupt::Number);
                }
            }
            return Err(Corrupt::Number);
        }
        usize::try_from(value).map_err(|_| Corrupt::Number)
    }

    /// A string (§5.2), which is put into `buffer` only if it is coded.
    fn string<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Corrupt>
    where
        'a: 'b,
    {
        let coded = self.rest.first().is_some_and(|byte| byte & 0x80 != 0);
        let length = self.number(7)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Corrupt::Cut)?;
        self.rest = rest;
        if !coded {
            return Ok(text);
        }
        buffer.clear();
        huffman::decode(text, buffer)?;
        Ok(buffer)
    }
}
