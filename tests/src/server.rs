//! Servers in the test's own process that do with a connection what a test says, byte by byte.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use socket2::SockRef;

/// The beginning of an answer that has no length: it lasts until the connection ends.
pub const BEGUN: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nbegun";

/// A listening server; it stops listening when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: Arc<TcpListener>,
}

impl Server {
    /// Listens at `address` (`127.0.0.1:0`) and hands each connection to `serve`, each on a thread of its own.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn start(address: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Result<Self> {
        let listener = Arc::new(TcpListener::bind(address)?);
        let own = listener.local_addr()?;
        let serve = Arc::new(serve);
        let accepting = Arc::clone(&listener);
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let serve = Arc::clone(&serve);
                // A peer that hangs must not hold up the end of the test's process.
                drop(stream.set_read_timeout(Some(Duration::from_secs(60))));
                thread::spawn(move || serve(stream));
            }
        });
        Ok(Self { address: own, listener })
    }

    /// A server that answers every HTTP request with the same bytes, on connections that stay open until a client says
    /// that it wants no more.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn answering(address: &str, answer: impl Into<Vec<u8>>) -> Result<Self> {
        let answer = answer.into();
        Self::start(address, move |mut stream| {
            while let Some(head) = crate::http::read_head(&mut stream).filter(|head| !head.is_empty()) {
                let last = String::from_utf8_lossy(&head).to_ascii_lowercase().contains("connection: close");
                if stream.write_all(&answer).is_err() || last {
                    return;
                }
            }
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes `accept`, which ends the thread.
        drop(SockRef::from(&*self.listener).shutdown(Shutdown::Both));
    }
}

/// An HTTP/1.1 answer with a body and its length.
pub fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Closes a connection so that the other side sees a reset.
pub fn reset(stream: TcpStream) {
    drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
    drop(stream);
}
