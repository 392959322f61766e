//! What stands in a record: heads that can be read again, times, counts.

use nodetap_core::exchange::{Bytes, Direction, Event, Exchange, Protocol};
use nodetap_core::head::Head;
use nodetap_core::url;
use nodetap_proxy::tap::{Limits, Side};

use super::corpus::*;
use crate::drive::{ACCEPTED, Player, exchanges, summaries};

/// A connection whose sides have greeted each other.
fn greeted(limits: Limits) -> Player {
    let mut player = Player::new(Direction::Inbound, limits);
    player.show(Side::Client, &[PREFACE, &settings(&[])].concat());
    player.show(Side::Server, &settings(&[]));
    player
}

fn record(client: &[u8], server: &[u8]) -> Vec<Event> {
    let mut player = greeted(Limits::default());
    player.show(Side::Client, client);
    player.show(Side::Server, server);
    player.finish()
}

fn request_of(fields: &[Field<'_>]) -> Exchange {
    let events = record(&headers(1, ES, fields), &respond_ok(1));
    exchanges(&events)[0].clone()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn heads_are_written_as_http_1_would() {
    let client = [
        headers(1, 0, &request("POST", &[("content-type", "text/plain"), ("cookie", "a=b"), ("cookie", "c=d")])),
        data(1, b"he"),
        data(1, b"llo"),
        headers(1, ES, &[("sum", "9"), ("more", "")]),
    ]
    .concat();
    let server = [
        headers(1, 0, &[(":status", "103"), ("link", "</a>")]),
        headers(1, 0, &[(":status", "100")]),
        headers(1, 0, &[(":status", "200"), ("server", "x")]),
        last(1, b"\0\xff"),
    ]
    .concat();
    let events = record(&client, &server);
    let [exchange] = exchanges(&events)[..] else { unreachable!("one exchange") };
    assert_eq!(
        text(&exchange.request.head),
        "POST http://x/ HTTP/2\r\ncontent-type: text/plain\r\ncookie: a=b\r\ncookie: c=d\r\n\r\n"
    );
    assert_eq!(
        (&exchange.request.body.kept[..], text(&exchange.request.trailers)),
        (&b"hello"[..], "sum: 9\r\nmore: \r\n".to_owned())
    );
    assert_eq!(text(&exchange.interim), "HTTP/2 103 \r\nlink: </a>\r\n\r\nHTTP/2 100 \r\n\r\n");
    let response = exchange.response.as_ref().unwrap();
    assert_eq!(text(&response.head), "HTTP/2 200 \r\nserver: x\r\n\r\n");
    assert_eq!((&response.body.kept[..], &response.trailers[..]), (&b"\0\xff"[..], &b""[..]));
    assert_eq!((exchange.protocol, exchange.stream), (Protocol::Http2, Some(1)));
    assert_eq!(Head::parse(&response.head).start.status().code, Some(200));
    assert!(summaries(&events).is_empty());
}

#[test]
fn request_lines_give_the_url_that_was_meant() {
    let plain =
        |path, authority| vec![(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)];
    for (fields, line, expected) in [
        (plain("/a?b", "x:81"), "GET https://x:81/a?b HTTP/2", "https://x:81/a?b"),
        (plain("*", "x"), "GET https://x HTTP/2", "https://x"),
        (
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/a"), ("host", "y")],
            "GET http://y/a HTTP/2",
            "http://y/a",
        ),
        (vec![(":method", "GET"), (":scheme", "http"), (":path", "/a")], "GET /a HTTP/2", "http://127.0.0.1:2/a"),
        (vec![(":method", "CONNECT"), (":authority", "x:443")], "CONNECT x:443 HTTP/2", "http://x:443"),
        // What cannot be meant must not be taken for another host, either.
        (plain("evil.example/x", "x"), "GET https://x/evil.example/x HTTP/2", "https://x/evil.example/x"),
        (plain("/a HTTP/1.1", "x"), "GET https://x/a HTTP/1.1 HTTP/2", "https://x/a%20HTTP/1.1"),
        (plain("/a\r\nhost: y", "x"), "GET https://x/a  host: y HTTP/2", "https://x/a%20%20host:%20y"),
        (
            vec![(":method", "GET /evil"), (":scheme", "http"), (":authority", "x"), (":path", "/")],
            "GET??evil http://x/ HTTP/2",
            "http://x/",
        ),
        (vec![], "  HTTP/2", "http://127.0.0.1:2"),
    ] {
        let exchange = request_of(&fields);
        let head = text(&exchange.request.head);
        assert_eq!((head.lines().next().unwrap(), url::of(&exchange).text.as_str()), (line, expected), "{fields:?}");
    }
}

#[test]
fn the_protocol_of_an_extended_connect_is_a_field_line() {
    let exchange = request_of(&request("CONNECT", &[(":protocol", "websocket"), ("a", "b")]));
    assert_eq!(text(&exchange.request.head), "CONNECT http://x/ HTTP/2\r\n:protocol: websocket\r\na: b\r\n\r\n");
}

#[test]
fn no_name_and_no_value_can_forge_a_line() {
    let exchange =
        request_of(&request("GET", &[("a\r\nb", "c\r\nauthorization: d"), ("x:y\0", "1\r2\n3\u{0}4"), (" z", "")]));
    assert_eq!(
        text(&exchange.request.head),
        "GET http://x/ HTTP/2\r\na??b: c  authorization: d\r\nx?y?: 1 2 3 4\r\n?z: \r\n\r\n"
    );
}

#[test]
fn each_stream_counts_its_own_frames_as_the_target_sees_them() {
    let client = [post(1), get(3), data(1, b"hello"), window(0), window(1), last(1, b"")].concat();
    let server = [respond_ok(3), respond(1, "200"), frame(DATA, PADDED | ES, 1, b"\x02ok\0\0")].concat();
    for direction in [Direction::Inbound, Direction::Outbound] {
        let mut player = Player::new(direction, Limits::default());
        player.show(Side::Client, &[PREFACE, &settings(&[])].concat());
        player.show(Side::Server, &settings(&[]));
        player.show(Side::Client, &client);
        player.show(Side::Server, &server);
        let events = player.finish();
        let counted: Vec<_> = exchanges(&events).iter().map(|exchange| exchange.bytes).collect();
        let expected =
            [(get(3).len(), respond_ok(3).len()), (post(1).len() + 9 + 5 + 13 + 9, respond(1, "200").len() + 9 + 5)]
                .map(|(client, server)| match direction {
                    Direction::Inbound => Bytes { sent: server as u64, received: client as u64 },
                    Direction::Outbound => Bytes { sent: client as u64, received: server as u64 },
                });
        assert_eq!(counted, expected, "{direction:?}");
    }
}

#[test]
fn times_are_counted_from_the_first_byte_of_the_request() {
    let mut player = greeted(Limits::default());
    let mut at = |after: u64, from, bytes: &[u8]| {
        // `show` moves the clock on by ten.
        player.now = ACCEPTED + after - 10;
        player.show(from, bytes);
    };
    let head = post(1);
    at(5_000, Side::Client, &head[..4]);
    at(6_000, Side::Client, &head[4..]);
    at(6_500, Side::Client, &get(3));
    at(7_000, Side::Server, &respond(1, "100"));
    at(8_000, Side::Client, &last(1, b"hello"));
    let answer = respond_ok(1);
    at(9_000, Side::Server, &answer[..1]);
    at(10_000, Side::Server, &answer[1..answer.len() - 1]);
    at(12_000, Side::Server, &answer[answer.len() - 1..]);
    at(13_000, Side::Server, &respond_ok(3));
    let events = player.finish();
    let [first, second] = exchanges(&events)[..] else { unreachable!("two requests") };
    assert_eq!((first.time, second.time), (ACCEPTED + 5_000, ACCEPTED + 6_500));
    assert_eq!((first.timing.connected, second.timing.connected), (Some(0), None));
    assert_eq!((first.timing.request_end, second.timing.request_end), (Some(3_000), Some(0)));
    assert_eq!((first.timing.first_byte, second.timing.first_byte), (Some(4_000), Some(6_500)));
    assert_eq!((first.timing.end, second.timing.end), (Some(7_000), Some(6_500)));
    assert!(first.id < second.id && first.id.milliseconds() == (ACCEPTED + 5_000) / 1000);
}

#[test]
fn a_request_that_upgraded_keeps_its_own_head_and_the_101() {
    let mut player = Player::new(Direction::Inbound, Limits::default());
    let ask = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n";
    player.show(Side::Client, ask);
    player.show(Side::Server, &[switch, &settings(&[])[..]].concat());
    player.show(Side::Client, &[PREFACE, &settings(&[])].concat());
    player.show(Side::Server, &respond_ok(1));
    let events = player.finish();
    let [exchange] = exchanges(&events)[..] else { unreachable!("one exchange") };
    assert_eq!((exchange.protocol, exchange.stream), (Protocol::Http2, Some(1)));
    assert_eq!((&exchange.request.head[..], &exchange.interim[..]), (&ask[..], &switch[..]));
    assert_eq!(text(&exchange.response.as_ref().unwrap().head), "HTTP/2 200 \r\n\r\n");
    assert_eq!(exchange.bytes, Bytes { received: ask.len() as u64, sent: (switch.len() + respond_ok(1).len()) as u64 });
}

#[test]
fn an_exchange_is_written_as_soon_as_it_is_whole() {
    let mut player = greeted(Limits::default());
    player.show(Side::Client, &[get(1), post(3)].concat());
    assert!(player.events.is_empty());
    player.show(Side::Server, &respond_ok(1));
    assert_eq!(player.events.len(), 1);
    player.show(Side::Client, &reset(3, 8));
    assert_eq!(player.events.len(), 2);
}
