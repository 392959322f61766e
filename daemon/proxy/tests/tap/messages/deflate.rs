//! permessage-deflate, with flate2 as the peer.

use flate2::{Compress, Compression, FlushCompress, Status};

use super::frames::{Cut, client, play, server};
use super::*;
use crate::drive::{Dice, timeless};

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
const NO_TAKEOVER: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";

struct Deflater {
    inner: Compress,
    takeover: bool,
}

impl Deflater {
    fn new(takeover: bool) -> Self {
        Self { inner: Compress::new(Compression::fast(), false), takeover }
    }

    fn run(&mut self, data: &[u8], flush: FlushCompress) -> Vec<u8> {
        let before = self.inner.total_in();
        let mut out = Vec::with_capacity(data.len() + 1000);
        loop {
            let used = usize::try_from(self.inner.total_in() - before).unwrap_or_default();
            let status = self.inner.compress_vec(&data[used..], &mut out, flush);
            if matches!(status, Err(_) | Ok(Status::StreamEnd)) || out.len() < out.capacity() {
                break;
            }
            out.reserve(1000);
        }
        if !self.takeover {
            self.inner.reset();
        }
        out
    }

    /// A message as RFC 7692 §7.2.1 wants it.
    fn message(&mut self, data: &[u8]) -> Vec<u8> {
        let mut out = self.run(data, FlushCompress::Sync);
        assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
        out.truncate(out.len() - 4);
        out
    }
}

/// Texts that repeat each other.
fn texts() -> Vec<Vec<u8>> {
    let mut dice = Dice(11);
    (0..20)
        .map(|round| {
            let words = ["alpha ", "beta ", "gamma ", "κόσμε "];
            (0..dice.roll(40 * (round + 1))).flat_map(|_| words[dice.roll(4)].bytes()).collect()
        })
        .collect()
}

#[test]
fn messages_are_inflated_with_and_without_context_takeover() {
    for (fields, takeover) in [(DEFLATE, true), (NO_TAKEOVER, false)] {
        let (mut up, mut down) = (Deflater::new(takeover), Deflater::new(takeover));
        let mut steps = Vec::new();
        for text in texts() {
            steps.push(client(0xc1, &up.message(&text)));
            // In two fragments, of which only the first has the bit.
            let compressed = down.message(&text);
            let (begin, rest) = compressed.split_at(compressed.len() / 2);
            steps.extend([server(0x41, begin), server(0x89, b""), server(0x80, rest), server(0x81, b"plain")]);
        }
        let events = play(Limits::default(), fields, &steps, &[], Cut::Whole);
        agree(&events);
        let inflated: Vec<_> = messages(&events).into_iter().filter(|message| message.compressed).collect();
        assert_eq!(inflated.len(), 40);
        for (message, text) in inflated.iter().zip(texts().iter().flat_map(|text| [text, text])) {
            assert_eq!((message.outcome, message.kind), (Outcome::Complete, MessageKind::Text), "{message:?}");
            assert_eq!((&message.body.kept, message.body.size), (text, text.len() as u64));
        }
        for cut in [Cut::At(1), Cut::At(7), Cut::EachByte] {
            assert_eq!(
                timeless(play(Limits::default(), fields, &steps, &[], cut)),
                timeless(events.clone()),
                "takeover: {takeover}"
            );
        }
    }
}

#[test]
fn a_bomb_is_counted_and_then_given_up() {
    let limits = Limits { body: 100, ..Limits::default() };
    for (fields, takeover) in [(DEFLATE, true), (NO_TAKEOVER, false)] {
        let mut deflater = Deflater::new(takeover);
        let (fair, bomb) = (deflater.message(&vec![b'a'; 1 << 20]), deflater.message(&vec![b'b'; 36 << 20]));
        let behind = deflater.message(b"behind it");
        let steps = [server(0xc1, &fair), server(0xc1, &bomb), server(0xc1, &behind), server(0x81, b"plain")];
        let events = play(limits, fields, &steps, &[], Cut::Whole);
        let [first, second, third, fourth] = messages(&events)[..] else { panic!("{events:?}") };
        assert_eq!((first.outcome, first.body.size, first.body.kept.len()), (Outcome::Complete, 1 << 20, 100));
        assert_eq!(second.outcome, Outcome::Passthrough);
        assert!(second.body.size < 40 << 20 && second.detail.as_deref().unwrap().contains("too many bytes"));
        assert!(third.compressed);
        if takeover {
            assert_eq!((third.outcome, &third.body.kept), (Outcome::Passthrough, &behind));
            assert!(third.detail.as_deref().unwrap().contains("message before it"));
        } else {
            assert_eq!((third.outcome, &third.body.kept[..]), (Outcome::Complete, &b"behind it"[..]));
        }
        assert_eq!((fourth.outcome, &fourth.body.kept[..]), (Outcome::Complete, &b"plain"[..]));
        assert_eq!(timeless(play(limits, fields, &steps, &[], Cut::At(1000))), timeless(events));
    }
}

#[test]
fn what_does_not_inflate_is_malformed_and_what_refers_to_it_is_left() {
    let mut deflater = Deflater::new(true);
    let steps = [server(0xc2, b"\xff\xff\xff"), server(0xc2, &deflater.message(b"x"))];
    let events = play(Limits::default(), DEFLATE, &steps, &[], Cut::Whole);
    let outcomes: Vec<_> = messages(&events).iter().map(|message| message.outcome).collect();
    assert_eq!(outcomes, [Outcome::Malformed, Outcome::Passthrough]);
    let events = play(Limits::default(), NO_TAKEOVER, &steps, &[], Cut::Whole);
    let outcomes: Vec<_> = messages(&events).iter().map(|message| message.outcome).collect();
    assert_eq!(outcomes, [Outcome::Malformed, Outcome::Complete]);
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    // RFC 7692 §7.2.3.1 to §7.2.3.5: "Hello" in one block, again by reference, stored, with a final block, in two blocks.
    let sent: [&[u8]; 5] = [
        b"\xf2\x48\xcd\xc9\xc9\x07\x00",
        b"\xf2\x00\x11\x00\x00",
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    ];
    let steps: Vec<_> = sent.iter().map(|bytes| client(0xc1, bytes)).collect();
    let events = play(Limits::default(), DEFLATE, &steps, &[], Cut::EachByte);
    for message in messages(&events) {
        assert_eq!((message.outcome, &message.body.kept[..]), (Outcome::Complete, &b"Hello"[..]), "{message:?}");
    }
    assert_eq!(messages(&events).len(), 5);
}

#[test]
fn final_blocks_without_end_are_given_up() {
    let steps = [client(0xc1, &b"\x03\x00".repeat(10_000))];
    let events = play(Limits::default(), DEFLATE, &steps, &[], Cut::Whole);
    assert_eq!(messages(&events)[0].outcome, Outcome::Passthrough);
}

#[test]
fn a_compressed_text_is_checked_after_it_was_inflated() {
    let bytes = Deflater::new(true).message(b"\xff");
    let events = play(Limits::default(), DEFLATE, &[client(0xc1, &bytes), client(0xc0, b"")], &[], Cut::Whole);
    assert!(messages(&events)[0].detail.as_deref().unwrap().contains("UTF-8"));
    assert!(messages(&events)[1].detail.as_deref().unwrap().contains("reserved bit"));
}
