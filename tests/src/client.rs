//! Clients in the test's own process: where a connection comes from, and how it ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

/// How a connection came to its end, as its reader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The other side closed.
    Closed,
    /// The other side reset.
    Reset,
}

/// Connects, with a limit on every later read.
///
/// # Errors
/// What the kernel says: refused, unreachable.
pub fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects from a certain local address.
///
/// # Errors
/// When the address is taken or the other side refuses.
pub fn connect_from(from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&from.into()).with_context(|| format!("cannot come from {from}"))?;
    socket.connect(&to.into()).with_context(|| format!("cannot connect to {to}"))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// Begins a request whose body has no end in sight, reads the first `answer` bytes of what is answered to its head, and
/// uploads until nothing on the way takes more.
///
/// # Errors
/// When the connection ends before.
pub fn upload_until_full(stream: &mut TcpStream, answer: usize) -> Result<()> {
    stream.write_all(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n")?;
    stream.read_exact(&mut vec![0; answer])?;
    // So long nothing moves when all windows are closed; the kernel wakes the writer at once when one opens.
    stream.set_write_timeout(Some(Duration::from_millis(300)))?;
    let piece = [0; 64 * 1024];
    loop {
        match stream.write(&piece) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(()),
            Err(error) => return Err(error).context("the connection ended before it was full"),
        }
    }
}

/// Reads until the end, and says what end it was.
///
/// # Errors
/// When the other side neither closes nor resets within the limit.
pub fn drain(stream: &mut TcpStream) -> Result<(Vec<u8>, Ending)> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((bytes, Ending::Closed)),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok((bytes, Ending::Reset)),
            Err(error) => {
                return Err(error).with_context(|| format!("no end after {} bytes", bytes.len()));
            }
        }
    }
}
