//! Answers whose end comes right behind them: it may arrive with the last bytes, but never before them, and never as
//! another end than it was.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nodetap_proxy::engine::GroupLimits;
use socket2::SockRef;

use crate::harness::{Tunnels, connect, engine};

/// Answers the first byte of each connection with so many, and ends it at once.
fn answering(length: usize, end: fn(&TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(&vec![7; length]).unwrap();
            end(&stream);
        }
    });
    address
}

/// What one client gets, and how that ends.
fn ask(to: SocketAddr) -> (Vec<u8>, std::io::Result<usize>) {
    let mut stream = connect(to);
    stream.write_all(b"?").unwrap();
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    (answer, end)
}

#[test]
fn the_last_bytes_come_whole_when_the_end_is_there_already() {
    for workers in [1, 2] {
        let engine = engine(workers);
        for length in [1, 1000, 16 * 1024, 16 * 1024 + 1, 100_000, 2_000_000] {
            let group = Tunnels::open(&engine, answering(length, |_| {}), 1, GroupLimits::default());
            for _ in 0..20 {
                let (answer, end) = ask(group.addresses[0]);
                assert!(end.is_ok() && answer.len() == length, "{end:?}: {} of {length}", answer.len());
                assert!(answer.iter().all(|byte| *byte == 7));
            }
        }
    }
}

#[test]
fn a_reset_right_behind_the_last_bytes_is_no_orderly_end() {
    let engine = engine(2);
    let reset = |stream: &TcpStream| SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    let group = Tunnels::open(&engine, answering(1000, reset), 1, GroupLimits::default());
    for _ in 0..100 {
        let (answer, end) = ask(group.addresses[0]);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset, "after {} bytes", answer.len());
    }
}
