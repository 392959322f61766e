//! The first of what a message says, for a line: text as it is, protocol buffers by field number, anything else in hex.

use crate::exchange::{MessageKind, StreamMessage};
use crate::protobuf;
use crate::text::{clip, decode, one_line};

/// Characters of an excerpt, at most.
const WIDTH: usize = 120;
/// Bytes that are looked at for it.
const BYTES: usize = 1024;
/// Bytes that are shown in hex.
const HEX: usize = 16;

/// Safe for a terminal; empty when nothing was said.
pub fn of(message: &StreamMessage) -> String {
    if let Some((code, reason)) = message.close() {
        let said = format!("{code} {}", decode(reason));
        return clip(&one_line(said.trim_end()), WIDTH).into_owned();
    }
    let kept = &message.body.kept[..];
    let shown = kept.get(..BYTES).unwrap_or(kept);
    let cut = (shown.len() as u64) < message.body.size;
    let fields = (message.kind == MessageKind::Grpc).then(|| protobuf::decode(shown, cut)).flatten();
    let text = match (fields, text(shown, cut)) {
        (Some(fields), _) => fields.in_one_line(),
        (None, Some(text)) => one_line(text).into_owned(),
        (None, None) => {
            let hex: Vec<String> = shown.iter().take(HEX).map(|byte| format!("{byte:02x}")).collect();
            format!("{}{}", hex.join(" "), if shown.len() > HEX || cut { " …" } else { "" })
        }
    };
    clip(&text, WIDTH).into_owned()
}

/// The bytes as text, unless they are binary. If they are `cut`, their last character may be too.
pub(crate) fn text(bytes: &[u8], cut: bool) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let binary = text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace() && c != '\x1b');
    (!binary).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_message_is_told_by_its_first_words() {
        let said = |kind, bytes: &[u8]| of(&samples::stream_message(kind, bytes));
        for (kind, bytes, expected) in [
            (MessageKind::Text, "grün\n\x1b[2J".as_bytes(), "grün\\n\\u{1b}[2J"),
            (MessageKind::Binary, &[0xff; 20], "ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff …"),
            (MessageKind::Binary, b"text all the same", "text all the same"),
            (MessageKind::Close, b"\x03\xe8bye", "1000 bye"),
            (MessageKind::Close, b"\x03\xe9", "1001"),
            (MessageKind::Close, b"", ""),
            (MessageKind::Ping, b"", ""),
            (MessageKind::Grpc, b"\x0a\x03abc\x12\x02\x18\x2a", r#"1: "abc" 2 { 3: 42 }"#),
            (MessageKind::Grpc, b"{\"a\":1}", "{\"a\":1}"),
            (MessageKind::Piece, b"data: 1\n\n", "data: 1\\n\\n"),
        ] {
            assert_eq!(said(kind, bytes), expected, "{bytes:?}");
        }
        assert_eq!(said(MessageKind::Text, "ü".repeat(2000).as_bytes()).chars().count(), WIDTH);
    }
}
