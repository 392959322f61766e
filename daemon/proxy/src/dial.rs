//! Makes the upstream connection, at once, and ends connections the way the network would: with a reset where the
//! other side was reset. It refuses to know why a destination was chosen.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};

use crate::backlog::UNSENT;
use crate::steering::{Destination, Steering};

/// An upstream connection, and the address that is given back when it has ended.
#[derive(Debug)]
pub struct Dialled<'a> {
    pub stream: TcpStream,
    pub announced: Option<Announced<'a>>,
}

/// An upstream socket's own address, announced by [`Steering::bound`]: given back with this value, which is to outlive the
/// socket, however that ends.
pub struct Announced<'a> {
    steering: &'a dyn Steering,
    local: SocketAddr,
}

/// Why there is no upstream connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the kernel answered to `connect()`.
    #[error("cannot connect to {to}: {source}")]
    Connect { to: SocketAddr, source: io::Error },
    /// We could not even try: no descriptor, no port, no room for the announcement.
    #[error("nodetap itself could not dial {to}: {source}")]
    Ourselves { to: SocketAddr, source: io::Error },
    /// The client went away first.
    #[error("the client gave up before the server had answered")]
    ClientGone,
}

/// Ports that are tried for one dial. They are chosen here, because the kernel gives none that is in TIME_WAIT, though
/// such a port may be bound and connected from when it is named; and because its search takes milliseconds when few are
/// left (measured: 6.6 ms).
const ATTEMPTS: u16 = 256;
/// The kernel's default `ip_local_port_range`.
const PORT_RANGE: std::ops::Range<u32> = 32_768..61_000;
/// Where the search for a port goes on.
static NEXT_PORT: AtomicU32 = AtomicU32::new(0);
/// A silent connection is asked after this time whether its other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(600);

/// Dials, and gives up when `downstream` breaks meanwhile (it is not read from).
///
/// # Errors
/// See [`Error`]. What was announced has been given back then.
pub async fn dial<'a>(
    destination: &Destination,
    steering: &'a dyn Steering,
    downstream: &TcpStream,
) -> Result<Dialled<'a>, Error> {
    let broken = async {
        let _ = downstream.ready(Interest::ERROR).await;
    };
    dial_until(destination, steering, broken).await
}

/// Dials, and gives up when `gone` returns: nobody waits for it any more.
///
/// # Errors
/// As [`dial`].
pub async fn dial_until<'a>(
    destination: &Destination,
    steering: &'a dyn Steering,
    gone: impl Future<Output = ()>,
) -> Result<Dialled<'a>, Error> {
    tokio::select! {
        biased;
        dialled = attempt(destination, steering) => dialled,
        () = gone => Err(Error::ClientGone),
    }
}

async fn attempt<'a>(destination: &Destination, steering: &'a dyn Steering) -> Result<Dialled<'a>, Error> {
    let to = destination.dial;
    let Some(source) = destination.source else {
        let socket = socket(to, steering).map_err(|source| Error::Ourselves { to, source })?;
        let stream = connect(socket, to).await?;
        if let Ok(local) = stream.local_addr() {
            steering.connected(destination, local);
        }
        return Ok(Dialled { stream, announced: None });
    };
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        let (socket, local) = match bind(to, source, steering) {
            Ok(bound) => bound,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                last = error;
                continue;
            }
            Err(source) => return Err(Error::Ourselves { to, source }),
        };
        let announced = Announced { steering, local };
        if let Err(source) = steering.bound(destination, local) {
            drop(socket);
            return Err(Error::Ourselves { to, source });
        }
        match connect(socket, to).await {
            Ok(stream) => {
                steering.connected(destination, local);
                return Ok(Dialled { stream, announced: Some(announced) });
            }
            // This very pair of addresses is still in TIME_WAIT.
            Err(Error::Connect { source, .. }) if source.kind() == io::ErrorKind::AddrNotAvailable => last = source,
            Err(error) => return Err(error),
        }
    }
    Err(Error::Ourselves { to, source: last })
}

impl fmt::Debug for Announced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Announced").field(&self.local).finish()
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.steering.ended(self.local);
    }
}

fn socket(to: SocketAddr, steering: &dyn Steering) -> io::Result<TcpSocket> {
    let socket = steering.socket(to)?;
    prepare(&socket);
    // A stream that is not connected yet is what tokio wants a foreign socket to be given as.
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// Makes a socket fit for a tunnel. Without any of it the connection works as well, but for odd programs.
pub fn prepare(socket: &impl std::os::fd::AsFd) {
    let socket = socket2::SockRef::from(socket);
    // A tunnel adds no delay of its own; what the ends do with Nagle is theirs.
    let _ = socket.set_tcp_nodelay(true);
    // The kernel finds out when the other end has gone without a word.
    let _ = socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE));
    // What a slow reader has not taken waits with its sender and not here, in kernel memory that is charged to us.
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    // Urgent bytes stay in the stream instead of being taken out of it.
    let _ = socket.set_out_of_band_inline(true);
}

fn bind(to: SocketAddr, source: IpAddr, steering: &dyn Steering) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = socket(to, steering)?;
    socket.set_reuseaddr(true)?;
    let next = NEXT_PORT.fetch_add(1, Ordering::Relaxed) % (PORT_RANGE.end - PORT_RANGE.start);
    let port = u16::try_from(PORT_RANGE.start + next).unwrap_or(0);
    socket.bind(SocketAddr::new(source, port))?;
    let local = socket.local_addr()?;
    Ok((socket, local))
}

async fn connect(socket: TcpSocket, to: SocketAddr) -> Result<TcpStream, Error> {
    socket.connect(to).await.map_err(|source| Error::Connect { to, source })
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
    // Now, because whoever waits for this may give up.
    let _ = stream.set_zero_linger();
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
