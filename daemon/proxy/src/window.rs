//! What the kernel keeps of a flow that carries bulk. Left alone it lets the sender's window grow to many megabytes as
//! soon as some of them were read fast, and keeps more of them for a receiver on loopback: a few slow readers would have it
//! hold gigabytes for us, and whoever sends would take long to fill them. It refuses to know what the bytes are.
#![allow(unsafe_code, reason = "a socket option that has no safe wrapper")]

use std::io;
use std::os::fd::AsRawFd;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Kept for a receiver beyond what is on its way to it (tcp(7), TCP_NOTSENT_LOWAT).
const UNSENT: u32 = 64 * 1024;
/// Kept from a sender while nobody knows that its receiver is as fast. The kernel doubles it, for its own needs.
const RECEIVED: usize = 128 * 1024;
/// Whoever took so many bytes and made nobody wait is fast: a long way to the sender needs as much as the kernel likes. The
/// sender's own slow start reaches [`RECEIVED`] hardly earlier.
const FAST: usize = 1024 * 1024;
/// So many bytes are bulk.
const BULK: usize = 64 * 1024;

/// The bounds of one direction.
#[derive(Debug)]
pub(crate) enum Bounds {
    /// It has carried so much, which is not much.
    Small(usize),
    /// The kernel keeps little, and its receiver took so many bytes since it last made us wait.
    Bounded(usize),
    /// The kernel keeps what it likes to.
    Free,
}

impl Default for Bounds {
    fn default() -> Self {
        Self::Small(0)
    }
}

impl Bounds {
    /// Its receiver is as fast as its sender.
    pub(crate) fn is_free(&self) -> bool {
        matches!(self, Self::Free)
    }

    /// The receiver was given so many bytes, and took them `at_once` or not.
    pub(crate) fn written(&mut self, count: usize, at_once: bool, from: &TcpStream, to: &TcpStream) {
        match self {
            Self::Small(before) => {
                *before = before.saturating_add(count);
                if *before >= BULK || !at_once {
                    *self = Self::bound(from, to);
                }
            }
            Self::Bounded(_) if !at_once => *self = Self::Bounded(0),
            Self::Bounded(taken) => {
                *taken = taken.saturating_add(count);
                if *taken >= FAST {
                    let _ = lock(from, false);
                    // As it was: what the whole machine has.
                    let _ = SockRef::from(to).set_tcp_notsent_lowat(0);
                    *self = Self::Free;
                }
            }
            Self::Free => {}
        }
    }

    fn bound(from: &TcpStream, to: &TcpStream) -> Self {
        // A kernel that cannot undo it (before Linux 5.14) is not asked for it, and keeps what it likes to.
        let bounded = lock(from, true).and_then(|()| SockRef::from(from).set_recv_buffer_size(RECEIVED));
        if bounded.and_then(|()| SockRef::from(to).set_tcp_notsent_lowat(UNSENT)).is_ok() {
            Self::Bounded(0)
        } else {
            Self::Free
        }
    }
}

/// Whether the kernel changes the size of a receive buffer by itself (socket(7), SO_BUF_LOCK, Linux 5.14).
fn lock(socket: &TcpStream, locked: bool) -> io::Result<()> {
    /// `SOCK_RCVBUF_LOCK` of linux/socket.h.
    const RECEIVE: libc::c_int = 2;
    let value = if locked { RECEIVE } else { 0 };
    let length: libc::socklen_t = 4;
    // SAFETY: the descriptor lives for the length of the call, and the kernel reads the `length` = 4 bytes of a `c_int`.
    let answer = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BUF_LOCK, (&raw const value).cast(), length)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
