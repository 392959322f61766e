//! Looks at what a client has sent without taking it, so that a socket is handed on as if nobody had looked: what came
//! behind the request, sent in hope, stays where the tunnel will read it.

use std::io;

use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::TcpStream;

/// Why there is nothing more to see.
#[derive(Debug)]
pub(super) enum Short {
    /// The client sends no more, after so many bytes; a broken connection counts as one that ended.
    Ended(usize),
    /// As much was seen as was allowed.
    Full,
}

/// Shows `look` what the client has sent so far, from its first byte, whenever that is more, until it gives something;
/// at most `most` bytes. Takes nothing. May be cancelled.
pub(super) async fn peek<T>(
    client: &TcpStream,
    most: usize,
    mut look: impl FnMut(&[u8]) -> Option<T>,
) -> Result<T, Short> {
    let mut buffer = Vec::new();
    let mut seen = 0;
    loop {
        let ready = client.ready(Interest::READABLE).await.map_err(|_| Short::Ended(seen))?;
        // Grows with what came, so that a client that only connects costs nothing.
        buffer.resize((2 * seen).clamp(512.min(most), most), 0);
        let more = client.try_io(Interest::READABLE, || match recv(client, &mut buffer)? {
            // The bytes that were seen already make a socket readable, too: that is not what is waited for.
            length if length > 0 && length <= seen => Err(io::ErrorKind::WouldBlock.into()),
            length => Ok(length),
        });
        match more {
            Ok(0) => return Err(Short::Ended(seen)),
            Ok(length) => {
                seen = length;
                if let Some(found) = look(buffer.get(..length).unwrap_or_default()) {
                    return Ok(found);
                }
                if length >= most {
                    return Err(Short::Full);
                }
            }
            // Nothing came after the last byte, and nothing will.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !ready.is_read_closed() => {}
            Err(_) => return Err(Short::Ended(seen)),
        }
    }
}

/// What lies there now, without waiting and without taking it.
pub(super) fn recv(client: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(client, buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT)?.1)
}

/// Takes bytes that were seen.
pub(super) async fn take(client: &mut TcpStream, mut count: usize) -> io::Result<()> {
    let mut buffer = [0; 1024];
    while count > 0 {
        let part = buffer.get_mut(..count.min(1024)).unwrap_or_default();
        count -= client.read_exact(part).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let client = client.unwrap();
        client.set_nodelay(true).unwrap();
        (client, server.unwrap().0)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn it_waits_for_more_than_it_has_seen_and_takes_nothing() {
        runtime().block_on(async {
            let (mut client, mut server) = pair().await;
            let whole: Vec<u8> = (0..=255).cycle().take(5000).collect();
            let mut looks = 0;
            let look = peek(&server, 8192, |bytes| {
                looks += 1;
                (bytes.len() == whole.len()).then(|| bytes.to_vec())
            });
            let write = async {
                for piece in whole.chunks(250) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let (seen, ()) = tokio::join!(look, write);
            assert_eq!(seen.unwrap(), whole);
            assert!(looks <= 20, "{looks} looks at 20 pieces");
            take(&mut server, 4999).await.unwrap();
            drop(client);
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, whole[4999..]);
        });
    }

    #[test]
    fn an_end_and_a_full_buffer_are_told() {
        runtime().block_on(async {
            let (mut client, server) = pair().await;
            client.write_all(b"abc").await.unwrap();
            assert!(matches!(peek(&server, 3, |_| None::<()>).await, Err(Short::Full)));
            let (ended, _) = tokio::join!(peek(&server, 10, |_| None::<()>), client.shutdown());
            assert!(matches!(ended, Err(Short::Ended(3))), "{ended:?}");
            // Also when the end came together with the bytes.
            assert!(matches!(peek(&server, 10, |_| None::<()>).await, Err(Short::Ended(3))));
            assert_eq!(peek(&server, 10, |bytes| bytes.ends_with(b"c").then_some(1)).await.unwrap(), 1);
        });
    }
}
