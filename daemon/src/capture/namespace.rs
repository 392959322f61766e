//! Where a target lives: its network namespace, and what has to be made inside. Our own is entered without a system
//! call, so that `nodetap run` needs no right to enter others.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use nodetap_proxy::sockets::Sockets;
use socket2::{Domain, Socket, Type};

use crate::netns::{Netns, cookie};

/// A network namespace, held open.
pub trait Namespace: Send + Sync + std::fmt::Debug + 'static {
    /// The file that stands for it.
    fn file(&self) -> BorrowedFd<'_>;

    /// The kernel's identifier of it (SO_NETNS_COOKIE).
    fn cookie(&self) -> u64;

    /// Runs `work` inside, on this thread. It must not wait.
    ///
    /// # Errors
    /// When it cannot be entered, and those of `work`.
    fn enter(&self, work: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()>;
}

/// Makes something inside.
///
/// # Errors
/// As [`Namespace::enter`].
pub(super) fn within<T>(namespace: &dyn Namespace, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let (mut make, mut made) = (Some(make), None);
    namespace.enter(&mut || {
        made = make.take().map(|make| make()).transpose()?;
        Ok(())
    })?;
    made.ok_or_else(|| io::ErrorKind::Other.into())
}

/// The one that this process is in.
#[derive(Debug)]
pub struct Own {
    file: File,
    cookie: u64,
}

impl Own {
    /// Identifies it.
    ///
    /// # Errors
    /// On a kernel that does not tell it (before Linux 5.14).
    pub fn open() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/self/ns/net")?, cookie: cookie::here()? })
    }
}

impl Namespace for Own {
    fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn cookie(&self) -> u64 {
        self.cookie
    }

    fn enter(&self, work: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        work()
    }
}

impl Namespace for Netns {
    fn file(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn cookie(&self) -> u64 {
        Netns::cookie(self)
    }

    fn enter(&self, work: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        Netns::enter(self, work)
    }
}

/// Makes the data plane's sockets inside.
#[derive(Debug, Clone)]
pub struct Inside(pub Arc<dyn Namespace>);

impl Sockets for Inside {
    fn make(&self, domain: Domain, kind: Type) -> io::Result<Socket> {
        within(&*self.0, || Socket::new(domain, kind.nonblocking(), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_inside_comes_out_and_so_does_its_error() {
        let own = Own::open().unwrap();
        assert_eq!(within(&own, || Ok(7)).unwrap(), 7);
        let failed: io::Result<()> = within(&own, || Err(io::ErrorKind::AddrInUse.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
