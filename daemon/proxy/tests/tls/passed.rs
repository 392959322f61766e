//! What is passed through untouched, and why.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use nodetap_core::exchange::{Outcome, Protocol};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};

use super::harness::*;

/// A client that talks to the server itself: whom it meets must be the real one.
fn meets_the_server(proxy: &Proxy, config: &Arc<ClientConfig>) {
    let mut stream = proxy.tls(config, "site.test");
    assert_eq!(get(&mut stream).unwrap(), "hello");
    goodbye(stream);
    proxy.settle();
}

#[test]
fn a_server_that_does_not_verify_is_left_to_the_clients_own_judgement() {
    let (ours, theirs, trusted) = (Ca::new("ours"), Ca::new("theirs"), Ca::new("trusted"));
    let proxy = Proxy::start(hello_tls(theirs.server(&["http/1.1"])), opening(&ours, &trusted, None));
    let config = Arc::new(client(&theirs, &["http/1.1"]));
    meets_the_server(&proxy, &config);
    meets_the_server(&proxy, &config);
    let left = proxy.finish();
    assert_eq!(left.passed, ["upstream_unverified"; 2]);
    // The first one took a second connection, for the next it was known.
    assert_eq!((left.dialled, left.connections.len()), (3, 2));
    for connection in left.connections {
        assert_eq!((connection.protocol, connection.outcome), (Protocol::Tls, Outcome::Passthrough));
        let tls = connection.tls.unwrap();
        assert_eq!((tls.passthrough.as_deref(), tls.opened), (Some("upstream_unverified"), false));
        assert_eq!((tls.sni.as_deref(), tls.version.as_deref()), (Some("site.test"), Some("1.3")));
        assert!(connection.detail.unwrap().contains("does not verify"));
    }
}

fn with_client_auth(theirs: &Ca, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
    let verifier = WebPkiClientVerifier::builder(Arc::new(theirs.roots())).build().unwrap();
    let (chain, key) = theirs.issue(&["site.test"]);
    ServerConfig::builder_with_protocol_versions(versions)
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&chain), private(&key))
        .unwrap()
}

#[test]
fn a_server_that_wants_a_client_certificate_gets_the_clients_own() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let proxy = Proxy::start(hello_tls(with_client_auth(&theirs, versions)), opening(&ours, &theirs, None));
        let (chain, key) = theirs.issue(&["me"]);
        let config = ClientConfig::builder()
            .with_root_certificates(theirs.roots())
            .with_client_auth_cert(certificates(&chain), private(&key))
            .unwrap();
        meets_the_server(&proxy, &Arc::new(config));
        assert_eq!(proxy.finish().passed, ["client_certificate_wanted"]);
    }
}

#[test]
fn a_server_that_wants_a_client_certificate_is_opened_with_ours() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let identity = Some(theirs.issue(&["us"]));
        let proxy = Proxy::start(hello_tls(with_client_auth(&theirs, versions)), opening(&ours, &theirs, identity));
        let config = Arc::new(client(&ours, &[]));
        meets_the_server(&proxy, &config);
        meets_the_server(&proxy, &config);
        let left = proxy.finish();
        assert_eq!((left.passed.len(), left.exchanges.len()), (0, 2));
    }
}

#[test]
fn a_client_that_refuses_our_certificate_works_from_the_second_connection_on() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let proxy = Proxy::start(hello_tls(theirs.server(&[])), opening(&ours, &theirs, None));
        let builder = ClientConfig::builder_with_protocol_versions(versions);
        let config = Arc::new(builder.with_root_certificates(theirs.roots()).with_no_client_auth());
        assert!(get(&mut proxy.tls(&config, "site.test")).is_err());
        proxy.settle();
        meets_the_server(&proxy, &config);
        meets_the_server(&proxy, &config);
        let left = proxy.finish();
        assert_eq!(left.passed, ["client_rejected"; 2]);
        let [refused, passed @ ..] = &left.connections[..] else { panic!() };
        assert_eq!((refused.protocol, refused.outcome), (Protocol::Tls, Outcome::ClientAborted));
        assert!(refused.detail.as_ref().unwrap().contains("alert 48"), "{:?}", refused.detail);
        for connection in passed {
            assert_eq!(connection.tls.as_ref().unwrap().passthrough.as_deref(), Some("client_rejected"));
        }
    }
}

#[test]
fn a_client_that_leaves_in_silence_works_from_the_third_connection_on() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let proxy = Proxy::start(hello_tls(theirs.server(&[])), opening(&ours, &theirs, None));
    // It trusts our authority, and looks at the certificate only after the handshake.
    let config = Arc::new(client(&ours, &[]));
    for _ in 0..2 {
        let mut stream = proxy.tls(&config, "site.test");
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        drop(stream);
        proxy.settle();
        assert_eq!(proxy.passed(), [""; 0]);
    }
    meets_the_server(&proxy, &Arc::new(client(&theirs, &[])));
    let left = proxy.finish();
    assert_eq!(left.passed, ["client_silent"]);
    let [first, second, third] = &left.connections[..] else { panic!("{:?}", left.connections) };
    for connection in [first, second] {
        assert_eq!((connection.protocol, connection.outcome), (Protocol::Tls, Outcome::ClientAborted));
    }
    assert_eq!(third.tls.as_ref().unwrap().passthrough.as_deref(), Some("client_silent"));
}

#[test]
fn a_client_that_knows_no_signature_of_ours_is_passed_through() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let (chain, key) = theirs.issue_for(&["site.test"], key);
    let proxy = Proxy::start(hello_tls(server(&chain, &key)), opening(&ours, &theirs, None));
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(theirs.roots())
        .with_no_client_auth();
    meets_the_server(&proxy, &Arc::new(config));
    assert_eq!(proxy.finish().passed, ["client_unsupported"]);
}

#[test]
fn what_is_no_tls_is_tunnelled_as_ever() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let proxy = Proxy::start(serve(hello), opening(&ours, &theirs, None));
    let mut stream = proxy.connect();
    assert_eq!(get(&mut stream).unwrap(), "hello");
    drop(stream);
    let left = proxy.finish();
    assert_eq!((left.exchanges.len(), left.passed.len(), left.dialled), (1, 0, 1));
    let greeting = serve(|mut stream| stream.write_all(b"220 ready\r\n").unwrap());
    let proxy = Proxy::start(greeting, opening(&ours, &theirs, None));
    let mut text = String::new();
    proxy.connect().read_to_string(&mut text).unwrap();
    assert_eq!(text, "220 ready\r\n");
    assert_eq!(proxy.finish().passed.len(), 0);
}

#[test]
fn a_hello_that_ends_in_the_middle_is_sent_on_as_it_is() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let echo = serve(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let proxy = Proxy::start(echo, opening(&ours, &theirs, None));
    for bytes in [&[22, 3, 1, 2, 0, 1, 0][..], &[22, 3, 1, 0, 0], &[22], b""] {
        let mut stream = proxy.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert_eq!(back, bytes);
    }
    let left = proxy.finish();
    assert_eq!((left.passed.len(), left.connections.len()), (3, 4));
    assert!(left.passed.iter().all(|reason| *reason == "hello_unreadable"));
}

#[test]
fn a_hello_may_be_cut_anywhere() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let proxy = Proxy::start(hello_tls(theirs.server(&[])), opening(&ours, &theirs, None));
    // A short one, without post-quantum keys.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ours.roots())
        .with_no_client_auth();
    let config = Arc::new(config);
    let mut count = 0;
    for cut in 1.. {
        let mut stream = proxy.tls(&config, "site.test");
        let mut first = Vec::new();
        stream.conn.write_tls(&mut first).unwrap();
        let Some((head, tail)) = first.split_at_checked(cut) else { break };
        stream.sock.write_all(head).unwrap();
        stream.sock.write_all(tail).unwrap();
        assert_eq!(get(&mut stream).unwrap(), "hello");
        goodbye(stream);
        count += 1;
    }
    assert!(count > 200, "{count}");
    let left = proxy.finish();
    assert_eq!((left.passed.len(), left.exchanges.len()), (0, count));
}

#[test]
fn curl_with_a_pinned_key_works_from_the_third_connection_on() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let key = rcgen::KeyPair::generate().unwrap();
    let pin = key.public_key_pem();
    let (chain, key) = theirs.issue_for(&["site.test"], key);
    let proxy = Proxy::start(hello_tls(server(&chain, &key)), opening(&ours, &theirs, None));
    let folder = std::env::temp_dir().join(format!("nodetap-pinned-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("pin"), pin).unwrap();
    std::fs::write(folder.join("roots"), [&*ours.pem, &*theirs.pem].concat()).unwrap();
    let (port, mut bodies) = (proxy.address.port(), Vec::new());
    for _ in 0..4 {
        let mut curl = Command::new("curl");
        curl.args(["-q", "-s", "--noproxy", "*", "--resolve", &format!("site.test:{port}:127.0.0.1")]);
        curl.arg("--cacert").arg(folder.join("roots")).arg("--pinnedpubkey").arg(folder.join("pin"));
        let Ok(output) = curl.arg(format!("https://site.test:{port}/")).output() else {
            return eprintln!("not run: there is no curl here");
        };
        bodies.push(String::from_utf8(output.stdout).unwrap());
        proxy.settle();
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(bodies, ["", "", "hello", "hello"]);
    assert_eq!(proxy.finish().passed, ["client_silent"; 2]);
}

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_that_speaks_tls_1_1_only_is_passed_through() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let folder = std::env::temp_dir().join(format!("nodetap-tls11-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (chain, key) = theirs.issue(&["site.test"]);
    for (name, text) in [("chain", &chain), ("key", &key), ("ca", &theirs.pem)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let address = listen().local_addr().unwrap();
    let mut server = Command::new("openssl");
    server.args(["s_server", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-www", "-accept", &address.to_string()]);
    server.arg("-cert").arg(folder.join("chain")).arg("-key").arg(folder.join("key"));
    let Ok(server) = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        return eprintln!("not run: there is no openssl here");
    };
    let _server = Process(server);
    wait_for(address);
    let proxy = Proxy::start(address, opening(&ours, &theirs, None));
    for _ in 0..2 {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-servername", "site.test", "-brief"]);
        client.args(["-verify_return_error", "-ign_eof", "-connect", &proxy.address.to_string()]);
        client.arg("-CAfile").arg(folder.join("ca"));
        let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        client.stdin.take().unwrap().write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("200 ok"), "{output:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let left = proxy.finish();
    assert_eq!(left.passed, ["upstream_unsupported"; 2]);
    assert_eq!(left.connections[0].tls.as_ref().unwrap().version.as_deref(), Some("1.1"));
}

fn wait_for(address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "openssl does not listen");
        std::thread::yield_now();
    }
}
