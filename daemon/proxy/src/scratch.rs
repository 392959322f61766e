//! What the connections of a worker share to read into, so that an idle one holds no memory. It refuses to know what is
//! read, and by whom.

use std::cell::RefCell;

/// Bytes of a worker's one read buffer.
pub(crate) const PLAIN: usize = 256 * 1024;
/// Bytes that one read of TLS asks for.
pub(crate) const READ: usize = 64 * 1024;
/// Room for that many behind what was kept: the part of a record, or of a handshake message in several records, which rustls
/// limits to 64 KiB.
const INPUT: usize = READ + 80 * 1024;

/// A worker's one read buffer, shared by its connections. Borrowed for the length of one `poll`, in which nothing waits.
#[derive(Debug)]
pub struct Scratch {
    plain: RefCell<Vec<u8>>,
    /// Made when the first connection of the worker is opened.
    tls: RefCell<Option<Buffers>>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { plain: RefCell::new(vec![0; PLAIN]), tls: RefCell::default() }
    }
}

impl Scratch {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut [u8]) -> T) -> T {
        f(&mut self.plain.borrow_mut())
    }

    pub(crate) fn with_tls<T>(&self, f: impl FnOnce(&mut Buffers) -> T) -> T {
        f(self.tls.borrow_mut().get_or_insert_default())
    }
}

/// A worker's buffers for TLS, shared as [`Scratch`] is. Empty between two polls.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) input: Vec<u8>,
    /// What was decrypted (or read from a socket without TLS).
    pub(crate) plain: Vec<u8>,
    pub(crate) out: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { input: vec![0; INPUT], plain: Vec::with_capacity(READ), out: Vec::with_capacity(READ) }
    }
}
