//! The bounds of a tap's memory, and what is said when something falls over them.

use nodetap_core::exchange::{Direction, Event, Exchange, Message, Outcome};
use nodetap_core::ulid::UlidSource;
use nodetap_proxy::tap::{Limits, Side};

use crate::drive::{Player, exchanges, summaries, timeless};

const SMALL: Limits = Limits { body: 8, head: 64, fields: 3, pipeline: 2, waiting: 4096 };

/// What is recorded of a client's bytes and a server's; shown whole, and byte by byte: both must agree.
fn record(limits: Limits, client: &[u8], server: &[u8]) -> Vec<Event> {
    let play = |piece| {
        let mut player = Player::new(Direction::Inbound, limits);
        client.chunks(piece).for_each(|bytes| player.show(Side::Client, bytes));
        server.chunks(piece).for_each(|bytes| player.show(Side::Server, bytes));
        timeless(player.finish())
    };
    let (whole, single) = (play(usize::MAX), play(1));
    assert_eq!(whole, single);
    whole
}

fn only(events: &[Event]) -> &Exchange {
    let [exchange] = exchanges(events)[..] else { unreachable!("one exchange") };
    exchange
}

/// A request whose head has this many bytes.
fn request(head: usize) -> Vec<u8> {
    let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
    bytes.resize(head - 4, b'x');
    bytes.extend(b"\r\n\r\n");
    bytes
}

#[test]
fn a_head_may_be_as_long_as_the_limit() {
    let events = record(SMALL, &request(64), b"HTTP/1.1 204 x\r\n\r\n");
    assert_eq!((only(&events).outcome, events.len()), (Outcome::Complete, 1));
}

#[test]
fn a_head_beyond_the_limit_is_cut_there_and_ends_the_tap_without_blame() {
    let client = request(65);
    for client in [&client[..], &request(1000), &client[..65]] {
        let events = record(SMALL, client, b"HTTP/1.1 431 x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(only(&events).outcome, Outcome::Passthrough);
        assert_eq!(only(&events).request.head, client[..64]);
        assert!(only(&events).response.is_some());
        assert!(summaries(&events)[0].detail.as_deref().unwrap().contains("beyond the tap's limit"));
    }
}

#[test]
fn a_response_head_beyond_the_limit_ends_the_tap() {
    let events = record(SMALL, b"GET / HTTP/1.1\r\n\r\n", &[b"HTTP/1.1 200 ", &[b'x'; 100][..]].concat());
    assert_eq!(only(&events).outcome, Outcome::Passthrough);
    assert_eq!(only(&events).response.as_ref().unwrap().head.len(), 64);
    assert_eq!(summaries(&events).len(), 1);
}

#[test]
fn more_fields_than_the_limit_end_the_tap() {
    let events = record(SMALL, b"GET / HTTP/1.1\r\na:1\r\nb:2\r\nc:3\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n");
    assert_eq!(only(&events).outcome, Outcome::Complete);
    let events = record(SMALL, b"GET / HTTP/1.1\r\na:1\r\nb:2\r\nc:3\r\nd:4\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n");
    assert_eq!(only(&events).outcome, Outcome::Passthrough);
    assert!(only(&events).detail.as_deref().unwrap().contains("more field lines"));
}

#[test]
fn a_body_is_kept_up_to_its_cap_and_counted_beyond() {
    let client = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n9\r\nfghijklmn\r\n0\r\n\r\n";
    let events = record(SMALL, client, b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n123456789");
    let exchange = only(&events);
    assert_eq!((exchange.request.body.size, &exchange.request.body.kept[..]), (14, &b"abcdefgh"[..]));
    let body = &exchange.response.as_ref().unwrap().body;
    assert_eq!((body.size, &body.kept[..], exchange.outcome), (9, &b"12345678"[..], Outcome::Complete));
}

#[test]
fn trailers_and_chunk_lines_have_the_limit_of_a_head() {
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, outcome) in [
        (&[b"0;".as_slice(), &[b'x'; 60], b"\r\n\r\n"].concat(), Outcome::Complete),
        (&[b"0;".as_slice(), &[b'x'; 61], b"\r\n\r\n"].concat(), Outcome::Passthrough),
        (&[b"0\r\nX:".as_slice(), &[b'x'; 60], b"\r\n\r\n"].concat(), Outcome::Complete),
        (&[b"0\r\nX:".as_slice(), &[b'x'; 63], b"\r\n\r\n"].concat(), Outcome::Passthrough),
        (&[b"0\r\nX:".as_slice(), &[b'x'; 6000]].concat(), Outcome::Passthrough),
    ] {
        let events = record(SMALL, &[head, &body[..]].concat(), b"HTTP/1.1 204 x\r\n\r\n");
        assert_eq!(only(&events).outcome, outcome, "{}", String::from_utf8_lossy(body));
        assert!(only(&events).request.trailers.len() <= SMALL.head);
    }
}

#[test]
fn more_requests_waiting_than_the_limit_end_the_tap_for_the_client() {
    let answer = b"HTTP/1.1 204 x\r\n\r\n";
    let events = record(SMALL, &b"GET / HTTP/1.1\r\n\r\n".repeat(4), &answer.repeat(4));
    assert_eq!(exchanges(&events).len(), 2);
    assert!(exchanges(&events).iter().all(|exchange| exchange.outcome == Outcome::Complete));
    let [summary] = summaries(&events)[..] else { unreachable!("one summary") };
    assert_eq!((summary.outcome, summary.bytes.received), (Outcome::Passthrough, 18 * 4));
    assert!(summary.detail.as_deref().unwrap().contains("more requests waited"));
}

#[test]
fn more_bytes_waiting_than_the_limit_end_the_tap_for_the_client() {
    let limits = Limits { waiting: 60, pipeline: 10, ..SMALL };
    let events = record(limits, &b"GET /123456 HTTP/1.1\r\n\r\n".repeat(9), b"HTTP/1.1 204 x\r\n\r\n");
    assert_eq!(exchanges(&events).len(), 3);
    assert!(summaries(&events)[0].detail.as_deref().unwrap().contains("more bytes of requests waited"));
}

#[test]
fn interim_responses_are_kept_up_to_the_limit_of_one_head() {
    let server = [&b"HTTP/1.1 103 hints\r\n\r\n".repeat(4)[..], b"HTTP/1.1 204 x\r\n\r\n"].concat();
    let events = record(SMALL, b"GET / HTTP/1.1\r\n\r\n", &server);
    let exchange = only(&events);
    assert_eq!((exchange.outcome, exchange.interim.len()), (Outcome::Complete, 44));
    assert_eq!(exchange.dropped, ["interim: beyond the limit of one head"]);
}

#[test]
fn bytes_behind_a_request_to_switch_are_held_up_to_the_limit_of_one_head() {
    let ask = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let limits = Limits { pipeline: 9, ..SMALL };
    let next = b"GET / HTTP/1.1\r\n\r\n".repeat(3);
    let events = record(limits, &[&ask[..], &next].concat(), &b"HTTP/1.1 204 x\r\n\r\n".repeat(4));
    assert_eq!((exchanges(&events).len(), summaries(&events).len()), (4, 0));
    let next = b"GET / HTTP/1.1\r\n\r\n".repeat(4);
    let events = record(limits, &[&ask[..], &next].concat(), &b"HTTP/1.1 204 x\r\n\r\n".repeat(5));
    assert_eq!(exchanges(&events).len(), 1);
    assert!(summaries(&events)[0].detail.as_deref().unwrap().contains("behind a request to switch"));
    let events = record(limits, &[&ask[..], &next].concat(), b"HTTP/1.1 101 x\r\n\r\nxyz");
    assert_eq!(summaries(&events)[0].outcome, Outcome::Passthrough);
    assert!(summaries(&events)[0].detail.as_deref().unwrap().contains("switched protocols"));
}

#[test]
fn a_content_length_that_lies_reserves_no_memory() {
    let events = record(
        Limits::default(),
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nabc",
        b"HTTP/1.1 200 x\r\nContent-Length: 99999999999\r\n\r\nabc",
    );
    let exchange = only(&events);
    let spare = |message: &Message| message.body.kept.capacity() - message.body.kept.len();
    assert!(spare(&exchange.request) <= 16 * 1024 && spare(exchange.response.as_ref().unwrap()) <= 16 * 1024);
}

#[test]
fn a_body_of_known_length_is_reserved_exactly() {
    let events = record(
        Limits::default(),
        b"GET / HTTP/1.1\r\n\r\n",
        &[b"HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\n".as_slice(), &[b'x'; 1000]].concat(),
    );
    assert_eq!(only(&events).response.as_ref().unwrap().body.kept.capacity(), 1000);
}

#[test]
fn bytes_that_were_not_shown_although_they_were_wanted_end_the_tap() {
    let (mut ids, mut out) = (UlidSource::new(1), Vec::new());
    for (shown, side) in
        [(&b""[..], Side::Client), (b"GET / HT", Side::Client), (b"GET / HTTP/1.1\r\n\r\n", Side::Server)]
    {
        let mut player = Player::new(Direction::Inbound, Limits::default());
        player.show(Side::Client, shown);
        player.tap.skip(side, 5, player.now, &mut ids, &mut out);
        let events = player.finish();
        let [summary] = summaries(&events)[..] else { unreachable!("one summary") };
        assert_eq!(summary.outcome, Outcome::Passthrough);
        assert!(summary.detail.as_deref().unwrap().contains("without being shown"));
        assert_eq!(summary.bytes.sent + summary.bytes.received, shown.len() as u64 + 5);
    }
}
