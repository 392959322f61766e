//! Makes the upstream connection, at once, and ends connections the way the network would: with a reset where the
//! other side was reset. It refuses to know why a destination was chosen.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};

use crate::steering::{Destination, Steering};

/// An upstream connection, and the address that has to be given back when it ends.
#[derive(Debug)]
pub struct Dialled {
    pub stream: TcpStream,
    /// Announced by [`Steering::bound`].
    pub announced: Option<SocketAddr>,
}

/// Dials, and gives up when `downstream` breaks meanwhile (it is not read from).
///
/// # Errors
/// The kernel's answer to `connect()`; `ConnectionAborted` when the client went away first. What was announced has been
/// given back then.
pub async fn dial(destination: &Destination, steering: &dyn Steering, downstream: &TcpStream) -> io::Result<Dialled> {
    let socket = match destination.dial {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A tunnel adds no delay of its own; what the ends do with Nagle is theirs.
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    let announced = match destination.source {
        None => None,
        Some(source) => {
            // Ports of our own earlier connections, still in TIME_WAIT, may be used again.
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(source, 0))?;
            let local = socket.local_addr()?;
            steering.bound(destination, local)?;
            Some(local)
        }
    };
    let connected = tokio::select! {
        biased;
        connected = socket.connect(destination.dial) => connected,
        _ = downstream.ready(Interest::ERROR) => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    match connected {
        Ok(stream) => {
            if let Ok(local) = stream.local_addr() {
                steering.connected(destination, local);
            }
            Ok(Dialled { stream, announced })
        }
        Err(error) => {
            if let Some(local) = announced {
                steering.ended(local);
            }
            Err(error)
        }
    }
}

/// Closes with RST instead of FIN: the other end learns that this was no orderly end.
pub fn reset(stream: TcpStream) {
    // If the option cannot be set the connection is gone already.
    let _ = stream.set_zero_linger();
    drop(stream);
}

/// How often [`reset_after_sending`] looks.
const SENDING_POLL: Duration = Duration::from_millis(5);

/// Closes with RST once the kernel has sent on what was written before, or after `limit`: what the other end had
/// already answered is not taken back.
pub async fn reset_after_sending(stream: TcpStream, limit: Duration) {
    // With the smallest send buffer the kernel calls a socket writable only when (almost) nothing waits in it. There
    // is no event for that without a write that fails, hence the polling; this path is taken by broken connections.
    let shrunk = socket2::SockRef::from(&stream).set_send_buffer_size(1).is_ok();
    let deadline = tokio::time::Instant::now() + limit;
    while shrunk && !has_sent(&stream) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(SENDING_POLL).await;
    }
    reset(stream);
}

fn has_sent(stream: &TcpStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::OUT)];
    // An error is an answer too: there is nothing left to wait for.
    rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_or(true, |ready| ready > 0)
}

/// Is this an address that only this host can mean?
pub fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}
