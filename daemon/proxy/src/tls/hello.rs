//! Finds the ClientHello at the beginning of what a client sent (RFC 8446 §4.1.2, §5.1), and waits for it without
//! taking it off the socket, so that a tunnel can still send it on. It refuses to answer it.

use std::io;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::scratch::Scratch;
use crate::tap::tls::Offer;

/// The longest ClientHello that is waited for, its records' headers included.
const LONGEST: usize = 64 * 1024;
/// A ClientHello that has begun is waited for no longer.
const PATIENCE: Duration = Duration::from_secs(10);

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const HEADER: usize = 5;

/// What the bytes of a client begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Beginning {
    /// No TLS.
    Other,
    /// Not enough to tell, or not all of it.
    Part,
    /// TLS, but no ClientHello.
    Unreadable,
    Whole(Hello),
}

/// A ClientHello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Its records, as they came.
    pub(crate) bytes: Vec<u8>,
    pub(crate) offer: Offer,
}

fn beginning(bytes: &[u8]) -> Beginning {
    match bytes {
        [] | [HANDSHAKE] | [HANDSHAKE, 3] => {}
        [HANDSHAKE, 3, ..] => return hello(bytes),
        _ => return Beginning::Other,
    }
    Beginning::Part
}

/// Of a ClientHello that is whole.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    match beginning(bytes) {
        Beginning::Whole(hello) => Some(hello.bytes.len()),
        _ => None,
    }
}

fn hello(bytes: &[u8]) -> Beginning {
    let (mut message, mut rest) = (Vec::new(), bytes);
    while let Some((header, after)) = rest.split_at_checked(HEADER) {
        let [HANDSHAKE, 3, _, high, low] = *header else { return Beginning::Unreadable };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 {
            // RFC 8446 §5.1 forbids it.
            return Beginning::Unreadable;
        }
        message.extend_from_slice(after.get(..length).unwrap_or(after));
        if let [kind, size @ ..] = &message[..]
            && let Some([a, b, c]) = size.first_chunk().copied()
        {
            let whole = 4 + usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if *kind != CLIENT_HELLO || whole > LONGEST {
                return Beginning::Unreadable;
            }
            if message.len() >= whole && after.len() >= length {
                // More in that record than the hello is no TLS that we know; rustls will say so.
                let bytes = bytes.get(..bytes.len() - after.len() + length).unwrap_or(bytes).to_vec();
                return Beginning::Whole(Hello { bytes, offer: Offer::of(&message) });
            }
        } else if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Beginning::Unreadable;
        }
        let Some(next) = after.get(length..) else { break };
        rest = next;
    }
    if bytes.len() > LONGEST { Beginning::Unreadable } else { Beginning::Part }
}

/// What came of waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is no TLS, or the server spoke (or ended) first.
    Other,
    /// The connection was over before the client said anything.
    Nothing,
    /// TLS, whose ClientHello cannot be read.
    Unreadable,
    /// TLS, whose ClientHello ends in the middle.
    Truncated,
    /// It did not come (whole) in time.
    Late,
    Whole(Hello),
}

/// Waits for what the client says, and, if that matters, for whether the server speaks first. For the first byte it waits
/// `idle`, if that is limited. Nothing is taken off either socket.
pub(crate) async fn hear(
    client: &TcpStream,
    server: Option<&TcpStream>,
    scratch: &Scratch,
    idle: Option<Duration>,
) -> Heard {
    let mut seen = 0;
    let mut deadline = idle.map(|idle| Instant::now() + idle);
    loop {
        let limit = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let spoken = async {
            match server {
                Some(server) => drop(more(server, scratch, 0).await),
                None => std::future::pending().await,
            }
        };
        let count = tokio::select! {
            biased;
            count = more(client, scratch, seen) => count,
            () = spoken => return if seen == 0 { Heard::Other } else { Heard::Truncated },
            () = limit => return Heard::Late,
        };
        let Ok(count) = count else {
            return if seen == 0 { Heard::Nothing } else { Heard::Truncated };
        };
        match scratch.with(|buffer| beginning(buffer.get(..count).unwrap_or_default())) {
            Beginning::Other => return Heard::Other,
            Beginning::Unreadable => return Heard::Unreadable,
            Beginning::Whole(hello) => return Heard::Whole(hello),
            // Also a first byte that may or may not begin TLS.
            Beginning::Part if seen == 0 => deadline = Some(Instant::now() + PATIENCE),
            Beginning::Part => {}
        }
        seen = count;
    }
}

/// Waits for more than `seen` bytes to lie in the socket, and looks at them.
async fn more(stream: &TcpStream, scratch: &Scratch, seen: usize) -> io::Result<usize> {
    loop {
        let ended = stream.ready(Interest::READABLE).await?.is_read_closed();
        let looked = stream.try_io(Interest::READABLE, || {
            let count = scratch.with(|buffer| recv(stream, buffer, RecvFlags::PEEK).map(|(_, count)| count))?;
            match count {
                count if count > seen => Ok(count),
                // The runtime says "ready" until there is news, and the end is always news.
                _ if ended || count == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
                // Sleeps until the kernel tells of more.
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello with that server name, in records of `size` bytes.
    fn client_hello(size: usize) -> Vec<u8> {
        let name = b"a.test";
        let sni = [&[0, 0, 0, 11, 0, 9, 0, 0, 6][..], name].concat();
        let mut body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
        body.extend([0, 15]);
        body.extend(sni);
        let length = u8::try_from(body.len()).unwrap();
        let message = [&[1, 0, 0, length][..], &body].concat();
        let record = |part: &[u8]| [&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()][..], part].concat();
        message.chunks(size).flat_map(record).collect()
    }

    #[test]
    fn a_hello_is_whole_at_its_last_byte_and_not_before() {
        for size in [1, 3, 7, 255] {
            let bytes = client_hello(size);
            for end in 0..bytes.len() {
                assert_eq!(beginning(&bytes[..end]), Beginning::Part, "{end} of {} by {size}", bytes.len());
            }
            let more = [&bytes[..], b"more"].concat();
            let Beginning::Whole(hello) = beginning(&more) else { panic!("{size}") };
            assert_eq!((hello.bytes, hello.offer.sni.as_deref()), (bytes, Some(&b"a.test"[..])));
        }
    }

    #[test]
    fn what_is_no_hello_is_told_as_soon_as_it_can_be() {
        assert_eq!(beginning(b"GET"), Beginning::Other);
        assert_eq!(beginning(&[22, 2]), Beginning::Other);
        assert_eq!(beginning(&[22, 3, 1, 0, 0]), Beginning::Unreadable);
        assert_eq!(beginning(&[22, 3, 1, 0, 9, 2]), Beginning::Unreadable);
        assert_eq!(beginning(&[22, 3, 1, 0, 9, 1, 1, 0, 0]), Beginning::Unreadable);
        assert_eq!(beginning(&[22, 3, 1, 0, 1, 1, 21]), Beginning::Part);
        assert_eq!(beginning(&[22, 3, 1, 0, 1, 1, 21, 3, 1, 0, 2]), Beginning::Unreadable);
    }

    /// Runs with a clock that goes on by itself when nothing else can.
    fn run(test: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(test);
    }

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        near.set_nodelay(true).unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    async fn send(stream: &TcpStream, bytes: &[u8]) {
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(bytes).unwrap(), bytes.len());
    }

    /// Until so many bytes lie in the socket; the runtime learns of them in between.
    async fn lies(stream: &TcpStream, count: usize) {
        let mut space = [0; 1024];
        while recv(stream, &mut space, RecvFlags::PEEK).map_or(0, |(_, seen)| seen) < count {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
    }

    #[test]
    fn a_hello_is_waited_for_wherever_it_is_cut_and_stays_in_its_socket() {
        run(async {
            let (scratch, bytes) = (Scratch::default(), client_hello(40));
            for cut in 1..bytes.len() {
                let ((client, near), (_server, far)) = (connected().await, connected().await);
                let mut heard = Box::pin(hear(&near, Some(&far), &scratch, None));
                send(&client, &bytes[..cut]).await;
                tokio::select! {
                    biased;
                    heard = &mut heard => panic!("{heard:?} of {cut} bytes"),
                    () = lies(&near, cut) => {}
                }
                send(&client, &bytes[cut..]).await;
                let Heard::Whole(hello) = heard.await else { panic!("cut at {cut}") };
                assert_eq!(hello.bytes, bytes);
                lies(&near, bytes.len()).await;
            }
        });
    }

    #[test]
    fn a_hello_that_stops_is_late_and_one_that_ends_is_truncated() {
        run(async {
            let (scratch, bytes) = (Scratch::default(), client_hello(40));
            let ((client, near), (_server, far)) = (connected().await, connected().await);
            send(&client, &bytes[..20]).await;
            assert_eq!(hear(&near, Some(&far), &scratch, None).await, Heard::Late);
            drop(client);
            assert_eq!(hear(&near, Some(&far), &scratch, None).await, Heard::Truncated);
            let (_client, near) = connected().await;
            assert_eq!(hear(&near, None, &scratch, Some(PATIENCE)).await, Heard::Late);
        });
    }

    #[test]
    fn a_server_that_speaks_first_or_ends_first_is_heard_first() {
        run(async {
            let scratch = Scratch::default();
            let ((_client, near), (server, far)) = (connected().await, connected().await);
            send(&server, b"220").await;
            assert_eq!(hear(&near, Some(&far), &scratch, None).await, Heard::Other);
            let (server, far) = connected().await;
            drop(server);
            assert_eq!(hear(&near, Some(&far), &scratch, None).await, Heard::Other);
        });
    }
}
