//! What is read of a TLS handshake.

use nodetap_core::exchange::{Direction, Event, Outcome, Protocol, TlsFacts};
use nodetap_proxy::tap::{Limits, Side};

use crate::drive::{Dice, Player, summaries, timeless};

/// Bytes behind their length, which takes `size` bytes.
fn vector(size: usize, bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_be_bytes()[8 - size..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, data)].concat()
}

fn server_name(name: &str) -> Vec<u8> {
    extension(0, &vector(2, &[&[0][..], &vector(2, name.as_bytes())].concat()))
}

fn alpn(names: &[&str]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|name| vector(1, name.as_bytes())).collect();
    extension(16, &vector(2, &names))
}

fn client_hello(extensions: &[u8]) -> Vec<u8> {
    let body =
        [&[3, 3][..], &[7; 32], &vector(1, &[1; 32]), &vector(2, &[0x13, 1]), &vector(1, &[0]), &vector(2, extensions)];
    [&[1][..], &vector(3, &body.concat())].concat()
}

fn server_hello(version: [u8; 2], extensions: Option<&[u8]>) -> Vec<u8> {
    let extensions = extensions.map(|bytes| vector(2, bytes)).unwrap_or_default();
    let body = [&version[..], &[7; 32], &vector(1, &[]), &[0x13, 1, 0], &extensions];
    [&[2][..], &vector(3, &body.concat())].concat()
}

/// A handshake message in records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &vector(2, part)].concat()).collect()
}

fn play(client: &[u8], server: &[u8], piece: usize) -> Vec<Event> {
    let mut player = Player::new(Direction::Outbound, Limits::default());
    client.chunks(piece).for_each(|bytes| player.show(Side::Client, bytes));
    server.chunks(piece).for_each(|bytes| player.show(Side::Server, bytes));
    timeless(player.finish())
}

/// The facts, which must not depend on how the bytes are cut, and the detail.
fn read(client: &[u8], server: &[u8]) -> (TlsFacts, String) {
    let whole = play(client, server, usize::MAX);
    for piece in 1..60 {
        assert_eq!(play(client, server, piece), whole, "in pieces of {piece}");
    }
    let [summary] = summaries(&whole)[..] else { unreachable!("one summary") };
    assert_eq!((summary.protocol, summary.outcome), (Protocol::Tls, Outcome::Passthrough));
    assert_eq!(summary.bytes.sent + summary.bytes.received, (client.len() + server.len()) as u64);
    assert!(summary.tls.is_some() && summary.detail.is_some());
    (summary.tls.clone().unwrap_or_default(), summary.detail.clone().unwrap_or_default().into_owned())
}

#[test]
fn a_handshake_of_tls_1_3_tells_name_and_offer_but_not_what_was_picked() {
    let hello =
        client_hello(&[extension(10, &[0, 2, 0, 29]), server_name("web.shop"), alpn(&["h2", "http/1.1"])].concat());
    let answer = server_hello([3, 3], Some(&[extension(51, &[0; 36]), extension(43, &[3, 4])].concat()));
    let (facts, detail) = read(&records(&hello, 16384), &[records(&answer, 16384), vec![23, 3, 3, 0, 1, 0]].concat());
    let expected = TlsFacts {
        version: Some("1.3".to_owned()),
        sni: Some("web.shop".to_owned()),
        offered_alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
        alpn: None,
        opened: false,
        passthrough: None,
    };
    assert_eq!((facts, detail.as_str()), (expected, "TLS that was not opened."));
}

#[test]
fn a_handshake_of_tls_1_2_tells_what_was_picked() {
    let answer = server_hello([3, 3], Some(&alpn(&["http/1.1"])));
    let (facts, _) = read(&records(&client_hello(&alpn(&["http/1.1"])), 16384), &records(&answer, 16384));
    assert_eq!((facts.version.as_deref(), facts.alpn.as_deref()), (Some("1.2"), Some("http/1.1")));
    for (version, name) in [([3, 0], "ssl3"), ([3, 1], "1.0"), ([3, 2], "1.1"), ([0x7f, 0x1c], "0x7f1c")] {
        let (facts, _) = read(&records(&client_hello(&[]), 16384), &records(&server_hello(version, None), 16384));
        assert_eq!(facts.version.as_deref(), Some(name));
    }
}

#[test]
fn hellos_may_be_spread_over_many_records() {
    let hello = client_hello(&[extension(21, &[0; 3000]), server_name("spread.example"), alpn(&["h2"])].concat());
    for size in [1, 2, 3, 5, 100, 1399] {
        let (facts, _) = read(&records(&hello, size), &records(&server_hello([3, 3], None), size));
        assert_eq!((facts.sni.as_deref(), facts.version.as_deref()), (Some("spread.example"), Some("1.2")), "{size}");
    }
}

#[test]
fn an_alert_instead_of_an_answer_is_named() {
    let hello = records(&client_hello(&server_name("x")), 16384);
    for (code, name) in [(112, "alert unrecognized_name"), (99, "alert 99")] {
        let (facts, detail) = read(&hello, &[21, 3, 3, 0, 2, 2, code]);
        assert_eq!((facts.version, facts.sni.as_deref()), (None, Some("x")));
        assert!(detail.contains(name), "{detail}");
    }
}

#[test]
fn what_cannot_be_read_leaves_its_fact_absent() {
    let hello = client_hello(&server_name("x"));
    for (client, server) in [
        (records(&hello[..20], 16384), Vec::new()),
        ([records(&hello[..20], 16384), vec![23, 3, 3, 0, 1, 0]].concat(), b"HTTP/1.1 400 Bad\r\n\r\n".to_vec()),
        (vec![22, 3, 1, 0, 0], Vec::new()),
        ([vec![22, 3, 1, 0, 4, 1, 255, 255, 255], vec![0; 5000]].concat(), vec![21, 3, 3, 0, 3, 1, 2, 3]),
        (records(&client_hello(&[0, 0, 0, 9, 0, 200, 0, 0, 5]), 16384), records(&[2, 0, 0, 1, 3], 16384)),
    ] {
        assert_eq!(read(&client, &server).0, TlsFacts::default());
    }
}

#[test]
fn the_tap_wants_no_byte_behind_the_hellos() {
    let mut player = Player::new(Direction::Outbound, Limits::default());
    player.show(Side::Client, &records(&client_hello(&[]), 50));
    assert!(!player.tap.wants(Side::Client) && player.tap.wants(Side::Server));
    player.show(Side::Server, &records(&server_hello([3, 3], None), 50));
    assert!(!player.tap.wants(Side::Server));
}

#[test]
fn damaged_handshakes_neither_panic_nor_depend_on_how_they_are_cut() {
    let hello = records(&client_hello(&[server_name("web.shop"), alpn(&["h2"])].concat()), 40);
    let answer = records(&server_hello([3, 3], Some(&alpn(&["h2"]))), 30);
    for round in 1..=20_000 {
        let mut dice = Dice(round);
        let (mut client, mut server) = (hello.clone(), answer.clone());
        for _ in 0..=dice.roll(3) {
            let bytes = if dice.roll(2) == 0 { &mut client } else { &mut server };
            let at = dice.roll(bytes.len().max(1));
            match dice.roll(3) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), 0),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.roll(8)),
            }
        }
        let piece = dice.roll(50) + 1;
        assert_eq!(play(&client, &server, usize::MAX), play(&client, &server, piece), "round {round}");
    }
}
