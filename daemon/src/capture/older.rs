//! The connections of a target that were there before it was captured. The kernel does not tell the age of a socket, so
//! they are those that a census finds and the hooks have not seen begin; a later one says which of them are still open.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use super::census::Census;
use super::namespace::{Namespace, within};
use crate::netlink::connections::Connection;

#[derive(Debug, Clone, Default)]
pub struct Older {
    cookies: HashSet<u64>,
    /// Found, but not kept.
    beyond: usize,
}

/// Older connections of one target that are kept. More are counted, but nobody notices when they end.
const KEPT: usize = 4096;

/// What became of connections that were to be ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reset {
    pub ended: usize,
    /// Left alone: not idle, or an answer is owed on them.
    pub busy: usize,
}

impl Older {
    /// Those of this census, but for those that the hooks have seen.
    pub fn of(census: &Census, cgroups: &[u64], mut seen: impl FnMut(&Connection) -> bool) -> Self {
        let mut older = Self::default();
        for connection in census.established(cgroups).filter(|connection| !seen(connection)) {
            older.keep(connection.cookie);
        }
        older
    }

    /// These, too.
    pub fn extend(&mut self, more: Self) {
        self.beyond += more.beyond;
        more.cookies.into_iter().for_each(|cookie| self.keep(cookie));
    }

    fn keep(&mut self, cookie: u64) {
        if self.cookies.len() < KEPT {
            self.cookies.insert(cookie);
        } else {
            self.beyond += 1;
        }
    }

    /// How many there are, as far as is known.
    pub fn count(&self) -> usize {
        self.cookies.len() + self.beyond
    }

    /// Forgets those that this census does not show any more.
    pub fn retain(&mut self, census: &Census) {
        let now: HashSet<u64> = census.established.iter().map(|connection| connection.cookie).collect();
        self.cookies.retain(|cookie| now.contains(cookie));
        if self.cookies.is_empty() {
            self.beyond = 0;
        }
    }

    /// Those of them that the census shows.
    pub fn within<'a>(&'a self, census: &'a Census) -> impl Iterator<Item = &'a Connection> {
        census.established.iter().filter(|connection| self.cookies.contains(&connection.cookie))
    }

    /// Ends those that the target had accepted and on which nothing has happened for so long: whoever keeps them in a
    /// pool opens others. What has been asked and not answered stays. It takes CAP_NET_ADMIN.
    ///
    /// # Errors
    /// What the kernel answers; `Unsupported` where it was built without CONFIG_INET_DIAG_DESTROY.
    pub fn reset(&self, namespace: &dyn Namespace, census: &Census, idle: Duration) -> io::Result<Reset> {
        let mut reset = Reset::default();
        for connection in self.within(census).filter(|connection| census.is_inbound(connection)) {
            if connection.idle < idle || connection.owes {
                reset.busy += 1;
                continue;
            }
            match within(namespace, || connection.destroy()) {
                Ok(()) => reset.ended += 1,
                // It ended by itself.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(io::Error::new(error.kind(), "the capability NET_ADMIN is missing"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(reset)
    }
}
