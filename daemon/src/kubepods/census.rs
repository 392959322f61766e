//! Which container listens where in a pod's network namespace, and which connections it has: what the kernel's hooks
//! cannot tell of sockets that are older than they are.

use std::collections::HashSet;
use std::io;

use crate::netlink::connections::{Connection, connections};
use crate::netlink::listeners::{Listener, listeners};
use crate::netns::Netns;

/// All TCP sockets of a namespace at one moment.
#[derive(Debug, Clone, Default)]
pub struct Census {
    pub listening: Vec<Listener>,
    pub established: Vec<Connection>,
}

impl Census {
    /// Counts.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn take(netns: &Netns) -> io::Result<Self> {
        netns.enter(|| Ok(Self { listening: listeners()?.into_values().collect(), established: connections()? }))
    }

    /// Where those in these control groups listen, of [`super::Container::cgroups`].
    pub fn listening<'a>(&'a self, cgroups: &'a [u64]) -> impl Iterator<Item = &'a Listener> {
        self.listening.iter().filter(|listener| cgroups.contains(&listener.cgroup))
    }

    /// Their connections.
    pub fn established<'a>(&'a self, cgroups: &'a [u64]) -> impl Iterator<Item = &'a Connection> {
        self.established.iter().filter(|connection| cgroups.contains(&connection.cgroup))
    }

    /// Did the container accept it, rather than open it?
    pub fn is_inbound(&self, connection: &Connection) -> bool {
        let local = connection.local.ip().to_canonical();
        self.listening
            .iter()
            .filter(|listener| listener.address.port() == connection.local.port())
            .any(|listener| listener.address.ip().is_unspecified() || listener.address.ip().to_canonical() == local)
    }
}

/// The connections of a container that were there before it was captured. The kernel does not tell the age of a socket,
/// so they are those that a census found at that moment; a later one says which of them are still open.
#[derive(Debug, Clone, Default)]
pub struct Older {
    cookies: HashSet<u64>,
}

/// Older connections that are kept of one container. More are counted, but not told apart later.
const KEPT: usize = 16_384;

impl Older {
    /// Those of this census, but for those that the hooks have seen.
    pub fn of(census: &Census, cgroups: &[u64], mut seen: impl FnMut(u64) -> bool) -> Self {
        let cookies = census.established(cgroups).map(|connection| connection.cookie);
        Self { cookies: cookies.filter(|cookie| !seen(*cookie)).take(KEPT).collect() }
    }

    /// How many are still open; the others are forgotten.
    pub fn open(&mut self, census: &Census) -> usize {
        let now: HashSet<u64> = census.established.iter().map(|connection| connection.cookie).collect();
        self.cookies.retain(|cookie| now.contains(cookie));
        self.cookies.len()
    }

    /// Those of them that the census shows.
    pub fn within<'a>(&'a self, census: &'a Census) -> impl Iterator<Item = &'a Connection> {
        census.established.iter().filter(|connection| self.cookies.contains(&connection.cookie))
    }
}
