//! What goes to a client with what, and with which cipher: a connection costs as little as it can.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;

use nodetap_proxy::tls::{Inbound, Pair, Policy, Upstream};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConfig, ClientConnection, version};

use super::harness::*;

fn terminating(ca: &Ca, upstream: SocketAddr) -> Proxy {
    let (chain, key) = ca.issue(&["site.test"]);
    let pair = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    Proxy::start(upstream, Policy::Terminate(Arc::new(Inbound::new(pair, Upstream::Plain).unwrap())))
}

/// Shakes hands until nothing but the client's own last flight is left to be sent.
fn until_finished(proxy: &Proxy, config: &Arc<ClientConfig>) -> (ClientConnection, TcpStream) {
    let name = ServerName::try_from("site.test").unwrap();
    let (mut session, mut socket) = (ClientConnection::new(Arc::clone(config), name).unwrap(), proxy.connect());
    while session.is_handshaking() {
        while session.wants_write() {
            session.write_tls(&mut socket).unwrap();
        }
        session.read_tls(&mut socket).unwrap();
        session.process_new_packets().unwrap();
    }
    (session, socket)
}

/// Sends all that it has to send in one piece.
fn send(session: &mut ClientConnection, socket: &mut TcpStream) {
    let mut flight = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut flight).unwrap();
    }
    socket.write_all(&flight).unwrap();
}

#[test]
fn a_client_that_has_asked_already_gets_its_tickets_with_the_answer() {
    let ca = Ca::new("the user's");
    let (asked, hear) = channel();
    let (answer, answers) = channel::<()>();
    let answers = std::sync::Mutex::new(answers);
    let proxy = terminating(
        &ca,
        serve(move |mut stream| {
            asked.send(read_head(&mut stream).unwrap()).unwrap();
            answers.lock().unwrap().recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
        }),
    );
    let (mut session, mut socket) = until_finished(&proxy, &Arc::new(client(&ca, &[])));
    session.writer().write_all(b"GET / HTTP/1.1\r\nhost: site.test\r\n\r\n").unwrap();
    send(&mut session, &mut socket);
    assert!(hear.recv_timeout(PATIENCE).unwrap().starts_with("GET / "));
    socket.set_nonblocking(true).unwrap();
    assert_eq!(socket.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    socket.set_nonblocking(false).unwrap();
    answer.send(()).unwrap();
    let mut stream = Client::new(session, socket);
    assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200"));
    stream.read_exact(&mut [0; 5]).unwrap();
    assert!(stream.conn.tls13_tickets_received() > 0);
    goodbye(stream);
    proxy.finish();
}

#[test]
fn a_client_that_has_not_asked_yet_gets_its_tickets_at_once() {
    let ca = Ca::new("the user's");
    let proxy = terminating(&ca, serve(hello));
    let (mut session, mut socket) = until_finished(&proxy, &Arc::new(client(&ca, &[])));
    send(&mut session, &mut socket);
    session.read_tls(&mut socket).unwrap();
    session.process_new_packets().unwrap();
    assert!(session.tls13_tickets_received() > 0);
    let mut stream = Client::new(session, socket);
    assert_eq!(get(&mut stream).unwrap(), "hello");
    goodbye(stream);
    proxy.finish();
}

#[test]
fn aes_128_is_chosen_of_what_a_client_offers_and_else_what_it_has() {
    let ca = Ca::new("the user's");
    let aes_256 = CipherSuite::TLS13_AES_256_GCM_SHA384;
    let cha_cha = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
    let cases = [
        (&version::TLS13, None, CipherSuite::TLS13_AES_128_GCM_SHA256),
        (&version::TLS12, None, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (&version::TLS13, Some(aes_256), aes_256),
        (&version::TLS13, Some(cha_cha), cha_cha),
    ];
    for (version, only, chosen) in cases {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| only.is_none_or(|only| suite.suite() == only));
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(ca.roots())
            .with_no_client_auth();
        let proxy = terminating(&ca, serve(hello));
        let mut stream = proxy.tls(&Arc::new(config), "site.test");
        assert_eq!(get(&mut stream).unwrap(), "hello");
        assert_eq!(stream.conn.negotiated_cipher_suite().unwrap().suite(), chosen);
        goodbye(stream);
        proxy.finish();
    }
}
