//! The bounds of the tap's memory, and what is said when something falls over them.

use nodetap_core::exchange::{Direction, Event, Outcome};
use nodetap_proxy::tap::{Limits, Side};

use super::corpus::*;
use crate::drive::{Player, exchanges, summaries, timeless};

const SMALL: Limits = Limits { body: 8, head: 512, fields: 9, pipeline: 2, waiting: 1 << 20 };

fn greeted(limits: Limits) -> Player {
    let mut player = Player::new(Direction::Inbound, limits);
    player.show(Side::Client, &[PREFACE, &settings(&[])].concat());
    player.show(Side::Server, &settings(&[]));
    player
}

/// What is recorded of a client's bytes and a server's; shown whole, and byte by byte: both must agree.
fn record(limits: Limits, client: &[u8], server: &[u8]) -> Vec<Event> {
    let play = |piece| {
        let mut player = greeted(limits);
        client.chunks(piece).for_each(|bytes| player.show(Side::Client, bytes));
        server.chunks(piece).for_each(|bytes| player.show(Side::Server, bytes));
        timeless(player.finish())
    };
    let (whole, single) = (play(usize::MAX), play(1));
    assert_eq!(whole, single);
    whole
}

#[test]
fn a_body_is_kept_up_to_its_cap_and_counted_beyond() {
    let client = [post(1), data(1, b"abcde"), last(1, b"fghijklmn")].concat();
    let events = record(SMALL, &client, &[respond(1, "200"), last(1, b"123456789")].concat());
    let exchange = exchanges(&events)[0];
    assert_eq!((exchange.request.body.size, &exchange.request.body.kept[..]), (14, &b"abcdefgh"[..]));
    let body = &exchange.response.as_ref().unwrap().body;
    assert_eq!((body.size, &body.kept[..], exchange.outcome), (9, &b"12345678"[..], Outcome::Complete));
}

#[test]
fn fields_beyond_the_limit_of_a_head_are_left_out_and_the_stream_goes_on() {
    // Long by repetition, which takes a byte each time; and many.
    let long = [&indexed(b"a", &[b'x'; 100])[..], &[0xbe; 5]].concat();
    for more in [long, block(&[("a", "b"); 9])] {
        let whole = |stream, flags, first: &[Field<'_>]| {
            frame(HEADERS, EH | flags, stream, &[&block(first)[..], &more].concat())
        };
        let client = [whole(1, ES, &ASK), get(3)].concat();
        let server = [whole(1, 0, &[(":status", "200")]), last(1, b"ok"), respond_ok(3)].concat();
        let events = record(SMALL, &client, &server);
        let [first, second] = exchanges(&events)[..] else { unreachable!("two exchanges") };
        assert_eq!((first.outcome, second.outcome), (Outcome::Complete, Outcome::Complete));
        assert_eq!(
            first.dropped,
            ["request.head: beyond the limit of one head", "response.head: beyond the limit of one head"]
        );
        assert!(first.request.head.len() <= SMALL.head && !first.request.head.ends_with(b"\r\n\r\n"));
        assert!(first.request.head.starts_with(b"GET http://x/ HTTP/2\r\na: "));
        assert!(second.dropped.is_empty() && summaries(&events).is_empty());
    }
}

/// A head of one entry of 4000 bytes, and as many references to it.
fn bomb(references: usize) -> Vec<u8> {
    let entry = [&[0x40, 1, b'a'][..], &string(&[b'x'; 4000])].concat();
    [&block(&ASK)[..], &entry, &vec![0xbe; references]].concat()
}

#[test]
fn a_head_that_unfolds_is_read_to_its_end_and_not_kept() {
    let limits = Limits { head: 64 * 1024, ..Limits::default() };
    let mut player = greeted(limits);
    for number in 0..20u32 {
        player.show(Side::Client, &frame(HEADERS, EH | ES, 2 * number + 1, &bomb(200)));
    }
    player.show(Side::Server, &(0..20u32).flat_map(|number| respond_ok(2 * number + 1)).collect::<Vec<_>>());
    let events = player.finish();
    assert_eq!((exchanges(&events).len(), summaries(&events).len()), (20, 0));
    for exchange in exchanges(&events) {
        assert!(exchange.request.head.len() <= limits.head);
        assert_eq!(exchange.dropped, ["request.head: beyond the limit of one head"]);
    }
}

#[test]
fn a_head_that_unfolds_without_end_ends_the_tap() {
    let events =
        record(Limits { head: 64 * 1024, ..Limits::default() }, &frame(HEADERS, EH | ES, 1, &bomb(10_000)), b"");
    assert_eq!(exchanges(&events)[0].outcome, Outcome::Passthrough);
    assert!(summaries(&events)[0].detail.as_deref().unwrap().contains("header block beyond the tap's limit"));
}

#[test]
fn an_endless_header_block_ends_the_tap() {
    for piece in [&b""[..], b"x", &[0x82; 100]] {
        let endless = frame(CONTINUATION, 0, 3, piece).repeat(200);
        let events = record(SMALL, &[get(1), frame(HEADERS, 0, 3, b""), endless].concat(), b"");
        let [first, second] = exchanges(&events)[..] else { unreachable!("two exchanges") };
        assert_eq!((first.outcome, second.outcome), (Outcome::Passthrough, Outcome::Passthrough));
        assert!(second.detail.as_deref().unwrap().contains("header block beyond the tap's limit"));
        let [summary] = summaries(&events)[..] else { unreachable!("one summary") };
        assert_eq!(summary.outcome, Outcome::Passthrough);
    }
}

#[test]
fn bodies_of_all_streams_together_have_a_limit_too() {
    let limits = Limits { body: 64 * 1024, waiting: 256 * 1024, ..Limits::default() };
    let mut player = greeted(limits);
    for number in 0..100u32 {
        let id = 2 * number + 1;
        player.show(Side::Client, &post(id));
        (0..4).for_each(|_| player.show(Side::Client, &data(id, &[b'x'; 10_000])));
    }
    assert!(player.events.is_empty(), "no stream is given up for the size of bodies");
    let events = player.finish();
    let exchanges = exchanges(&events);
    assert!(exchanges.iter().all(|exchange| exchange.request.body.size == 40_000));
    let kept: usize = exchanges.iter().map(|exchange| exchange.request.body.kept.len()).sum();
    assert!((64 * 1024..=128 * 1024).contains(&kept), "{kept}");
    let dropped = ["request.body: beyond what the streams of one connection may keep"];
    assert!(
        exchanges.iter().all(|exchange| (exchange.request.body.kept.len() == 40_000) != (exchange.dropped == dropped))
    );
}

#[test]
fn a_body_that_missed_bytes_is_not_gone_on_with() {
    // The first stream takes all the room; when it is over, the second one's body must not be kept with a hole in it.
    let limits = Limits { body: 8192, waiting: 12_000, ..Limits::default() };
    let mut player = greeted(limits);
    player.show(Side::Client, &[post(1), data(1, &[b'a'; 8000]), post(3), data(3, b"first")].concat());
    player.show(Side::Client, &reset(1, 8));
    player.show(Side::Client, &last(3, b"second"));
    let events = player.finish();
    let body = &exchanges(&events)[1].request.body;
    assert_eq!((body.size, &body.kept[..]), (11, &b""[..]));
}

#[test]
fn streams_beyond_what_may_be_held_are_written_with_their_head_at_once() {
    let limits = Limits { waiting: 64 * 1024, ..Limits::default() };
    let mut player = greeted(limits);
    let ids = || (0..10_000u32).map(|number| 2 * number + 1);
    ids().for_each(|id| player.show(Side::Client, &post(id)));
    let written = player.events.len();
    assert!(written > 9_900 && written < 10_000, "{written}");
    ids().for_each(|id| player.show(Side::Client, &last(id, b"hello")));
    ids().for_each(|id| player.show(Side::Server, &respond_ok(id)));
    // There is room again.
    player.show(Side::Client, &get(20_001));
    player.show(Side::Server, &respond_ok(20_001));
    let events = player.finish();
    assert_eq!((exchanges(&events).len(), summaries(&events).len()), (10_001, 0));
    let complete = exchanges(&events).iter().filter(|exchange| exchange.outcome == Outcome::Complete).count();
    assert_eq!(complete, 10_001 - written);
    for exchange in exchanges(&events).iter().filter(|exchange| exchange.outcome != Outcome::Complete) {
        assert_eq!(exchange.outcome, Outcome::Passthrough);
        assert!(exchange.detail.as_deref().unwrap().contains("more bytes than the tap's limit"));
        assert!(exchange.request.head.starts_with(b"POST http://x/ "));
    }
}

#[test]
fn large_response_heads_are_bounded_together() {
    let limits = Limits { waiting: 64 * 1024, head: 64 * 1024, ..Limits::default() };
    let mut player = greeted(limits);
    let long = "x".repeat(12_000);
    (0..20u32).for_each(|number| player.show(Side::Client, &get(2 * number + 1)));
    (0..20u32)
        .for_each(|number| player.show(Side::Server, &headers(2 * number + 1, 0, &[(":status", "200"), ("a", &long)])));
    let given_up = player.events.len();
    assert!((5..20).contains(&given_up), "{given_up}");
    let events = player.finish();
    let [first, ..] = exchanges(&events)[..] else { unreachable!("exchanges") };
    assert!(first.detail.as_deref().unwrap().contains("followed no further"));
    assert!(first.response.as_ref().unwrap().head.len() > 12_000);
}

#[test]
fn a_flood_of_rapid_resets_leaves_no_state() {
    let mut player = greeted(Limits { waiting: 64 * 1024, ..Limits::default() });
    for number in 0..50_000u32 {
        let id = 2 * number + 1;
        player.show(Side::Client, &[get(id), reset(id, 8)].concat());
        if player.events.len() == 1000 {
            assert!(
                player.events.drain(..).all(
                    |event| matches!(event, Event::Exchange(exchange) if exchange.outcome == Outcome::ClientAborted)
                )
            );
        }
    }
    assert!(player.finish().is_empty());
}

#[test]
fn floods_of_small_frames_leave_no_state() {
    let mut player = greeted(Limits::default());
    player.show(Side::Client, &post(1));
    for _ in 0..20_000 {
        player.show(
            Side::Client,
            &[data(1, b""), window(1), frame(PRIORITY, 0, 9, &[0; 5]), frame(PING, 0, 0, &[0; 8]), settings(&[(1, 0)])]
                .concat(),
        );
    }
    player.show(Side::Client, &last(1, b""));
    player.show(Side::Server, &respond_ok(1));
    let events = player.finish();
    assert_eq!((events.len(), exchanges(&events)[0].outcome), (1, Outcome::Complete));
}

#[test]
fn a_content_length_that_lies_reserves_no_memory() {
    let fields = request("POST", &[("content-length", "99999999999")]);
    let events = record(Limits::default(), &[headers(1, 0, &fields), data(1, b"abc")].concat(), b"");
    let body = &exchanges(&events)[0].request.body;
    assert!(body.kept.capacity() - body.kept.len() <= 2048);
}

#[test]
fn a_body_in_one_frame_is_reserved_exactly() {
    let mut player = greeted(Limits::default());
    player.show(Side::Client, &get(1));
    player.show(Side::Server, &[respond(1, "200"), last(1, &[b'x'; 1000])].concat());
    let events = player.finish();
    assert_eq!(exchanges(&events)[0].response.as_ref().unwrap().body.kept.capacity(), 1000);
}

#[test]
fn data_beyond_the_cap_may_be_skipped_to_the_end_of_its_frame() {
    let mut player = greeted(SMALL);
    player.show(Side::Client, &[post(1), data(1, b"1234567")].concat());
    player.show(Side::Client, &data(1, &[b'x'; 100])[..9]);
    assert_eq!(player.tap.skippable(Side::Client), 0);
    player.show(Side::Client, b"8");
    assert_eq!((player.tap.skippable(Side::Client), player.tap.skippable(Side::Server)), (99, 0));
}
