//! What stands in a record: bytes as sent, times, counts.

use nodetap_core::exchange::{Bytes, Direction, Event, Micros, Protocol};
use nodetap_proxy::tap::{End, Limits, Side};

use crate::corpus::Step::{C, ClientFin, S, ServerFin};
use crate::drive::{ACCEPTED, Player, exchanges, play, summaries};

#[test]
fn heads_bodies_and_trailers_are_kept_as_sent() {
    let events = play(
        &[
            C(b"\r\nPOST /a?b HTTP/1.1\r\nHOST:x\r\nTransfer-Encoding: chunked\r\nX: 1\r\n  2\r\n\r\n"),
            S(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\nLink: x\n\n"),
            C(b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum:  9 \r\nB: 2\r\n\r\n"),
            S(b"HTTP/1.1 200 Very  OK\r\nContent-Length: 3\r\n\r\n\x00\xff\n"),
        ],
        Direction::Inbound,
    );
    let exchange = exchanges(&events)[0];
    assert_eq!(
        exchange.request.head,
        b"POST /a?b HTTP/1.1\r\nHOST:x\r\nTransfer-Encoding: chunked\r\nX: 1\r\n  2\r\n\r\n"
    );
    assert_eq!(exchange.request.body.kept, b"abcde");
    assert_eq!(exchange.request.trailers, b"X-Sum:  9 \r\nB: 2\r\n");
    assert_eq!(exchange.interim, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\nLink: x\n\n");
    let response = exchange.response.as_ref().unwrap();
    assert_eq!(response.head, b"HTTP/1.1 200 Very  OK\r\nContent-Length: 3\r\n\r\n");
    assert_eq!((&response.body.kept[..], response.trailers.len()), (&b"\x00\xff\n"[..], 0));
    assert!(summaries(&events).is_empty());
}

#[test]
fn each_exchange_counts_its_own_bytes_as_the_target_sees_them() {
    let steps = [
        C(b"GET /1 HTTP/1.1\r\n\r\nPOST /22 HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi"),
        S(b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 204 x\r\n\r\nHTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
    ];
    for (direction, turn) in [(Direction::Outbound, false), (Direction::Inbound, true)] {
        let events = play(&steps, direction);
        let counted: Vec<_> = exchanges(&events).iter().map(|exchange| exchange.bytes).collect();
        let expected = [(19, 36), (42, 57)].map(|(client, server)| {
            if turn { Bytes { sent: server, received: client } } else { Bytes { sent: client, received: server } }
        });
        assert_eq!(counted, expected, "{direction:?}");
    }
}

#[test]
fn times_are_counted_from_the_first_byte_of_the_request() {
    let mut player = Player::new(Direction::Inbound, Limits::default());
    let ms: Micros = 1000;
    let mut at = |after: Micros, from, bytes: &[u8]| {
        // `show` moves the clock on by ten.
        player.now = ACCEPTED + after - 10;
        player.show(from, bytes);
    };
    at(5 * ms, Side::Client, b"PO");
    at(6 * ms, Side::Client, b"ST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab");
    at(7 * ms, Side::Server, b"HTTP/1.1 100 x\r\n\r\n");
    at(8 * ms, Side::Client, b"cd");
    at(9 * ms, Side::Server, b"H");
    at(10 * ms, Side::Server, b"TTP/1.1 200 x\r\nContent-Length: 1\r\n\r\n");
    at(12 * ms, Side::Server, b"!");
    at(20 * ms, Side::Client, b"GET / HTTP/1.1\r\n\r\n");
    at(22 * ms, Side::Server, b"HTTP/1.1 204 x\r\n\r\n");
    let events = player.finish();
    let [first, second] = exchanges(&events)[..] else { unreachable!("two requests") };
    assert_eq!((first.time, second.time), (ACCEPTED + 5 * ms, ACCEPTED + 20 * ms));
    // The upstream stood 5 µs after accept, before the request began.
    assert_eq!((first.timing.connected, second.timing.connected), (Some(0), None));
    assert_eq!((first.timing.request_end, second.timing.request_end), (Some(3 * ms), Some(0)));
    assert_eq!((first.timing.first_byte, second.timing.first_byte), (Some(4 * ms), Some(2 * ms)));
    assert_eq!((first.timing.end, second.timing.end), (Some(7 * ms), Some(2 * ms)));
    assert!(first.id < second.id && first.id.milliseconds() == (ACCEPTED + 5 * ms) / 1000);
}

#[test]
fn an_exchange_is_written_as_soon_as_it_is_whole() {
    let mut player = Player::new(Direction::Inbound, Limits::default());
    player.show(Side::Client, b"GET / HTTP/1.1\r\n\r\n");
    assert!(player.events.is_empty());
    player.show(Side::Server, b"HTTP/1.1 200 x\r\n\r\nrest");
    assert!(player.events.is_empty());
    player.end(Side::Server, End::Fin);
    assert_eq!(player.events.len(), 1);
}

#[test]
fn a_summary_counts_the_whole_connection_from_its_accept() {
    let events = play(&[C(b"\x00\x01\x02"), S(b"\x03"), ClientFin, ServerFin], Direction::Outbound);
    let [summary] = summaries(&events)[..] else { unreachable!("one summary") };
    assert_eq!(summary.bytes, Bytes { sent: 3, received: 1 });
    assert_eq!((summary.timing.connected, summary.timing.first_byte), (Some(5), Some(20)));
    assert_eq!((summary.timing.request_end, summary.timing.end), (None, Some(50)));
    assert_eq!(summary.tls, None);
}

#[test]
fn a_head_that_is_cut_is_kept_as_far_as_it_came() {
    let events = play(&[C(b"GET / HTTP/1.0\r\nHo"), ClientFin, ServerFin], Direction::Inbound);
    let exchange = exchanges(&events)[0];
    assert_eq!((&exchange.request.head[..], exchange.protocol), (&b"GET / HTTP/1.0\r\nHo"[..], Protocol::Http10));
    let events = play(&[C(b"GET / HTTP/1.1\r\n\r\n"), S(b"HTTP/1.1 2"), ServerFin, ClientFin], Direction::Inbound);
    assert_eq!(exchanges(&events)[0].response.as_ref().unwrap().head, b"HTTP/1.1 2");
}

#[test]
fn a_connection_of_exchanges_alone_has_no_summary_and_an_empty_piece_means_nothing() {
    let mut player = Player::new(Direction::Inbound, Limits::default());
    player.show(Side::Server, b"");
    player.show(Side::Client, b"GET / HTTP/1.1\r\n\r\n");
    player.show(Side::Client, b"");
    player.show(Side::Server, b"HTTP/1.1 204 x\r\n\r\n");
    assert!(player.tap.wants(Side::Client) && player.tap.wants(Side::Server) && !player.tap.is_blind());
    let events = player.finish();
    assert!(matches!(events[..], [Event::Exchange(_)]));
}

#[test]
fn a_tap_that_is_blind_wants_nothing_but_counts() {
    let mut player = Player::new(Direction::Inbound, Limits::default());
    player.show(Side::Client, b"\x00");
    assert!(player.tap.is_blind() && !player.tap.wants(Side::Client) && !player.tap.wants(Side::Server));
    player.skips = true;
    player.show(Side::Client, b"abc");
    player.show(Side::Server, b"abcd");
    assert_eq!(summaries(&player.finish())[0].bytes, Bytes { sent: 4, received: 4 });
}

#[test]
fn a_client_at_fault_is_not_shown_any_more_while_its_response_is() {
    let mut player = Player::new(Direction::Inbound, Limits::default());
    player.show(Side::Client, b"GET / HTTP/9\r\n");
    assert!(!player.tap.wants(Side::Client) && player.tap.wants(Side::Server) && !player.tap.is_blind());
    player.show(Side::Server, b"HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n");
    assert!(player.tap.is_blind() && player.events.len() == 1);
}

#[test]
fn a_connection_that_stays_open_is_summed_up_meanwhile_and_again_at_its_end() {
    let mut player = Player::new(Direction::Outbound, Limits::default());
    player.show(Side::Server, b"SSH-2.0-x\r\n");
    player.still_open();
    player.show(Side::Client, b"SSH-2.0-y\r\n");
    let events = player.finish();
    let [meanwhile, end] = summaries(&events)[..] else { unreachable!("two summaries: {events:?}") };
    assert_eq!((meanwhile.bytes.received, meanwhile.bytes.sent), (11, 0));
    assert_eq!((end.bytes.received, end.bytes.sent), (11, 11));
    assert!(meanwhile.detail.as_deref().is_some_and(|detail| detail.ends_with("It is still open.")));
    assert_ne!(meanwhile.id, end.id);
}
