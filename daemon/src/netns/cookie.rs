//! One socket option that has no safe wrapper.
#![allow(unsafe_code, reason = "getsockopt() writes through a pointer")]

use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

/// The kernel's identifier of this thread's network namespace, the same that its hooks see (SO_NETNS_COOKIE,
/// Linux 5.14). It is never given to another namespace, as inodes are.
///
/// # Errors
/// `ENOPROTOOPT` on an older kernel.
pub fn here() -> io::Result<u64> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    let mut cookie = 0u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the descriptor lives for the length of the call, and the kernel writes at most `length` = 8 bytes.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
