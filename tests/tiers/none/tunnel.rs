//! A tunnel changes nothing: each conversation is held twice, directly and through the proxy, and must read the same.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, mpsc};

use nodetap_tests::client::{Ending, connect, drain, upload_until_full};
use nodetap_tests::proxy::Proxy;
use nodetap_tests::server::{self, Server};
use nodetap_tests::{machine, memory};

/// Holds `conversation` with the server directly and through the proxy, and returns what both gave.
fn both<T: PartialEq + std::fmt::Debug>(server: &Server, conversation: impl Fn(SocketAddr) -> T) -> T {
    let proxy = Proxy::before(server.address()).unwrap();
    let direct = conversation(server.address());
    assert_eq!(direct, conversation(proxy.address()), "through the proxy it reads differently than directly");
    direct
}

fn every_byte(length: usize) -> Vec<u8> {
    // A multiplier that is prime to 256 gives every byte, and no two neighbours the same.
    (0..length).map(|index| u8::try_from((index * 167 + index / 256) % 256).unwrap()).collect()
}

#[test]
fn a_server_that_speaks_first_is_heard_before_the_client_says_a_word() {
    // The greeting of a MySQL server: its length, its number, the protocol, the version.
    const GREETING: &[u8] = b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0rD5\x1f";
    for greeting in [GREETING, b"SSH-2.0-OpenSSH_9.2p1\r\n"] {
        let server = Server::start("127.0.0.1:0", move |mut stream| {
            stream.write_all(greeting).unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            stream.write_all(&answer).unwrap();
        })
        .unwrap();
        let heard = both(&server, |address| {
            let mut stream = connect(address).unwrap();
            let mut first = vec![0; greeting.len()];
            stream.read_exact(&mut first).unwrap();
            stream.write_all(b"login").unwrap();
            (first, drain(&mut stream).unwrap())
        });
        assert_eq!(heard, (greeting.to_vec(), (b"login".to_vec(), Ending::Closed)));
    }
}

#[test]
fn a_client_that_has_closed_its_half_still_gets_the_whole_answer() {
    let server = Server::start("127.0.0.1:0", |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        request.reverse();
        stream.write_all(&request).unwrap();
    })
    .unwrap();
    let heard = both(&server, |address| {
        let mut stream = connect(address).unwrap();
        stream.write_all(&every_byte(100_000)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        drain(&mut stream).unwrap()
    });
    assert_eq!(heard.0.len(), 100_000);
}

#[test]
fn a_server_that_has_closed_its_half_still_hears_the_client() {
    let (heard, hears) = mpsc::channel();
    let server = Server::start("127.0.0.1:0", move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        heard.send(rest).unwrap();
    })
    .unwrap();
    both(&server, |address| {
        let mut stream = connect(address).unwrap();
        let end = drain(&mut stream).unwrap();
        stream.write_all(b"but wait").unwrap();
        drop(stream);
        (end, hears.recv().unwrap())
    });
}

#[test]
fn bytes_that_come_one_at_a_time_arrive_at_once_and_as_they_are() {
    let server = Server::start("127.0.0.1:0", |mut stream| {
        stream.set_nodelay(true).unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|read| read == 1) {
            stream.write_all(&byte.map(|byte| byte.wrapping_add(1))).unwrap();
        }
    })
    .unwrap();
    let heard = both(&server, |address| {
        let mut stream = connect(address).unwrap();
        // Each byte waits for the answer to the one before: a tunnel that holds one back never ends.
        every_byte(512)
            .into_iter()
            .map(|byte| {
                let mut answer = [0];
                stream.write_all(&[byte]).unwrap();
                stream.read_exact(&mut answer).unwrap();
                answer[0]
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(heard, every_byte(512).into_iter().map(|byte| byte.wrapping_add(1)).collect::<Vec<_>>());
}

const HALF_AN_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it";

/// The client asks, reads half of the answer, says that it has it, and sees how the connection ends.
fn half_an_answer(address: SocketAddr) -> (Vec<u8>, (Vec<u8>, Ending)) {
    let mut stream = connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut half = vec![0; HALF_AN_ANSWER.len()];
    stream.read_exact(&mut half).unwrap();
    stream.write_all(b"!").unwrap();
    (half, drain(&mut stream).unwrap())
}

fn answer_half_and(end: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
    Server::start("127.0.0.1:0", move |mut stream| {
        nodetap_tests::http::read_head(&mut stream);
        stream.write_all(HALF_AN_ANSWER).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        end(stream);
    })
    .unwrap()
}

#[test]
fn a_reset_in_the_middle_of_an_answer_stays_a_reset() {
    let server = answer_half_and(server::reset);
    assert_eq!(both(&server, half_an_answer).1.1, Ending::Reset);
}

#[test]
fn a_close_in_the_middle_of_an_answer_stays_a_close() {
    let server = answer_half_and(drop);
    assert_eq!(both(&server, half_an_answer).1.1, Ending::Closed);
}

#[test]
fn a_reset_of_an_answer_without_a_length_is_heard_by_a_client_that_still_uploads() {
    let (reset, resets) = mpsc::channel();
    let resets = Mutex::new(resets);
    let server = Server::start("127.0.0.1:0", move |mut stream| {
        nodetap_tests::http::read_head(&mut stream);
        stream.write_all(server::BEGUN).unwrap();
        resets.lock().unwrap().recv().unwrap();
        server::reset(stream);
    })
    .unwrap();
    let heard = both(&server, |address| {
        let mut stream = connect(address).unwrap();
        upload_until_full(&mut stream, server::BEGUN.len()).unwrap();
        reset.send(()).unwrap();
        drain(&mut stream).unwrap()
    });
    assert_eq!(heard, (Vec::new(), Ending::Reset));
}

#[test]
fn a_reset_is_heard_by_a_client_that_has_closed_its_half() {
    let (reset, resets) = mpsc::channel();
    let resets = Mutex::new(resets);
    let server = Server::start("127.0.0.1:0", move |mut stream| {
        nodetap_tests::http::read_head(&mut stream);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        stream.write_all(server::BEGUN).unwrap();
        resets.lock().unwrap().recv().unwrap();
        server::reset(stream);
    })
    .unwrap();
    let heard = both(&server, |address| {
        let mut stream = connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_exact(&mut [0; server::BEGUN.len()]).unwrap();
        reset.send(()).unwrap();
        drain(&mut stream).unwrap()
    });
    assert_eq!(heard, (Vec::new(), Ending::Reset));
}

#[test]
fn a_client_that_resets_is_seen_to_reset_by_the_server() {
    let (ended, ends) = mpsc::channel();
    let server = Server::start("127.0.0.1:0", move |mut stream| {
        stream.write_all(b"hello").unwrap();
        ended.send(drain(&mut stream).unwrap()).unwrap();
    })
    .unwrap();
    let heard = both(&server, |address| {
        let mut stream = connect(address).unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        server::reset(stream);
        ends.recv().unwrap()
    });
    assert_eq!(heard, (Vec::new(), Ending::Reset));
}

#[test]
fn a_destination_that_refuses_is_a_reset_before_any_byte() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut proxy = Proxy::before(closed).unwrap();
    let mut stream = connect(proxy.address()).unwrap();
    assert_eq!(drain(&mut stream).unwrap(), (Vec::new(), Ending::Reset));
    let records = proxy.records().unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["outcome"], "refused", "{records:?}");
}

#[test]
fn what_is_no_protocol_at_all_goes_through_in_both_directions_at_once() {
    const LENGTH: usize = 3_000_000;
    let server = Server::start("127.0.0.1:0", |stream| {
        let mut writing = stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            writing.write_all(&every_byte(LENGTH)).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        let mut reading = stream;
        let mut heard = Vec::new();
        reading.read_to_end(&mut heard).unwrap();
        assert!(heard == every_byte(LENGTH));
        writer.join().unwrap();
    })
    .unwrap();
    let (heard, end) = both(&server, |address| {
        let mut stream = connect(address).unwrap();
        let mut writing = stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            writing.write_all(&every_byte(LENGTH)).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        let heard = drain(&mut stream).unwrap();
        writer.join().unwrap();
        heard
    });
    assert!(heard == every_byte(LENGTH) && end == Ending::Closed);
}

#[test]
fn a_gibibyte_goes_through_in_eight_mebibytes_of_memory() {
    const SIZE: usize = 1 << 30;
    let _alone = machine::alone();
    let server = Server::start("127.0.0.1:0", |mut stream| {
        while nodetap_tests::http::read_head(&mut stream).is_some_and(|head| !head.is_empty()) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            let piece = every_byte(1 << 18);
            for _ in 0..SIZE / piece.len() {
                stream.write_all(&piece).unwrap();
            }
        }
    })
    .unwrap();
    let proxy = Proxy::before(server.address()).unwrap();
    let mut stream = connect(proxy.address()).unwrap();
    let before = memory::resident(proxy.process.pid()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    nodetap_tests::http::read_head(&mut stream).unwrap();
    let mut buffer = vec![0; 1 << 18];
    let (mut left, mut most) = (SIZE, 0);
    while left > 0 {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "{left} bytes are missing");
        left -= read;
        most = most.max(memory::resident(proxy.process.pid()).unwrap());
    }
    assert!(most < before + (8 << 20), "{before} bytes before, {most} at the most");
}
