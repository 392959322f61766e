//! CONNECT and SOCKS by raw socket: what is answered, that it is answered late enough, and that the tunnel behind it
//! changes nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use nodetap_tests::client::{Ending, connect, drain};
use nodetap_tests::http::read_head;
use nodetap_tests::proxy::Proxy;
use nodetap_tests::server::{Server, answer};
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::Value;

fn echo() -> Server {
    Server::start("127.0.0.1:0", |mut stream| {
        let mut writing = stream.try_clone().unwrap();
        drop(std::io::copy(&mut stream, &mut writing));
        drop(writing.shutdown(Shutdown::Write));
    })
    .unwrap()
}

fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn port(address: SocketAddr) -> [u8; 2] {
    address.port().to_be_bytes()
}

fn socks4(to: SocketAddr) -> Vec<u8> {
    [&[4, 1][..], &port(to), &[127, 0, 0, 1], b"user\0"].concat()
}

fn socks4a(name: &str, to: SocketAddr) -> Vec<u8> {
    [&[4, 1][..], &port(to), &[0, 0, 0, 1], b"\0", name.as_bytes(), b"\0"].concat()
}

fn socks5(to: SocketAddr) -> Vec<u8> {
    [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port(to)].concat()
}

fn socks5_name(name: &str, to: SocketAddr) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[5, 1, 0, 3, length][..], name.as_bytes(), &port(to)].concat()
}

fn connect_head(to: impl std::fmt::Display) -> Vec<u8> {
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nProxy-Authorization: Basic s3cret\r\n\r\n").into_bytes()
}

fn exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Says `hello` and `optimistic` at once, and must read `reply` and then the echo of what it hoped for.
fn tunnelled(proxy: &Proxy, hello: &[u8], reply: usize) -> Vec<u8> {
    let mut stream = connect(proxy.address()).unwrap();
    stream.write_all(&[hello, b"optimistic"].concat()).unwrap();
    let said = exactly(&mut stream, reply);
    assert_eq!(exactly(&mut stream, 10), b"optimistic");
    stream.write_all(b"more").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(drain(&mut stream).unwrap(), (b"more".to_vec(), Ending::Closed));
    said
}

fn one_record(proxy: &mut Proxy) -> Value {
    let mut records = proxy.records().unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

fn assert_record(record: &Value, via: &str, server: SocketAddr) {
    assert_eq!((&record["via"], &record["direction"]), (&via.into(), &"outbound".into()), "{record}");
    let expected = (&server.ip().to_string().into(), &server.port().into());
    assert_eq!((&record["server"]["address"], &record["server"]["port"]), expected, "{record}");
    assert!(!record.to_string().contains("s3cret"), "{record}");
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

#[test]
fn a_connect_becomes_a_tunnel_and_loses_nothing_that_was_sent_in_hope() {
    let server = echo();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let said = tunnelled(&proxy, &connect_head(server.address()), ESTABLISHED.len());
    assert_eq!(said, ESTABLISHED);
    assert_record(&one_record(&mut proxy), "forward-connect", server.address());
}

#[test]
fn socks_4_and_4a_become_a_tunnel() {
    let server = echo();
    for hello in [socks4(server.address()), socks4a("localhost", server.address())] {
        let mut proxy = Proxy::forward(&[]).unwrap();
        let said = tunnelled(&proxy, &hello, 8);
        assert_eq!((&said[..2], &said[4..]), (&[0, 0x5a][..], &[127, 0, 0, 1][..]), "{said:?}");
        assert_record(&one_record(&mut proxy), "forward-socks4", server.address());
    }
}

#[test]
fn socks_5_becomes_a_tunnel_with_a_password_and_without() {
    let server = echo();
    let to = server.address();
    for (greeting, agreed) in [
        (&b"\x05\x01\x00"[..], &b"\x05\x00"[..]),
        (b"\x05\x02\x00\x02", b"\x05\x00"),
        (b"\x05\x01\x02\x01\x02me\x06s3cret", b"\x05\x02\x01\x00"),
    ] {
        for request in [socks5(to), socks5_name("127.0.0.1", to), socks5_name("localhost", to)] {
            let mut proxy = Proxy::forward(&[]).unwrap();
            let said = tunnelled(&proxy, &[greeting, &request].concat(), agreed.len() + 10);
            let (first, reply) = said.split_at(agreed.len());
            assert_eq!((first, &reply[..8]), (agreed, &[5, 0, 0, 1, 127, 0, 0, 1][..]));
            assert_record(&one_record(&mut proxy), "forward-socks5", to);
        }
    }
}

#[test]
fn the_address_that_socks_names_is_the_one_that_the_server_sees() {
    let (seen, sees) = std::sync::mpsc::channel();
    let server = Server::start("127.0.0.1:0", move |stream| seen.send(stream.peer_addr().unwrap()).unwrap()).unwrap();
    let proxy = Proxy::forward(&[]).unwrap();
    let mut stream = connect(proxy.address()).unwrap();
    stream.write_all(&[b"\x05\x01\x00", &socks5(server.address())[..]].concat()).unwrap();
    let said = exactly(&mut stream, 12);
    assert_eq!(sees.recv().unwrap(), SocketAddr::from((Ipv4Addr::LOCALHOST, u16::from_be_bytes([said[10], said[11]]))));
}

#[test]
fn a_negotiation_that_comes_byte_by_byte_is_the_same() {
    let server = echo();
    let proxy = Proxy::forward(&[]).unwrap();
    let socks5 = [b"\x05\x01\x02\x01\x02me\x06s3cret", &socks5(server.address())[..]].concat();
    for (hello, reply) in
        [(connect_head(server.address()), ESTABLISHED.len()), (socks4a("localhost", server.address()), 8), (socks5, 14)]
    {
        let mut stream = connect(proxy.address()).unwrap();
        for byte in hello {
            stream.write_all(&[byte]).unwrap();
        }
        exactly(&mut stream, reply);
        stream.write_all(b"x").unwrap();
        assert_eq!(exactly(&mut stream, 1), b"x");
    }
}

#[test]
fn a_server_that_speaks_first_is_heard_through_every_kind_of_tunnel() {
    let server = Server::start("127.0.0.1:0", |mut stream| {
        stream.write_all(b"220 ready\r\n").unwrap();
        drop(stream.read(&mut [0]));
    })
    .unwrap();
    let proxy = Proxy::forward(&[]).unwrap();
    let to = server.address();
    let five = [b"\x05\x01\x00", &socks5(to)[..]].concat();
    for (hello, reply) in [(connect_head(to), ESTABLISHED.len()), (socks4(to), 8), (five, 12)] {
        let mut stream = connect(proxy.address()).unwrap();
        stream.write_all(&hello).unwrap();
        exactly(&mut stream, reply);
        assert_eq!(exactly(&mut stream, 11), b"220 ready\r\n");
    }
}

#[test]
fn an_exchange_inside_a_tunnel_is_recorded() {
    let server = Server::answering("127.0.0.1:0", answer("inside")).unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let mut stream = connect(proxy.address()).unwrap();
    stream.write_all(&connect_head(server.address())).unwrap();
    exactly(&mut stream, ESTABLISHED.len());
    assert_eq!(nodetap_tests::http::get_over(stream, "/x").unwrap(), b"inside");
    let record = one_record(&mut proxy);
    assert_record(&record, "forward-connect", server.address());
    assert_eq!((&record["kind"], &record["response"]["body"]["text"]), (&"exchange".into(), &"inside".into()));
}

/// What is answered before the proxy closes, and what is written down.
fn refused(options: &[&str], hello: &[u8]) -> (Vec<u8>, Value) {
    let mut proxy = Proxy::forward(options).unwrap();
    let mut stream = connect(proxy.address()).unwrap();
    stream.write_all(hello).unwrap();
    let (said, ending) = drain(&mut stream).unwrap();
    assert_eq!(ending, Ending::Closed, "{}", String::from_utf8_lossy(&said));
    (said, one_record(&mut proxy))
}

#[test]
fn a_server_that_refuses_is_told_as_each_protocol_tells_it() {
    let to = closed();
    let (said, record) = refused(&[], &connect_head(to));
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("HTTP/1.1 502 Bad Gateway\r\n") && said.contains("Connection refused"), "{said}");
    assert_eq!(said.matches('\n').count(), 6, "one line of text: {said}");
    assert_record(&record, "forward-connect", to);
    assert_eq!(record["outcome"], "refused", "{record}");
    assert!(record["detail"].as_str().unwrap().contains("refused"), "{record}");

    let (said, record) = refused(&[], &socks4(to));
    assert_eq!(said, b"\x00\x5b\0\0\0\0\0\0");
    assert_record(&record, "forward-socks4", to);

    let (said, record) = refused(&[], &[b"\x05\x01\x00", &socks5(to)[..]].concat());
    assert_eq!(said, b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0");
    assert_record(&record, "forward-socks5", to);
}

#[test]
fn a_name_that_nobody_knows_is_told_as_each_protocol_tells_it() {
    // RFC 6761: never resolves; without a name server at hand there is no answer in time either.
    let name = "nobody.invalid";
    let options = ["--connect-timeout", "3"];
    let (said, record) = refused(&options, &connect_head(format!("{name}:80")));
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("HTTP/1.1 502 ") || said.starts_with("HTTP/1.1 504 "), "{said}");
    assert!(said.contains(name), "{said}");
    assert!(record["detail"].as_str().unwrap().contains(name), "{record}");
    let to = SocketAddr::from(([0, 0, 0, 0], 80));
    let (said, _) = refused(&options, &[b"\x05\x01\x00", &socks5_name(name, to)[..]].concat());
    assert!(matches!(said[3], 4 | 6 | 1), "{said:?}");
}

#[test]
fn a_server_that_does_not_answer_is_a_timeout() {
    // A queue that is full drops what more comes.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    silent.listen(0).unwrap();
    let to = silent.local_addr().unwrap().as_socket().unwrap();
    let mut filling = Vec::new();
    eventually(DEADLINE, "a full queue", || {
        let limit = std::time::Duration::from_millis(200);
        match TcpStream::connect_timeout(&to, limit) {
            Ok(stream) => filling.push(stream),
            Err(_) => return Some(()),
        }
        None
    })
    .unwrap();
    let options = ["--connect-timeout", "1"];
    let (said, record) = refused(&options, &connect_head(to));
    assert!(said.starts_with(b"HTTP/1.1 504 Gateway Timeout\r\n"), "{}", String::from_utf8_lossy(&said));
    assert_eq!(record["outcome"], "timeout", "{record}");
    let (said, _) = refused(&options, &[b"\x05\x01\x00", &socks5(to)[..]].concat());
    assert_eq!(said[3], 6, "{said:?}");
}

#[test]
fn a_way_back_to_the_proxy_itself_is_refused() {
    let mut proxy = Proxy::start(&["--forward", "0.0.0.0:0"], &[]).unwrap();
    let port = proxy.address().port();
    let mut count = 0;
    for host in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "localhost", "[::ffff:127.0.0.1]"] {
        let mut stream = connect(([127, 0, 0, 1], port).into()).unwrap();
        stream.write_all(&connect_head(format!("{host}:{port}"))).unwrap();
        let said = read_head(&mut stream).unwrap();
        // `localhost` is ::1, too, where nobody listens.
        let expected = if host == "localhost" { &["508", "502"][..] } else { &["508"] };
        let said = String::from_utf8(said).unwrap();
        assert!(expected.iter().any(|status| said.starts_with(&format!("HTTP/1.1 {status} "))), "{host}: {said}");
        count += 1;
    }
    let mut stream = connect(([127, 0, 0, 1], port).into()).unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    stream.write_all(&[b"\x05\x01\x00", &socks5(to)[..]].concat()).unwrap();
    assert_eq!(drain(&mut stream).unwrap().0[3], 2);
    let records = proxy.records().unwrap();
    assert_eq!(records.len(), count + 1, "{records:?}");
    assert!(records.iter().all(|record| record["outcome"] == "refused"), "{records:?}");
}

#[test]
fn a_listener_of_the_same_nodetap_is_a_loop_too() {
    let server = echo();
    let reverse = format!("127.0.0.1:0={}", server.address());
    let proxy = Proxy::start(&["--reverse", &reverse, "--forward", "127.0.0.1:0"], &[]).unwrap();
    let forward = proxy
        .process
        .line(nodetap_tests::process::Stream::Err, "its forward address", |line| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.contains("forward").then(|| rest.split(',').next()?.parse::<SocketAddr>().ok())?
        })
        .unwrap();
    let mut stream = connect(forward).unwrap();
    stream.write_all(&connect_head(proxy.address())).unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with(b"HTTP/1.1 508 "));
}

#[test]
fn a_reset_on_either_side_of_a_tunnel_stays_a_reset() {
    let (ended, ends) = std::sync::mpsc::channel();
    let server = Server::start("127.0.0.1:0", move |mut stream| {
        let mut order = [0];
        stream.read_exact(&mut order).unwrap();
        match order[0] {
            b'r' => nodetap_tests::server::reset(stream),
            _ => ended.send(drain(&mut stream).unwrap().1).unwrap(),
        }
    })
    .unwrap();
    let proxy = Proxy::forward(&[]).unwrap();
    let open = || {
        let mut stream = connect(proxy.address()).unwrap();
        stream.write_all(&connect_head(server.address())).unwrap();
        exactly(&mut stream, ESTABLISHED.len());
        stream
    };
    let mut stream = open();
    stream.write_all(b"r").unwrap();
    assert_eq!(drain(&mut stream).unwrap().1, Ending::Reset);
    let mut stream = open();
    stream.write_all(b"x").unwrap();
    nodetap_tests::server::reset(stream);
    assert_eq!(ends.recv().unwrap(), Ending::Reset);
}
