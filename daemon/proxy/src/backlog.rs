//! What of a sender's may wait in our sockets before its receiver has shown that it reads. The kernel sizes a receive
//! buffer by what was taken from it within a round trip (a millisecond at least), and whatever the receiver's kernel and
//! our send buffer swallow at the beginning counts: a client that reads next to nothing has 2 to 5 MB of a near server's
//! answer wait here, in memory that is charged to us and has to be copied before other connections get their turn. So the
//! window stays small until the receiver has taken more than can be swallowed; who has done so once is left to the kernel
//! for good, and so is a server that is far, where a small window costs round trips. It knows sockets, not tunnels.
#![allow(unsafe_code, reason = "TCP_INFO and SO_BUF_LOCK have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use libc::{IPPROTO_TCP, SO_BUF_LOCK, SOL_SOCKET, TCP_INFO, c_int, c_void, socklen_t};
use socket2::SockRef;

/// Bytes that the kernel takes of us for one receiver beyond those that are on their way: a tunnel's window.
pub(crate) const UNSENT: u32 = 256 << 10;
/// Who has sent no more than this so far is not looked at.
const SMALL: usize = 16 << 10;
/// Who has taken so many bytes reads: it is more than the receiver's kernel holds unread (128 KiB, the default of
/// `net.ipv4.tcp_rmem`), [`FIRST_UNSENT`] and one packet beyond it, together 256 KiB, and what a program reads at once.
const SHOWN: usize = 512 << 10;
/// Bytes that may wait unsent until then.
const FIRST_UNSENT: u32 = 64 << 10;
/// Bytes that the receive buffer has until then, twice what the kernel begins with: Linux 6.17 to 6.19 drops packets of
/// 64 KiB where no more than two of them fit.
const BUFFER: usize = 256 << 10;
/// With such a buffer and such round trips, the first [`SHOWN`] bytes take some milliseconds.
const NEAR: Duration = Duration::from_millis(1);
/// `SOCK_RCVBUF_LOCK` (linux/socket.h): the kernel does not size the receive buffer by itself.
const RECEIVE: c_int = 2;

/// One direction of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backlog {
    /// So many bytes were sent.
    Small(usize),
    Bounded {
        /// Bytes that the receiver has still to take, and those that it was sent since [`Backlog::flushed`].
        left: usize,
        sent: usize,
    },
    /// As the kernel sees fit.
    Free,
}

impl Default for Backlog {
    fn default() -> Self {
        Self::Small(0)
    }
}

impl Backlog {
    /// So much was read of `from` and goes to `to`. Where the kernel is older than 5.15, all stays as it is.
    pub(crate) fn sent(&mut self, bytes: usize, from: &impl AsFd, to: &impl AsFd) {
        match self {
            Self::Small(all) => {
                *all = all.saturating_add(bytes);
                if *all > SMALL {
                    *self = begin(round_trip(from), from, to);
                }
            }
            Self::Bounded { sent, .. } => *sent = sent.saturating_add(bytes),
            Self::Free => {}
        }
    }

    /// The socket has taken all that was sent.
    pub(crate) fn flushed(&mut self, from: &impl AsFd, to: &impl AsFd) {
        let Self::Bounded { left, sent } = self else { return };
        *left = left.saturating_sub(std::mem::take(sent));
        if *left == 0 {
            let _ = set_lock(from, 0);
            let _ = SockRef::from(to).set_tcp_notsent_lowat(UNSENT);
            *self = Self::Free;
        }
    }
}

fn begin(round_trip: io::Result<Duration>, from: &impl AsFd, to: &impl AsFd) -> Backlog {
    if !round_trip.is_ok_and(|time| time < NEAR) || set_lock(from, RECEIVE).is_err() {
        return Backlog::Free;
    }
    let from = SockRef::from(from);
    if from.recv_buffer_size().is_ok_and(|size| size < BUFFER) {
        // The kernel doubles what it is told (socket(7)).
        let _ = from.set_recv_buffer_size(BUFFER / 2);
    }
    let _ = SockRef::from(to).set_tcp_notsent_lowat(FIRST_UNSENT);
    Backlog::Bounded { left: SHOWN, sent: 0 }
}

/// The shortest that the kernel has seen on this connection in the last five minutes (`net.ipv4.tcp_min_rtt_wlen`).
fn round_trip(socket: &impl AsFd) -> io::Result<Duration> {
    /// `tcpi_min_rtt` (linux/tcp.h), which libc's `tcp_info` ends before: microseconds, behind 148 bytes of others.
    const MIN_RTT: usize = 37;
    let mut info = [0; MIN_RTT + 1];
    get(socket, IPPROTO_TCP, TCP_INFO, &mut info)?;
    Ok(Duration::from_micros(info[MIN_RTT].into()))
}

/// Fills `value`, or fails.
fn get(socket: &impl AsFd, level: c_int, name: c_int, value: &mut [u32]) -> io::Result<()> {
    let whole = socklen_t::try_from(size_of_val(value)).unwrap_or(0);
    let mut length = whole;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for the length of the call, and the kernel writes at most `length` bytes, the size
    // of `value`, which may hold any bytes.
    match unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut length) } {
        0 if length == whole => Ok(()),
        0 => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Which buffers the kernel does not size by itself.
fn set_lock(socket: &impl AsFd, which: c_int) -> io::Result<()> {
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

    fn lock(socket: &TcpStream) -> u32 {
        let mut value = [0];
        get(socket, SOL_SOCKET, SO_BUF_LOCK, &mut value).unwrap();
        value[0]
    }

    #[test]
    fn it_is_bounded_until_the_receiver_has_taken_more_than_can_be_swallowed() {
        let ((from, _server), (to, _client)) = (connected(), connected());
        let mut backlog = begin(Ok(NEAR / 2), &from, &to);
        assert_eq!((backlog, lock(&from)), (Backlog::Bounded { left: SHOWN, sent: 0 }, 2));
        assert_eq!(SockRef::from(&from).recv_buffer_size().unwrap(), BUFFER);
        assert_eq!(SockRef::from(&to).tcp_notsent_lowat().unwrap(), FIRST_UNSENT);
        backlog.sent(SHOWN, &from, &to);
        assert_eq!(backlog, Backlog::Bounded { left: SHOWN, sent: SHOWN }, "it may be kept, and not be taken");
        backlog.flushed(&from, &to);
        assert_eq!((backlog, lock(&from)), (Backlog::Free, 0));
        assert_eq!(SockRef::from(&to).tcp_notsent_lowat().unwrap(), UNSENT);
    }

    #[test]
    fn what_comes_from_far_and_small_messages_are_left_alone() {
        let ((from, _server), (to, _client)) = (connected(), connected());
        for far in [Ok(NEAR), Err(io::ErrorKind::Unsupported.into())] {
            assert_eq!((begin(far, &from, &to), lock(&from)), (Backlog::Free, 0));
        }
        let mut backlog = Backlog::default();
        backlog.sent(SMALL, &from, &to);
        backlog.flushed(&from, &to);
        assert_eq!(backlog, Backlog::Small(SMALL));
        backlog.sent(1, &from, &to);
        assert_ne!(backlog, Backlog::Small(SMALL + 1));
    }

    #[test]
    fn a_connection_to_this_machine_has_a_round_trip() {
        let (from, _to) = connected();
        let time = round_trip(&from).unwrap();
        assert!(time > Duration::ZERO && time < Duration::from_secs(60), "{time:?}");
    }
}
