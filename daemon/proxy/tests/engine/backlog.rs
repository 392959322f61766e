//! What is kept for a reader that does not read: by us, and by the kernel for us.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use nodetap_proxy::engine::GroupLimits;
use socket2::SockRef;

use crate::harness::{Tunnels, connect, engine};

/// Of bytes that count up.
const PIECE: usize = 64 * 1024;
/// No byte could be sent for so long: nobody takes more.
const NOBODY: Duration = Duration::from_secs(1);
/// More than this would not be needed for a receiver that is as fast as its sender.
const BETWEEN: usize = 1024 * 1024;

fn byte(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

/// Sends to whoever connects until nobody takes more, says how much that was, and ends.
fn sender() -> (SocketAddr, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (tell, told)) = (listener.local_addr().unwrap(), mpsc::channel());
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // Its own is no part of it.
            SockRef::from(&stream).set_send_buffer_size(PIECE).unwrap();
            stream.set_write_timeout(Some(NOBODY)).unwrap();
            let mut sent = 0;
            let stopped = loop {
                let piece: Vec<u8> = (sent..sent + PIECE).map(byte).collect();
                match (&stream).write(&piece) {
                    Ok(count) => sent += count,
                    Err(error) => break error,
                }
            };
            assert_eq!(stopped.kind(), ErrorKind::WouldBlock, "{stopped}");
            tell.send(sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
    });
    (address, told)
}

/// How much was sent before this client read any of it.
fn unread(mut client: TcpStream, told: &mpsc::Receiver<usize>) -> usize {
    let sent = told.recv().unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), sent);
    assert!(all.iter().enumerate().all(|(at, got)| *got == byte(at)), "other bytes than were sent");
    sent
}

#[test]
fn for_a_reader_that_does_not_read_little_is_kept_and_it_gets_everything_in_the_end() {
    let (engine, (server, told)) = (engine(1), sender());
    let group = Tunnels::open(&engine, server, 1, GroupLimits::default());
    let direct = unread(connect(server), &told);
    let through = unread(group.connect(), &told);
    eprintln!("{through} bytes on their way, {direct} without us");
    assert!(through <= direct + BETWEEN, "{through} bytes on their way, {direct} without us");
}

#[test]
fn one_that_was_fast_is_not_held_to_that() {
    let (engine, (server, told)) = (engine(1), sender());
    let group = Tunnels::open(&engine, server, 1, GroupLimits::default());
    let mut client = group.connect();
    let mut fast = vec![0; 64 * BETWEEN];
    client.read_exact(&mut fast).unwrap();
    assert!(fast.iter().enumerate().all(|(at, got)| *got == byte(at)), "other bytes than were sent");
    let sent = told.recv().unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(fast.len() + rest.len(), sent);
    assert!(rest.len() > 2 * BETWEEN, "{} bytes on their way", rest.len());
}
