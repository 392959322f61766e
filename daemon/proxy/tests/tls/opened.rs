//! What is opened: the record, what client and server see of each other, big and odd traffic.

use std::io::{Read, Write};
use std::sync::{Arc, Barrier, Mutex};

use nodetap_core::exchange::{Outcome, Protocol};
use rustls::client::{EchGreaseConfig, EchMode};
use rustls::server::Acceptor;
use rustls::{HandshakeKind, ServerConnection};

use super::harness::*;

#[test]
fn an_https_exchange_is_recorded_with_its_plaintext() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let proxy = Proxy::start(hello_tls(theirs.server(&["http/1.1"])), opening(&ours, &theirs, None));
    let config = Arc::new(client(&ours, &["h2", "http/1.1"]));
    let mut stream = proxy.tls(&config, "site.test");
    assert_eq!(get(&mut stream).unwrap(), "hello");
    assert_eq!(get(&mut stream).unwrap(), "hello");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    goodbye(stream);
    let left = proxy.finish();
    assert_eq!((left.exchanges.len(), left.connections.len(), left.dialled), (2, 0, 1));
    let exchange = &left.exchanges[0];
    assert_eq!((exchange.protocol, exchange.outcome), (Protocol::Http11, Outcome::Complete));
    assert_eq!(exchange.response.as_ref().unwrap().body.kept, b"hello");
    let tls = exchange.tls.as_ref().unwrap();
    assert!(tls.opened);
    assert_eq!((tls.version.as_deref(), tls.sni.as_deref()), (Some("1.3"), Some("site.test")));
    assert_eq!((&tls.offered_alpn[..], tls.alpn.as_deref()), (&["h2".into(), "http/1.1".into()][..], Some("http/1.1")));
    assert_eq!(tls.passthrough, None);
}

#[test]
fn a_client_without_a_server_name_gets_a_certificate_for_the_address() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let proxy = Proxy::start(hello_tls(theirs.server(&[])), opening(&ours, &theirs, None));
    let mut stream = proxy.tls(&Arc::new(client(&ours, &[])), "127.0.0.1");
    assert_eq!(get(&mut stream).unwrap(), "hello");
    goodbye(stream);
    let left = proxy.finish();
    assert_eq!(left.exchanges[0].tls.as_ref().unwrap().sni, None);
}

/// A server that notes what it is offered.
fn noting(config: rustls::ServerConfig) -> (std::net::SocketAddr, Arc<Mutex<Vec<Vec<String>>>>) {
    let (seen, config) = (Arc::new(Mutex::new(Vec::new())), Arc::new(config));
    let notes = Arc::clone(&seen);
    let address = serve(move |mut stream| {
        let mut acceptor = Acceptor::default();
        let accepted = loop {
            acceptor.read_tls(&mut stream).unwrap();
            if let Some(accepted) = acceptor.accept().unwrap_or_else(|(error, _)| panic!("{error}")) {
                break accepted;
            }
        };
        let hello = accepted.client_hello();
        let alpn = hello.alpn().into_iter().flatten().map(|name| String::from_utf8(name.to_vec()).unwrap());
        let mut offered = vec![hello.server_name().unwrap_or_default().to_owned()];
        offered.extend(alpn);
        notes.lock().unwrap().push(offered);
        let mut stream = rustls::StreamOwned::new(accepted.into_connection(Arc::clone(&config)).unwrap(), stream);
        hello_once(&mut stream);
        goodbye_server(stream);
    });
    (address, seen)
}

fn hello_once(stream: &mut (impl Read + Write)) {
    if read_head(stream).is_ok() {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
        stream.flush().unwrap();
    }
}

#[test]
fn the_server_is_offered_what_the_client_offers_and_its_choice_is_the_clients() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    // (offered, the server's own, chosen)
    let cases: [(&[&str], &[&str], Option<&str>); 5] = [
        (&["h2", "http/1.1"], &["http/1.1"], Some("http/1.1")),
        (&["x-unknown", "h3", "http/1.1"], &["h3"], Some("h3")),
        (&["x-unknown"], &["x-unknown"], Some("x-unknown")),
        (&["h2"], &[], None),
        (&[], &["h2"], None),
    ];
    for (offered, own, chosen) in cases {
        let (address, seen) = noting(theirs.server(own));
        let proxy = Proxy::start(address, opening(&ours, &theirs, None));
        let mut stream = proxy.tls(&Arc::new(client(&ours, offered)), "site.test");
        assert_eq!(get(&mut stream).unwrap(), "hello");
        assert_eq!(stream.conn.alpn_protocol(), chosen.map(str::as_bytes));
        goodbye(stream);
        let expected: Vec<_> = std::iter::once("site.test").chain(offered.iter().copied()).collect();
        assert_eq!(seen.lock().unwrap()[..], [expected]);
        let left = proxy.finish();
        assert_eq!(left.exchanges[0].tls.as_ref().unwrap().alpn.as_deref(), chosen);
    }
}

#[test]
fn sessions_are_resumed_for_their_own_name_only() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let proxy = Proxy::start(hello_tls(theirs.server(&[])), opening(&ours, &theirs, None));
        let builder = rustls::ClientConfig::builder_with_protocol_versions(versions);
        let config = Arc::new(builder.with_root_certificates(ours.roots()).with_no_client_auth());
        let kind = |name: &str| {
            let mut stream = proxy.tls(&config, name);
            assert_eq!(get(&mut stream).unwrap(), "hello");
            let kind = stream.conn.handshake_kind().unwrap();
            goodbye(stream);
            kind
        };
        assert_ne!(kind("site.test"), HandshakeKind::Resumed);
        assert_eq!(kind("site.test"), HandshakeKind::Resumed);
        assert_ne!(kind("other.test"), HandshakeKind::Resumed);
        proxy.finish();
    }
}

#[test]
fn sixteen_sessions_that_begin_at_once_are_resumed_with_the_server() {
    const AT_ONCE: usize = 16;
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let (settings, all_asked) = (Arc::new(theirs.server(&[])), Barrier::new(AT_ONCE));
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&kinds);
    let address = serve(move |stream| {
        // Nobody is given a ticket before everybody has used one.
        stream.peek(&mut [0]).unwrap();
        all_asked.wait();
        let mut stream = Server::new(ServerConnection::new(Arc::clone(&settings)).unwrap(), stream);
        hello(&mut stream);
        seen.lock().unwrap().push(stream.conn.handshake_kind().unwrap());
        goodbye_server(stream);
    });
    let proxy = Proxy::start(address, opening(&ours, &theirs, None));
    let config = Arc::new(client(&ours, &[]));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    let mut stream = proxy.tls(&config, "site.test");
                    assert_eq!(get(&mut stream).unwrap(), "hello");
                    goodbye(stream);
                });
            }
        });
        proxy.settle();
        assert_eq!(std::mem::take(&mut *kinds.lock().unwrap()), [kind; AT_ONCE]);
    }
    proxy.finish();
}

#[test]
fn a_client_that_greases_ech_is_opened_like_any_other() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let proxy = Proxy::start(hello_tls(theirs.server(&[])), opening(&ours, &theirs, None));
    let suite = rustls::crypto::aws_lc_rs::hpke::ALL_SUPPORTED_SUITES[0];
    let (key, _) = suite.generate_key_pair().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_ech(EchMode::Grease(EchGreaseConfig::new(suite, key)))
        .unwrap()
        .with_root_certificates(ours.roots())
        .with_no_client_auth();
    let mut stream = proxy.tls(&Arc::new(config), "site.test");
    assert_eq!(get(&mut stream).unwrap(), "hello");
    goodbye(stream);
    assert!(proxy.finish().exchanges[0].tls.as_ref().unwrap().opened);
}

#[test]
fn a_server_that_speaks_first_inside_tls_is_heard() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let address = serve_tls(theirs.server(&[]), |mut stream| {
        stream.write_all(b"220 ready\r\n").unwrap();
        stream.flush().unwrap();
        let mut line = [0; 6];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"QUIT\r\n");
        goodbye_server(stream);
    });
    let proxy = Proxy::start(address, opening(&ours, &theirs, None));
    let mut stream = proxy.tls(&Arc::new(client(&ours, &[])), "site.test");
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    stream.write_all(b"QUIT\r\n").unwrap();
    goodbye(stream);
    assert_eq!(proxy.finish().passed, [""; 0]);
}

/// Bytes that are not the same anywhere.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state & 0xff).unwrap()
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn big_transfers_arrive_whole_in_either_direction_while_keys_change() {
    const COUNT: usize = 6 * 1024 * 1024;
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    // First up, then down; the other way round on the second connection; lengths that fit no record.
    let address = serve_tls(theirs.server(&[]), |mut stream| {
        let mut order = [0];
        stream.read_exact(&mut order).unwrap();
        let mut got = vec![0; COUNT + 1];
        if order == *b"u" {
            stream.read_exact(&mut got).unwrap();
            assert!(got == noise(1, COUNT + 1));
        }
        // Keys change in the middle of the answer.
        let answer = noise(2, COUNT + 7);
        let (first, second) = answer.split_at(COUNT / 3);
        stream.write_all(first).unwrap();
        let _ = stream.conn.refresh_traffic_keys();
        stream.write_all(second).unwrap();
        stream.flush().unwrap();
        if order == *b"d" {
            stream.read_exact(&mut got).unwrap();
            assert!(got == noise(1, COUNT + 1));
        }
        goodbye_server(stream);
    });
    let proxy = Proxy::start(address, opening(&ours, &theirs, None));
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let builder = rustls::ClientConfig::builder_with_protocol_versions(versions);
        let config = Arc::new(builder.with_root_certificates(ours.roots()).with_no_client_auth());
        for order in [b"u", b"d"] {
            let mut stream = proxy.tls(&config, "site.test");
            stream.write_all(order).unwrap();
            let mut got = vec![0; COUNT + 7];
            if order == b"d" {
                stream.read_exact(&mut got).unwrap();
            }
            let upload = noise(1, COUNT + 1);
            stream.write_all(&upload[..COUNT / 2]).unwrap();
            let _ = stream.conn.refresh_traffic_keys();
            stream.write_all(&upload[COUNT / 2..]).unwrap();
            stream.flush().unwrap();
            if order == b"u" {
                stream.read_exact(&mut got).unwrap();
            }
            assert!(got == noise(2, COUNT + 7));
            goodbye(stream);
        }
    }
    let left = proxy.finish();
    assert_eq!(left.connections.len(), 4);
    for connection in left.connections {
        let (up, down) = (COUNT + 2, COUNT + 7);
        assert_eq!((connection.bytes.sent, connection.bytes.received), (up as u64, down as u64));
    }
}

#[test]
fn both_directions_are_busy_at_once() {
    const PIECE: usize = 16_000;
    const AHEAD: usize = 12;
    const COUNT: usize = 300;
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let address = serve_tls(theirs.server(&[]), |mut stream| {
        let mut piece = vec![0; 3 * PIECE];
        loop {
            match stream.read(&mut piece).unwrap() {
                0 => break,
                count => stream.write_all(&piece[..count]).unwrap(),
            }
        }
        goodbye_server(stream);
    });
    let proxy = Proxy::start(address, opening(&ours, &theirs, None));
    let mut stream = proxy.tls(&Arc::new(client(&ours, &[])), "site.test");
    let mut back = vec![0; PIECE];
    for index in 0..COUNT + AHEAD {
        if index < COUNT {
            stream.write_all(&noise(index as u64, PIECE)).unwrap();
        }
        if let Some(echoed) = index.checked_sub(AHEAD) {
            stream.read_exact(&mut back).unwrap();
            assert!(back == noise(echoed as u64, PIECE), "piece {echoed}");
        }
    }
    goodbye(stream);
    let left = proxy.finish();
    let total = (COUNT * PIECE) as u64;
    assert_eq!((left.connections[0].bytes.sent, left.connections[0].bytes.received), (total, total));
}
