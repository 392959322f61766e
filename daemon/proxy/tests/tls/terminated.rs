//! TLS that ends here, with the user's own certificate.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use nodetap_core::exchange::{Outcome, Protocol};
use nodetap_proxy::tls::{Inbound, Pair, Policy, Upstream};

use super::harness::*;

fn pair(ca: &Ca, names: &[&str]) -> Pair {
    let (chain, key) = ca.issue(names);
    Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
}

fn inbound(ca: &Ca, upstream: Upstream) -> Arc<Inbound> {
    Arc::new(Inbound::new(pair(ca, &["site.test"]), upstream).unwrap())
}

#[test]
fn a_plain_application_is_served_over_tls_and_recorded() {
    let ca = Ca::new("the user's");
    let proxy = Proxy::start(serve(hello), Policy::Terminate(inbound(&ca, Upstream::Plain)));
    let mut stream = proxy.tls(&Arc::new(client(&ca, &["h2", "http/1.1"])), "site.test");
    assert_eq!(get(&mut stream).unwrap(), "hello");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    goodbye(stream);
    let left = proxy.finish();
    let exchange = &left.exchanges[0];
    assert_eq!((exchange.outcome, left.connections.len()), (Outcome::Complete, 0));
    assert!(exchange.tls.as_ref().unwrap().opened);
}

#[test]
fn a_plain_application_gets_http_1_1_unless_it_speaks_h2c_or_nothing_else_is_offered() {
    let ca = Ca::new("the user's");
    let cases: [(&[&str], Upstream, Option<&str>); 6] = [
        (&["h2", "http/1.1"], Upstream::Plain, Some("http/1.1")),
        (&["h2"], Upstream::Plain, Some("h2")),
        (&["foo"], Upstream::Plain, None),
        (&[], Upstream::Plain, None),
        (&["http/1.1", "h2"], Upstream::PlainH2c, Some("h2")),
        (&["http/1.1"], Upstream::PlainH2c, Some("http/1.1")),
    ];
    for (offered, upstream, chosen) in cases {
        let proxy = Proxy::start(serve(hello), Policy::Terminate(inbound(&ca, upstream)));
        let mut stream = proxy.tls(&Arc::new(client(&ca, offered)), "site.test");
        assert_eq!(get(&mut stream).unwrap(), "hello");
        assert_eq!(stream.conn.alpn_protocol(), chosen.map(str::as_bytes));
        goodbye(stream);
        proxy.finish();
    }
}

#[test]
fn an_application_with_tls_chooses_the_protocol() {
    let (ca, inner) = (Ca::new("the user's"), Ca::new("the application's"));
    for roots in [None, Some(inner.roots())] {
        let address = hello_tls(inner.server(&["x", "http/1.1"]));
        let upstream = Upstream::Tls { roots, identity: None };
        let proxy = Proxy::start(address, Policy::Terminate(inbound(&ca, upstream)));
        let mut stream = proxy.tls(&Arc::new(client(&ca, &["http/1.1", "x"])), "site.test");
        assert_eq!(get(&mut stream).unwrap(), "hello");
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"x"[..]));
        goodbye(stream);
        assert_eq!(proxy.finish().exchanges.len(), 1);
    }
}

#[test]
fn an_application_that_does_not_verify_is_not_spoken_to() {
    let (ca, inner) = (Ca::new("the user's"), Ca::new("the application's"));
    let upstream = Upstream::Tls { roots: Some(ca.roots()), identity: None };
    let proxy = Proxy::start(hello_tls(inner.server(&[])), Policy::Terminate(inbound(&ca, upstream)));
    assert!(get(&mut proxy.tls(&Arc::new(client(&ca, &[])), "site.test")).is_err());
    let left = proxy.finish();
    assert_eq!((left.connections[0].outcome, left.connections[0].protocol), (Outcome::ServerAborted, Protocol::Tls));
}

#[test]
fn a_renewed_pair_is_shown_from_the_next_connection_on() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let inbound = inbound(&old, Upstream::Plain);
    let proxy = Proxy::start(serve(hello), Policy::Terminate(Arc::clone(&inbound)));
    let (trusts_old, trusts_new) = (Arc::new(client(&old, &[])), Arc::new(client(&new, &[])));
    let mut open = proxy.tls(&trusts_old, "site.test");
    assert_eq!(get(&mut open).unwrap(), "hello");
    inbound.reload(pair(&new, &["site.test"]));
    let mut stream = proxy.tls(&trusts_new, "site.test");
    assert_eq!(get(&mut stream).unwrap(), "hello");
    goodbye(stream);
    // The old connection goes on.
    assert_eq!(get(&mut open).unwrap(), "hello");
    goodbye(open);
    proxy.finish();
}

#[test]
fn what_is_no_hello_is_closed_with_a_record() {
    let ca = Ca::new("the user's");
    let cases: [(&[u8], Outcome); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", Outcome::Malformed),
        (&[22, 3, 1, 0, 0], Outcome::Malformed),
        (&[22, 3, 1, 1, 0, 1, 0], Outcome::ClientAborted),
        (b"", Outcome::ClientAborted),
    ];
    for (bytes, outcome) in cases {
        let proxy = Proxy::start(serve(hello), Policy::Terminate(inbound(&ca, Upstream::Plain)));
        let mut stream = proxy.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        let left = proxy.finish();
        assert_eq!((left.connections.len(), left.connections[0].outcome), (1, outcome), "{bytes:?}");
    }
}

#[test]
fn a_hello_that_cannot_be_answered_gets_an_alert() {
    let ca = Ca::new("the user's");
    let proxy = Proxy::start(serve(hello), Policy::Terminate(inbound(&ca, Upstream::Plain)));
    // TLS 1.0 without extensions.
    let body = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 47], &[1, 0]].concat();
    let hello = [&[22, 3, 1, 0, 45, 1, 0, 0, 41][..], &body].concat();
    let mut stream = proxy.connect();
    stream.write_all(&hello).unwrap();
    let mut alert = [0; 7];
    stream.read_exact(&mut alert).unwrap();
    assert_eq!((alert[0], alert[5]), (21, 2));
    drop(stream);
    let left = proxy.finish();
    assert_eq!((left.connections[0].outcome, left.connections[0].protocol), (Outcome::Malformed, Protocol::Tls));
}
