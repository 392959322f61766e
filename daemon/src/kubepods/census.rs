//! Which container listens where in a pod's network namespace, and which connections it has: what the kernel's hooks
//! cannot tell of sockets that are older than they are.

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
    /// Counts. The kernel goes through all connections of the machine for it, a millisecond or so: when it is needed, and
    /// not every second for every pod.
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
