//! Protocol buffers without their `.proto`: what the wire format alone says
//! (<https://protobuf.dev/programming-guides/encoding/>), field numbers and values, as `protoc --decode_raw` shows them.
//! Whether the bytes of a field are text, a message or just bytes is a guess. It refuses to know names: whoever has a
//! schema has a library for it.

use std::fmt::Write;

use crate::text::one_line;

/// Messages inside of messages, at most: deeper ones are shown as bytes.
const DEPTH: usize = 32;
/// Fields of a message, all levels (and wrong guesses) together: what is beyond is left out.
const FIELDS: usize = 10_000;
/// Bytes that are shown of a field that is neither text nor message.
const BYTES: usize = 64;
/// The largest field number.
const LAST_FIELD: u64 = (1 << 29) - 1;

/// A message as far as it was understood.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message<'a> {
    pub fields: Vec<Field<'a>>,
    /// There is more: it was cut, or has more fields than are looked at.
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Text(&'a str),
    Bytes(&'a [u8]),
    Message(Vec<Field<'a>>),
}

/// Reads a message. `cut`: there were more bytes, so that its last field need not be whole. `None`: it is none.
pub fn decode(bytes: &[u8], cut: bool) -> Option<Message<'_>> {
    let mut reader = Reader { bytes, left: FIELDS };
    let mut message = Message::default();
    while !reader.bytes.is_empty() {
        let rest = reader.bytes;
        match reader.field(DEPTH) {
            Some(field) => message.fields.push(field),
            None if reader.left == 0 => message.more = true,
            None if cut => {
                message.fields.extend(cut_field(rest));
                message.more = true;
            }
            None => return None,
        }
        if message.more {
            break;
        }
    }
    Some(message)
}

/// What is there of a field that the end of the bytes has cut.
fn cut_field(bytes: &[u8]) -> Option<Field<'_>> {
    let mut reader = Reader { bytes, left: 1 };
    let (number, kind) = reader.tag()?;
    if kind != 2 || reader.varint()? <= reader.bytes.len() as u64 {
        return None;
    }
    let value = match std::str::from_utf8(reader.bytes) {
        Ok(text) if is_text(text) => Value::Text(text),
        Err(error) if error.error_len().is_none() => {
            let text = reader.bytes.get(..error.valid_up_to()).and_then(|bytes| std::str::from_utf8(bytes).ok());
            text.filter(|text| is_text(text)).map_or(Value::Bytes(reader.bytes), Value::Text)
        }
        _ => Value::Bytes(reader.bytes),
    };
    Some(Field { number, value })
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// Fields that may still be read.
    left: usize,
}

impl<'a> Reader<'a> {
    fn field(&mut self, depth: usize) -> Option<Field<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (number, kind) = self.tag()?;
        let value = match kind {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let bytes = self.take(length)?;
                self.guess(bytes, depth)
            }
            3 => Value::Message(self.group(number, depth.checked_sub(1)?)?),
            5 => Value::Fixed32(u32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            _ => return None,
        };
        Some(Field { number, value })
    }

    fn tag(&mut self) -> Option<(u32, u64)> {
        let tag = self.varint()?;
        let number = Some(tag >> 3).filter(|number| (1..=LAST_FIELD).contains(number))?;
        Some((u32::try_from(number).ok()?, tag & 7))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    /// The fields up to the tag that ends the group.
    fn group(&mut self, number: u32, depth: usize) -> Option<Vec<Field<'a>>> {
        let mut fields = Vec::new();
        loop {
            let before = self.bytes;
            if self.tag()? == (number, 4) {
                return Some(fields);
            }
            self.bytes = before;
            fields.push(self.field(depth)?);
        }
    }

    /// Text that begins with a control character is rather a message: that is the tag of its first field.
    fn guess(&mut self, bytes: &'a [u8], depth: usize) -> Value<'a> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| is_text(text));
        if let Some(text) = text.filter(|text| !text.starts_with(char::is_control)) {
            return Value::Text(text);
        }
        let inner = depth.checked_sub(1).and_then(|depth| self.inner(bytes, depth));
        inner.map_or_else(|| text.map_or(Value::Bytes(bytes), Value::Text), Value::Message)
    }

    fn inner(&mut self, bytes: &'a [u8], depth: usize) -> Option<Vec<Field<'a>>> {
        let mut inner = Reader { bytes, left: self.left };
        let mut fields = Vec::new();
        let mut whole = true;
        while whole && !inner.bytes.is_empty() {
            match inner.field(depth) {
                Some(field) => fields.push(field),
                None => whole = false,
            }
        }
        // A wrong guess costs as much as a right one.
        self.left = inner.left;
        whole.then_some(fields)
    }
}

fn is_text(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

impl Message<'_> {
    /// A field a line, nested ones indented by two; safe for a terminal, with the last line end.
    pub fn pretty(&self) -> String {
        let mut text = String::new();
        write_fields(&mut text, &self.fields, Some(0));
        if self.more {
            text.push_str("…\n");
        }
        text
    }

    /// `1: "abc" 2 { 3: 42 }`
    pub fn in_one_line(&self) -> String {
        let mut text = String::new();
        write_fields(&mut text, &self.fields, None);
        if self.more {
            text.push_str("… ");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// `depth`: on lines of their own, so deep. Writing to a string does not fail.
fn write_fields(text: &mut String, fields: &[Field<'_>], depth: Option<usize>) {
    let indent = |text: &mut String| text.extend(std::iter::repeat_n("  ", depth.unwrap_or(0)));
    let end = if depth.is_some() { '\n' } else { ' ' };
    for Field { number, value } in fields {
        indent(text);
        let _ = match value {
            Value::Varint(value) if i64::try_from(*value).is_err() => {
                write!(text, "{number}: {value} ({})", value.cast_signed())
            }
            Value::Varint(value) => write!(text, "{number}: {value}"),
            Value::Fixed64(bits) => write!(text, "{number}: 0x{bits:016x}{}", as_float(f64::from_bits(*bits))),
            Value::Fixed32(bits) => {
                write!(text, "{number}: 0x{bits:08x}{}", as_float(f64::from(f32::from_bits(*bits))))
            }
            Value::Text(value) => {
                let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
                write!(text, "{number}: \"{}\"", one_line(&quoted))
            }
            Value::Bytes(bytes) => {
                let shown = bytes.get(..BYTES).unwrap_or(bytes);
                let more = if bytes.len() > BYTES { format!("… ({} B)", bytes.len()) } else { String::new() };
                write!(text, "{number}: \"{}\"{more}", shown.escape_ascii())
            }
            Value::Message(fields) => {
                let _ = write!(text, "{number} {{{end}");
                write_fields(text, fields, depth.map(|depth| depth + 1));
                indent(text);
                text.push('}');
                Ok(())
            }
        };
        text.push(end);
    }
}

/// What the bits are as a floating-point number, where that is one that somebody may have meant.
fn as_float(value: f64) -> String {
    let plausible = value == 0.0 || (1e-6..1e12).contains(&value.abs());
    if plausible { format!(" ({value})") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_shown_by_number_as_protoc_would() {
        let bytes = b"\x0a\x03abc\x12\x02\x18\x2a\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x2d\x00\x00\xc0\x3f\
                      \x31\x00\x00\x00\x00\x00\x00\xf8\x3f\x3b\x08\x01\x3c\x42\x02\xff\x00\x4a\x00";
        let message = decode(bytes, false).unwrap();
        assert_eq!(
            message.pretty(),
            "1: \"abc\"\n2 {\n  3: 42\n}\n4: 18446744073709551615 (-1)\n5: 0x3fc00000 (1.5)\n\
             6: 0x3ff8000000000000 (1.5)\n7 {\n  1: 1\n}\n8: \"\\xff\\x00\"\n9: \"\"\n"
        );
        let short = decode(b"\x0a\x03abc\x12\x02\x18\x2a", false).unwrap();
        assert_eq!(short.in_one_line(), r#"1: "abc" 2 { 3: 42 }"#);
    }

    #[test]
    fn of_a_cut_message_what_is_there_is_shown() {
        let whole = b"\x08\x01\x12\x06gr\xc3\xbcne";
        assert_eq!(decode(&whole[..8], false), None);
        assert_eq!(decode(&whole[..7], true).unwrap().in_one_line(), "1: 1 2: \"gr\" …");
        assert_eq!(decode(&whole[..3], true).unwrap().in_one_line(), "1: 1 …");
        assert_eq!(decode(whole, true).unwrap().in_one_line(), "1: 1 2: \"grüne\"");
    }

    #[test]
    fn what_is_no_message_is_none() {
        for bytes in [&b"{\"a\":1}"[..], b"\x00\x01", b"\x0a\x05abc", b"\x0b\x08\x01", b"\x07", b"\x80"] {
            assert_eq!(decode(bytes, false), None, "{bytes:?}");
        }
    }

    #[test]
    fn depth_and_number_of_fields_are_bounded() {
        let mut deep = vec![0x08, 0x01];
        while deep.len() < 4000 {
            let length = u8::try_from(deep.len() % 128).unwrap() | 0x80;
            let high = u8::try_from(deep.len() / 128).unwrap();
            deep.splice(0..0, [0x0a, length, high]);
        }
        assert!(decode(&deep, false).unwrap().pretty().lines().count() < 3 * DEPTH);
        let groups = [0x0b; 100_000];
        assert_eq!(decode(&groups, false), None);
        let many = [0x08, 0x01].repeat(FIELDS + 5);
        let message = decode(&many, false).unwrap();
        assert_eq!((message.fields.len(), message.more), (FIELDS, true));
    }

    #[test]
    fn no_bytes_whatever_make_it_fail() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..20_000_usize {
            // Small numbers are tags and lengths that lead on.
            let mut byte = || random().to_le_bytes().first().map_or(0, |byte| byte >> (random() % 6));
            let bytes: Vec<u8> = (0..round % 64).map(|_| byte()).collect();
            for cut in [false, true] {
                if let Some(message) = decode(&bytes, cut) {
                    assert!(message.pretty().chars().all(|c| c == '\n' || !c.is_control()), "{bytes:?}");
                    assert!(!message.in_one_line().contains('\n'), "{bytes:?}");
                }
            }
        }
    }
}
