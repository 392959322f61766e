//! What of a sender's may wait in our sockets before its receiver has shown that it reads. The kernel sizes a receive
//! buffer by what was taken from it within a round trip (a millisecond at least), and whatever the receiver's kernel and
//! our send buffer swallow at the beginning counts: a client that reads next to nothing has 2 to 5 MB of a near server's
//! answer wait here, in memory that is charged to us and has to be copied before the other connections get their turn.
//! So the buffer stays what it is until the receiver has taken more than can be swallowed. It knows sockets, not
//! tunnels, and it refuses to hold back a server that is far: there a small window costs round trips.
#![allow(unsafe_code, reason = "TCP_INFO and SO_BUF_LOCK have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use libc::{IPPROTO_TCP, SO_BUF_LOCK, SOL_SOCKET, TCP_INFO, c_int, c_void, socklen_t};
use socket2::SockRef;

use crate::dial::UNSENT;

/// Who has taken so many bytes reads: it is more than the receiver's kernel holds unread (128 KiB, the default of
/// `net.ipv4.tcp_rmem`) and [`FIRST_UNSENT`].
const SHOWN: usize = 256 << 10;
/// Bytes that may wait unsent until then.
const FIRST_UNSENT: u32 = 64 << 10;
/// With a window of 64 KiB and such round trips, the first [`SHOWN`] bytes take some milliseconds.
const NEAR: Duration = Duration::from_millis(1);
/// `SOCK_RCVBUF_LOCK` (linux/socket.h): the kernel does not size the receive buffer by itself.
const RECEIVE: c_int = 2;

/// One direction of a tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Backlog {
    /// Little was sent so far.
    #[default]
    Small,
    Bounded {
        /// Bytes that the receiver has still to take, and those that it was sent since [`Backlog::flushed`].
        left: usize,
        sent: usize,
    },
    /// As the kernel sees fit.
    Free,
}

impl Backlog {
    /// More was read at once than a small message holds. Where the kernel is older than 5.15, all stays as it is.
    pub(crate) fn begin(&mut self, from: &impl AsFd, to: &impl AsFd) {
        if *self != Self::Small {
            return;
        }
        *self = Self::Free;
        if round_trip(from).is_ok_and(|time| time < NEAR) && lock(from, RECEIVE).is_ok() {
            let _ = SockRef::from(to).set_tcp_notsent_lowat(FIRST_UNSENT);
            *self = Self::Bounded { left: SHOWN, sent: 0 };
        }
    }

    /// So much of it goes to the receiver.
    pub(crate) fn sent(&mut self, bytes: usize) {
        if let Self::Bounded { sent, .. } = self {
            *sent = sent.saturating_add(bytes);
        }
    }

    /// The socket has taken all of that.
    pub(crate) fn flushed(&mut self, from: &impl AsFd, to: &impl AsFd) {
        let Self::Bounded { left, sent } = self else { return };
        *left = left.saturating_sub(std::mem::take(sent));
        if *left == 0 {
            let _ = lock(from, 0);
            let _ = SockRef::from(to).set_tcp_notsent_lowat(UNSENT);
            *self = Self::Free;
        }
    }
}

/// The shortest that the kernel has seen on this connection.
fn round_trip(socket: &impl AsFd) -> io::Result<Duration> {
    /// `tcpi_min_rtt` (linux/tcp.h), which libc's `tcp_info` ends before: microseconds, behind 148 bytes of others.
    const MIN_RTT: usize = 37;
    let mut info = [0u32; MIN_RTT + 1];
    let whole = socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
    let mut length = whole;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for the length of the call, and the kernel writes at most `length` bytes, the size
    // of `info`, which may hold any bytes.
    let answer = unsafe { libc::getsockopt(fd, IPPROTO_TCP, TCP_INFO, info.as_mut_ptr().cast(), &raw mut length) };
    match answer {
        0 if length == whole => Ok(Duration::from_micros(info[MIN_RTT].into())),
        0 => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Which buffers the kernel does not size by itself.
fn lock(socket: &impl AsFd, which: c_int) -> io::Result<()> {
    let size = socklen_t::try_from(size_of_val(&which)).unwrap_or(0);
    let (fd, value) = (socket.as_fd().as_raw_fd(), (&raw const which).cast::<c_void>());
    // SAFETY: the descriptor is open for the length of the call, and the kernel reads the bytes of a `c_int`.
    let answer = unsafe { libc::setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, value, size) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn it_is_bounded_until_the_receiver_has_taken_more_than_can_be_swallowed() {
        let ((from, _server), (to, _client), mut backlog) = (connected(), connected(), Backlog::default());
        backlog.sent(SHOWN);
        backlog.flushed(&from, &to);
        assert_eq!(backlog, Backlog::Small);
        backlog.begin(&from, &to);
        assert_eq!(backlog, Backlog::Bounded { left: SHOWN, sent: 0 });
        assert_eq!(SockRef::from(&to).tcp_notsent_lowat().unwrap(), FIRST_UNSENT);
        backlog.sent(SHOWN);
        backlog.begin(&from, &to);
        assert_eq!(backlog, Backlog::Bounded { left: SHOWN, sent: SHOWN }, "it may be kept, and not be taken");
        backlog.flushed(&from, &to);
        backlog.begin(&from, &to);
        assert_eq!(backlog, Backlog::Free);
        assert_eq!(SockRef::from(&to).tcp_notsent_lowat().unwrap(), UNSENT);
    }

    #[test]
    fn a_connection_to_this_machine_is_near() {
        let (from, _to) = connected();
        let time = round_trip(&from).unwrap();
        // No handshake takes a second here, and none takes no time.
        assert!(time > Duration::ZERO && time < Duration::from_secs(1), "{time:?}");
    }
}
