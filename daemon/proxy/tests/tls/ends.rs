//! How one side ends is how the other side sees it end: close_notify, FIN and reset, each by itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use nodetap_proxy::tls::{Inbound, Pair, Policy, Upstream};
use rustls::{ConnectionCommon, SideData};

use super::harness::*;

/// How a side ends what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// close_notify, and FIN only when all is over.
    Notify,
    /// close_notify and FIN.
    NotifyFin,
    /// FIN alone.
    Fin,
    Reset,
}

/// One side of a conversation.
trait Peer: Read {
    fn say(&mut self, text: &str);
    fn end(&mut self, end: End);
    fn hear_some(&mut self, count: usize) -> String {
        let mut text = vec![0; count];
        self.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// Reads to the end, and says what was read and how it ended.
    fn hear(&mut self) -> (String, End);
    /// Has the kernel been told that nothing more comes?
    fn sees_fin(&self) -> bool;
    fn fin(&self);
}

impl<S: SideData, C: std::ops::DerefMut<Target = ConnectionCommon<S>>> Peer for rustls::StreamOwned<C, TcpStream> {
    fn say(&mut self, text: &str) {
        self.write_all(text.as_bytes()).unwrap();
        self.flush().unwrap();
    }

    fn end(&mut self, end: End) {
        if matches!(end, End::Notify | End::NotifyFin) {
            self.conn.send_close_notify();
            while self.conn.wants_write() {
                self.conn.write_tls(&mut self.sock).unwrap();
            }
        }
        self.sock.end(end);
    }

    fn hear(&mut self) -> (String, End) {
        let mut text = Vec::new();
        let end = match self.read_to_end(&mut text).map_err(|error| error.kind()) {
            Ok(_) => End::Notify,
            Err(ErrorKind::UnexpectedEof) => End::Fin,
            Err(ErrorKind::ConnectionReset) => End::Reset,
            Err(other) => panic!("{other}"),
        };
        (String::from_utf8(text).unwrap(), end)
    }

    fn sees_fin(&self) -> bool {
        self.sock.sees_fin()
    }

    fn fin(&self) {
        self.sock.fin();
    }
}

impl Peer for TcpStream {
    fn say(&mut self, text: &str) {
        self.write_all(text.as_bytes()).unwrap();
    }

    fn end(&mut self, end: End) {
        match end {
            End::Notify => {}
            End::NotifyFin | End::Fin => self.fin(),
            End::Reset => {
                // A reset is what closing becomes; whoever owns the socket drops it next.
                socket2::SockRef::from(&*self).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            }
        }
    }

    fn hear(&mut self) -> (String, End) {
        let mut text = Vec::new();
        match self.read_to_end(&mut text).map_err(|error| error.kind()) {
            Ok(_) => (String::from_utf8(text).unwrap(), End::Fin),
            Err(ErrorKind::ConnectionReset) => (String::from_utf8(text).unwrap(), End::Reset),
            Err(other) => panic!("{other}"),
        }
    }

    fn sees_fin(&self) -> bool {
        self.set_nonblocking(true).unwrap();
        let seen = self.peek(&mut [0]).is_ok_and(|count| count == 0);
        self.set_nonblocking(false).unwrap();
        seen
    }

    fn fin(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// The first one says a word and ends when it was heard; the other one answers all the same and ends too. Both tell how
/// the other's end looked to them.
fn first(mut peer: impl Peer, ends: [End; 2]) -> Option<End> {
    peer.say("last words");
    // A reset takes with it what was not read yet.
    assert_eq!(peer.hear_some(1), "k");
    peer.end(ends[0]);
    if ends[0] == End::Reset {
        return None;
    }
    let (text, end) = peer.hear();
    if ends[1] != End::Reset {
        assert_eq!(text, "an answer");
    }
    peer.fin();
    Some(end)
}

fn second(mut peer: impl Peer, ends: [End; 2]) -> (End, bool) {
    assert_eq!(peer.hear_some(10), "last words");
    peer.say("k");
    let (text, end) = peer.hear();
    assert_eq!(text, "");
    if end == End::Reset {
        return (end, false);
    }
    peer.say("an answer");
    let has_fin = peer.sees_fin();
    peer.end(ends[1]);
    (end, has_fin)
}

/// Whether a side that sees this may have seen that end.
fn is_like(seen: End, end: End) -> bool {
    seen == end || (seen, end) == (End::Notify, End::NotifyFin)
}

#[test]
fn each_end_is_seen_as_it_was_made_by_either_side() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let all = [End::Notify, End::NotifyFin, End::Fin, End::Reset];
    for begins in ["client", "server"] {
        for ends in all.iter().flat_map(|a| all.iter().map(|b| [*a, *b])) {
            let (tell, told) = channel();
            let server_begins = begins == "server";
            let address = serve_tls(theirs.server(&[]), move |mut stream| {
                let mut hello = [0; 2];
                stream.read_exact(&mut hello).unwrap();
                let seen = if server_begins {
                    (first(stream, ends), false)
                } else {
                    let (end, has_fin) = second(stream, ends);
                    (Some(end), has_fin)
                };
                tell.send(seen).unwrap();
            });
            let proxy = Proxy::start(address, opening(&ours, &theirs, None));
            let mut stream = proxy.tls(&Arc::new(client(&ours, &[])), "site.test");
            stream.say("ok");
            let (first_saw, (second_saw, has_fin)) = if server_begins {
                let saw = second(stream, ends);
                (receive(&told).0, saw)
            } else {
                let saw = first(stream, ends);
                let (end, has_fin) = receive(&told);
                (saw, (end.unwrap(), has_fin))
            };
            assert!(is_like(second_saw, ends[0]), "{begins} {ends:?}: {second_saw:?}");
            assert!(ends[0] != End::Notify || !has_fin, "{begins} {ends:?}: a FIN that nobody sent");
            if let Some(first_saw) = first_saw {
                assert!(is_like(first_saw, ends[1]), "{begins} {ends:?}: {first_saw:?}");
            }
            proxy.finish();
        }
    }
}

fn receive<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).unwrap()
}

/// An engine that ends TLS in front of a plain server.
fn terminating(theirs: &Ca, upstream: SocketAddr) -> Proxy {
    let (chain, key) = theirs.issue(&["site.test"]);
    let pair = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    Proxy::start(upstream, Policy::Terminate(Arc::new(Inbound::new(pair, Upstream::Plain).unwrap())))
}

#[test]
fn where_one_side_has_no_tls_a_fin_is_the_orderly_end() {
    let theirs = Ca::new("theirs");
    let all = [End::NotifyFin, End::Notify, End::Fin, End::Reset];
    for begins in ["client", "server"] {
        for ends in all.iter().flat_map(|a| all.iter().map(|b| [*a, *b])) {
            let server_begins = begins == "server";
            // A plain server has no close_notify.
            if ends[usize::from(!server_begins)] != End::Fin && ends[usize::from(!server_begins)] != End::Reset {
                continue;
            }
            let (tell, told) = channel();
            let address = serve(move |mut stream| {
                stream.read_exact(&mut [0; 2]).unwrap();
                let seen = if server_begins { first(stream, ends) } else { Some(second(stream, ends).0) };
                tell.send(seen).unwrap();
            });
            let proxy = terminating(&theirs, address);
            let mut stream = proxy.tls(&Arc::new(client(&theirs, &[])), "site.test");
            stream.say("ok");
            let (client_saw, server_saw) = if server_begins {
                (Some(second(stream, ends).0), receive(&told))
            } else {
                (first(stream, ends), receive(&told))
            };
            let [client_end, server_end] = if server_begins { [ends[1], ends[0]] } else { ends };
            let plain = if server_end == End::Reset { End::Reset } else { End::Notify };
            let sealed = if client_end == End::Reset { End::Reset } else { End::Fin };
            if let Some(saw) = client_saw {
                assert_eq!(saw, plain, "{begins} {ends:?}: the client");
            }
            if let Some(saw) = server_saw {
                assert_eq!(saw, sealed, "{begins} {ends:?}: the server");
            }
            proxy.finish();
        }
    }
}

#[test]
fn who_does_not_read_slows_the_other_side_down_and_loses_nothing() {
    const LIMIT: usize = 64 * 1024 * 1024;
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let (tell, told) = channel();
    let address = serve_tls(theirs.server(&[]), move |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let mut count = 0_u64;
        let mut piece = vec![0; 64 * 1024];
        loop {
            match stream.read(&mut piece).unwrap() {
                0 => break,
                read => count += read as u64,
            }
        }
        tell.send(count).unwrap();
        goodbye_server(stream);
    });
    let proxy = Proxy::start(address, opening(&ours, &theirs, None));
    let mut stream = proxy.tls(&Arc::new(client(&ours, &[])), "site.test");
    stream.write_all(b"x").unwrap();
    stream.sock.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let (piece, mut sent) = (vec![7; 16 * 1024], 0);
    // Until nothing more fits into what lies between the two.
    let blocked = loop {
        match stream.conn.writer().write(&piece) {
            Ok(count) => sent += count,
            Err(error) => panic!("{error}"),
        }
        match stream.conn.write_tls(&mut stream.sock) {
            Ok(_) => assert!(sent < LIMIT, "nobody is slowed down"),
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(blocked, ErrorKind::WouldBlock);
    stream.sock.set_write_timeout(Some(PATIENCE)).unwrap();
    go.send(()).unwrap();
    stream.flush().unwrap();
    goodbye(stream);
    assert_eq!(receive(&told), sent as u64);
    proxy.finish();
}
