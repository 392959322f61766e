//! A server for one HTTP exchange at a time, byte by byte: what it heard, and what it says.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::{self, Ending};
use crate::http::read_head;
use crate::server::Server;
use crate::wait::DEADLINE;

/// Reads whole requests, says the same to each, and tells what it heard.
#[derive(Debug)]
pub struct Hearing {
    server: Server,
    heard: Receiver<String>,
}

impl Hearing {
    /// Answers every request with these bytes; closes when they do not say where they end.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Result<Self> {
        let (tell, heard) = channel();
        let tell = Arc::new(Mutex::new(tell));
        let answer = answer.into();
        let delimited = answer.windows(15).any(|part| part.eq_ignore_ascii_case(b"content-length:"));
        let server = Server::start("127.0.0.1:0", move |mut stream| {
            while let Some(request) = read_request(&mut stream) {
                let text = String::from_utf8_lossy(&request).into_owned();
                drop(tell.lock().unwrap_or_else(PoisonError::into_inner).send(text));
                if stream.write_all(&answer).is_err() || !delimited {
                    return;
                }
            }
        })?;
        Ok(Self { server, heard })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The next request, head and body as they came.
    ///
    /// # Errors
    /// When none came within the deadline.
    pub fn heard(&self) -> Result<String> {
        self.heard.recv_timeout(DEADLINE).context("the server heard nothing")
    }

    /// Whether no request has come so far.
    pub fn heard_nothing(&self) -> bool {
        self.heard.try_recv().is_err()
    }
}

/// A head and the body that it announces; `None` when there is none, or it is cut.
fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = read_head(stream).filter(|head| !head.is_empty())?;
    let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()) {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        request.extend(body);
    } else if head.lines().any(|line| line.starts_with("transfer-encoding:") && line.ends_with("chunked")) {
        let mut byte = [0];
        // Trailers end with an empty line, too.
        while !(request.ends_with(b"\r\n\r\n") && request.windows(5).any(|part| part == b"\r\n0\r\n")) {
            stream.read_exact(&mut byte).ok()?;
            request.push(byte[0]);
        }
    }
    Some(request)
}

/// Says `request` to `proxy` and no more after it, and hears everything that is answered.
///
/// # Errors
/// When the connection fails, or never ends.
pub fn ask(proxy: SocketAddr, request: &[u8]) -> Result<(String, Ending)> {
    let mut stream = client::connect(proxy)?;
    stream.write_all(request)?;
    // It may have been answered and closed already.
    drop(stream.shutdown(Shutdown::Write));
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (answer, ending) = client::drain(&mut stream)?;
    Ok((String::from_utf8_lossy(&answer).into_owned(), ending))
}
