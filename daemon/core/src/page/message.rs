//! One message of an exchange, for people: as a part of its exchange's page, or on a page of its own.

use jiff::tz::TimeZone;

use super::{Common, Page};
use crate::exchange::{Bytes, MessageKind, Outcome, Sender, StreamMessage, Timing, UnixMicros};
use crate::protobuf;
use crate::row::{message_kind, outcome};
use crate::style::{Colour, Style, of_outcome};
use crate::text::{decode, lines, one_line};
use crate::{size, time};

/// A message as a part of its exchange, which began at `start`: who sent it (`>` the client, `<` the server), when, and
/// what. With the empty line before it and its last line end. `named`: what it says, from who knows the names of its
/// fields.
pub fn message(message: &StreamMessage, start: UnixMicros, named: Option<&str>, style: Style) -> String {
    let mut page = Page { text: String::new(), style };
    let mark = match message.sender {
        Sender::Client => ">",
        Sender::Server => "<",
    };
    let after = time::duration(message.time.saturating_sub(start));
    let facts = format!("#{} +{after} {} {}", message.seq, message_kind(message.kind), size::show(message.body.size));
    let (mark, facts) = (style.paint(Colour::Dim, mark), style.paint(Colour::Bold, &facts));
    let id = message.id.to_string();
    page.line("");
    page.line(&format!("{mark} {facts} {}", style.paint(Colour::Dim, &id)));
    if message.outcome != Outcome::Complete {
        let why = message.detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
        let text = format!("({}{})", outcome(message.outcome), one_line(&why));
        page.line(&style.paint(of_outcome(message.outcome), &text));
    }
    page.payload(message, named);
    page.text
}

impl Page {
    pub(super) fn stream_message(&mut self, message: &StreamMessage, named: Option<&str>, zone: &TimeZone) {
        let (sent, received) = if message.by_target() { (message.wire, 0) } else { (0, message.wire) };
        self.common(
            &Common {
                id: message.id,
                time: message.time,
                connection: &message.connection,
                protocol: message.protocol,
                timing: Timing { end: Some(message.end), ..Timing::default() },
                bytes: Bytes { sent, received },
                outcome: message.outcome,
                detail: message.detail.as_deref(),
            },
            zone,
        );
        let sender = match message.sender {
            Sender::Client => "client",
            Sender::Server => "server",
        };
        self.fact("exchange", &message.exchange.to_string());
        self.fact("message", &format!("#{} {} from the {sender}", message.seq, message_kind(message.kind)));
        self.fact("size", &size::show(message.body.size));
        self.line("");
        self.payload(message, named);
    }

    fn payload(&mut self, message: &StreamMessage, named: Option<&str>) {
        let body = &message.body;
        let kept = body.kept.len() as u64;
        let mut notes = Vec::new();
        if message.compressed {
            notes.push(format!("came compressed, {} on the wire", size::show(message.wire)));
        }
        if kept < body.size {
            notes.push(format!("{} of {} kept", size::show(kept), size::show(body.size)));
        }
        if let Some(named) = named {
            self.line(lines(named).trim_end_matches('\n'));
            return self.notes(&notes);
        }
        if let Some((code, reason)) = message.close() {
            self.line(one_line(&format!("{code} {}", decode(reason))).trim_end());
            return self.notes(&notes);
        }
        if body.kept.is_empty() {
            return self.notes(&notes);
        }
        let cut = kept < body.size;
        match (message.kind == MessageKind::Grpc).then(|| protobuf::decode(&body.kept, cut)).flatten() {
            Some(fields) => {
                self.line(fields.pretty().trim_end_matches('\n'));
                self.notes(&notes);
            }
            None => self.content(&body.kept, cut, notes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn shown(kind: MessageKind, bytes: &[u8]) -> String {
        let sample = samples::stream_message(kind, bytes);
        message(&sample, sample.time - 1500, None, Style::Plain)
    }

    #[test]
    fn each_kind_is_shown_with_sender_time_and_content() {
        let id = samples::stream_message(MessageKind::Text, b"").id.to_string();
        for (kind, bytes, expected) in [
            (MessageKind::Text, &b"{\"a\":1}"[..], format!("\n> #3 +1.5 ms text 7 B {id}\n{{\n  \"a\": 1\n}}\n")),
            (MessageKind::Ping, b"", format!("\n> #3 +1.5 ms ping 0 B {id}\n")),
            (MessageKind::Close, b"\x03\xe8bye", format!("\n> #3 +1.5 ms close 5 B {id}\n1000 bye\n")),
            (
                MessageKind::Grpc,
                b"\x0a\x03abc\x12\x02\x18\x2a",
                format!("\n> #3 +1.5 ms grpc 9 B {id}\n1: \"abc\"\n2 {{\n  3: 42\n}}\n"),
            ),
            (MessageKind::Piece, b"data: 1\n\n", format!("\n< #3 +1.5 ms piece 9 B {id}\ndata: 1\n")),
        ] {
            assert_eq!(shown(kind, bytes), expected);
        }
        let binary = shown(MessageKind::Binary, &[0xff, 0]);
        assert!(binary.contains("00000000  ff 00") && binary.contains("(binary, 2 B)"), "{binary}");
    }

    #[test]
    fn names_take_the_place_of_numbers_and_flaws_are_said() {
        let mut sample = samples::messages().remove(5);
        sample.compressed = true;
        let text = message(&sample, sample.time, Some("name: \"abc\"\n"), Style::Plain);
        for part in [
            "\n(malformed: It does not decompress to its end.)\nname: \"abc\"\n",
            "came compressed, 15 B on the wire; 9 B of 100 B kept",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
