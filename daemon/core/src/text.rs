//! Recorded bytes as text: for JSON, and for a terminal that must not obey them.

use std::borrow::Cow;
use std::fmt::Write;

/// UTF-8 where it is that, else each byte as the character of its number (ISO 8859-1): no byte is lost.
pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// Makes a line safe for a terminal: control characters, and those that turn the direction of text around, become
/// escapes like `\u{1b}`; line ends become `\r` and `\n`, tabs `\t`.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// The same, with line ends and tabs left as they are.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| matches!(c, '\n' | '\t'))
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|c| keep(c) || !dangerous(c)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            _ if keep(c) || !dangerous(c) => safe.push(c),
            '\r' => safe.push_str("\\r"),
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            // Writing to a string does not fail.
            _ => drop(write!(safe, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(safe)
}

fn dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `width` characters; `…` stands for what was cut.
pub fn clip(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(width.saturating_sub(1)).chain(['…']).take(width).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_utf8_keep_their_numbers() {
        assert_eq!(decode("grün".as_bytes()), "grün");
        assert_eq!(decode(b"gr\xfcn"), "grün");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(one_line("a\x1b[31m\r\n\tb\u{202e}c\u{9b}d"), "a\\u{1b}[31m\\r\\n\\tb\\u{202e}c\\u{9b}d");
        assert_eq!(lines("a\n\tb\x07\r\n"), "a\n\tb\\u{7}\\r\n");
        assert!(matches!(one_line("harmless ü"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_too_long_is_cut_with_an_ellipsis() {
        assert_eq!(clip("abcdef", 6), "abcdef");
        assert_eq!(clip("abcdefg", 6), "abcde…");
        assert_eq!(clip("abc", 0), "");
    }
}
