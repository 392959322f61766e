//! Where sockets are made: in the network namespace of whoever they are for. Only the making depends on the namespace;
//! what is done with a socket afterwards does not. It refuses to know what a socket is for.

use std::io;

use socket2::{Domain, Socket, Type};

/// Makes sockets for one target. Called on the data plane's threads, and synchronous on purpose: an implementation may
/// enter another network namespace for the length of the call, in which nothing may wait.
pub trait Sockets: Send + Sync + std::fmt::Debug + 'static {
    /// A socket that is non-blocking and closed on exec, neither bound nor connected.
    ///
    /// # Errors
    /// What the kernel answers to `socket()`, or to entering the namespace.
    fn make(&self, domain: Domain, kind: Type) -> io::Result<Socket>;
}

/// In the network namespace of the thread that asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Here;

impl Sockets for Here {
    fn make(&self, domain: Domain, kind: Type) -> io::Result<Socket> {
        Socket::new(domain, kind.nonblocking(), None)
    }
}
