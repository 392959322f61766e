//! Segments that are whole, torn, cut and damaged.

use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::exchange::{Body, Bytes, Direction, Message, Outcome, Process, Protocol, Target, Timing, Via};
use crate::ulid::UlidSource;

const SALT: u32 = 0x1234_5678;

fn event(number: u64, body: usize) -> Event {
    let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let mut ids = UlidSource::new(u128::from(number));
    let connection = Arc::new(Connection {
        id: ids.next(number),
        direction: Direction::Outbound,
        via: Via::Transparent,
        target: Target::command("curl"),
        container: None,
        process: Some(Process { pid: 4711, name: "curl".into() }),
        client: address,
        client_name: None,
        server: address,
        server_name: None,
        accepted: number,
    });
    if number % 3 == 2 {
        let reason = "queue_full".into();
        return Event::Loss(Loss {
            time: number,
            until: number,
            target: Target::command("x"),
            reason,
            exchanges: 1,
            bytes: 2,
        });
    }
    let request = Message {
        head: format!("GET /{number} HTTP/1.1\r\n\r\n").into_bytes(),
        body: Body { size: body as u64, kept: vec![b'x'; body], in_messages: false },
        trailers: vec![],
    };
    Event::Exchange(Box::new(Exchange {
        id: ids.next(number),
        connection,
        time: number,
        protocol: Protocol::Http11,
        stream: None,
        tls: None,
        request,
        interim: vec![],
        response: None,
        timing: Timing::default(),
        bytes: Bytes::default(),
        messages: None,
        outcome: Outcome::Malformed,
        detail: Some("no response".into()),
        redacted: vec!["request.header.cookie".into()],
        dropped: vec![],
    }))
}

/// A segment, its events, and where each frame ends.
fn segment(events: u64, body: usize) -> (Vec<u8>, Vec<Event>, Vec<usize>) {
    let mut bytes = header(1, SALT).to_vec();
    let events: Vec<Event> = (0..events).map(|number| event(number, body)).collect();
    let mut ends = vec![bytes.len()];
    for event in &events {
        encode(event, SALT, &mut bytes).unwrap();
        ends.push(bytes.len());
    }
    (bytes, events, ends)
}

/// Gives few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);
impl std::io::Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.min(out.len()).min(self.0.len());
        out[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

fn scan(reader: impl std::io::Read) -> (Vec<Event>, Vec<Damage>) {
    let mut scanner = Scanner::open(reader).unwrap();
    let (mut events, mut damage) = (Vec::new(), Vec::new());
    while let Some(item) = scanner.next_item().unwrap() {
        match item {
            Item::Frame(frame) => events.extend(decode(frame.kind, frame.payload).unwrap()),
            Item::Damage(found) => damage.push(found),
        }
    }
    (events, damage)
}

#[test]
fn what_was_written_is_read_however_the_reader_gives_it() {
    let (bytes, events, _) = segment(50, 3000);
    assert!(scan(&bytes[..]) == (events.clone(), vec![]));
    assert!(scan(Trickle(&bytes, 7)) == (events, vec![]));
}

#[test]
fn a_key_is_what_the_whole_record_says() {
    let (bytes, ..) = segment(9, 10);
    let mut scanner = Scanner::open(&bytes[..]).unwrap();
    while let Some(Item::Frame(frame)) = scanner.next_item().unwrap() {
        let key = key(frame.kind, frame.payload).unwrap().unwrap();
        match decode(frame.kind, frame.payload).unwrap().unwrap() {
            Event::Exchange(one) => assert_eq!(key, Key { time: one.time, what: What::Exchange(one.id) }),
            Event::Connection(one) => {
                assert_eq!(key, Key { time: one.connection.accepted, what: What::Connection(one.id) });
            }
            Event::Message(one) => {
                let what = What::Message { id: one.id, exchange: one.exchange, seq: one.seq };
                assert_eq!(key, Key { time: one.time, what });
            }
            Event::Loss(loss) => assert_eq!(key, Key { time: loss.time, what: What::Loss }),
        }
    }
}

#[test]
fn a_segment_cut_at_any_offset_gives_all_whole_records_and_says_what_was_cut() {
    let (bytes, events, ends) = segment(40, 90);
    for cut in (0..bytes.len()).rev().take(4096) {
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        let (read, damage) = scan(&bytes[..cut]);
        assert!(read == events[..whole], "cut at {cut}: {} records", read.len());
        let good = if cut < HEADER { 0 } else { ends[whole] };
        let expected = Damage { offset: good as u64, bytes: (cut - good) as u64, kind: DamageKind::TornTail };
        assert_eq!(damage, if cut == good { vec![] } else { vec![expected] }, "cut at {cut}");
    }
}

#[test]
fn any_bit_flipped_costs_at_most_the_record_it_is_in() {
    let (bytes, events, ends) = segment(6, 20);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            if (8..10).contains(&at) {
                // The version, with a checksum that is wrong: still only damage.
                assert!(Scanner::open(&damaged[..]).is_ok());
            }
            let hit = ends.iter().position(|end| at < *end).unwrap();
            let expected: Vec<_> = (events.iter().enumerate())
                .filter(|(number, _)| number + 1 != hit)
                .map(|(_, event)| event.clone())
                .collect();
            let (read, damage) = scan(&damaged[..]);
            assert!(read == expected, "bit {bit} of byte {at}: {} records", read.len());
            assert_eq!(damage.len(), 1, "bit {bit} of byte {at}: {damage:?}");
            assert_eq!(damage[0].offset, if hit == 0 { 0 } else { ends[hit - 1] as u64 });
            if hit > 0 {
                assert_eq!(damage[0].bytes, (ends[hit] - ends[hit - 1]) as u64);
            }
        }
    }
}

#[test]
fn a_recorded_segment_does_not_pass_for_records_of_the_segment_it_lies_in() {
    let (inner, ..) = segment(3, 10);
    let mut outer_event = event(0, 10);
    if let Event::Exchange(exchange) = &mut outer_event {
        exchange.request.body.kept = inner;
    }
    let mut outer = header(1, SALT + 1).to_vec();
    encode(&outer_event, SALT + 1, &mut outer).unwrap();
    let body_at = outer.len() - 100;
    outer[body_at] ^= 1;
    let (read, damage) = scan(&outer[..]);
    assert_eq!((read.len(), damage.len()), (0, 1));
}

#[test]
fn garbage_between_records_is_skipped_in_bounded_memory() {
    let (mut bytes, events, ends) = segment(4, 10);
    let garbage = vec![0x5A; 3 << 20];
    bytes.splice(ends[2]..ends[2], garbage.iter().copied());
    let mut scanner = Scanner::open(&bytes[..]).unwrap();
    let (mut read, mut damage) = (0, vec![]);
    while let Some(item) = scanner.next_item().unwrap() {
        match item {
            Item::Frame(_) => read += 1,
            Item::Damage(found) => damage.push(found),
        }
    }
    assert_eq!(read, events.len());
    let expected = Damage { offset: ends[2] as u64, bytes: 3 << 20, kind: DamageKind::Corrupt };
    assert_eq!(damage, [expected]);
    assert!(scanner.capacity() < 1 << 20, "{}", scanner.capacity());
}

#[test]
fn zeros_at_the_end_are_space_that_was_set_aside() {
    let (mut bytes, events, ends) = segment(4, 10);
    bytes.extend_from_slice(&[0; 5000]);
    let expected = Damage { offset: ends[4] as u64, bytes: 5000, kind: DamageKind::ZeroTail };
    assert!(scan(&bytes[..]) == (events, vec![expected]));
}

#[test]
fn a_kind_from_the_future_is_skipped() {
    assert_eq!(decode(200, b"whatever"), Ok(None));
    assert_eq!(key(200, b"whatever"), Ok(None));
}

#[test]
fn what_is_no_segment_is_refused() {
    for bytes in [&b"PNG whatever"[..], b"NODETAQ\n and much more text than a header has", b"x"] {
        assert!(matches!(Scanner::open(bytes), Err(Error::NotASegment)), "{bytes:?}");
    }
    let mut newer = header(1, SALT);
    newer[8] = 9;
    let crc = crc32c::crc32c(&newer[..24]).to_le_bytes();
    newer[24..].copy_from_slice(&crc);
    assert!(matches!(Scanner::open(&newer[..]), Err(Error::Version(9))));
}

#[test]
fn a_record_that_no_frame_holds_is_refused_and_leaves_nothing() {
    let mut out = b"before".to_vec();
    let result = encode(&event(0, MAX_PAYLOAD + 1), SALT, &mut out);
    assert!(matches!(result, Err(Error::TooLarge(_))));
    assert_eq!(out, b"before");
}
