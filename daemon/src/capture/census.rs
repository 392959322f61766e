//! Which control group listens where in a network namespace, and which connections it has: what the hooks cannot tell of
//! sockets that are older than they are.

use std::io;

use super::namespace::{Namespace, within};
use crate::netlink::connections::{Connection, connections};
use crate::netlink::listeners::{Listener, listeners};

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
    pub fn take(namespace: &dyn Namespace) -> io::Result<Self> {
        within(namespace, || Ok(Self { listening: listeners()?.into_values().collect(), established: connections()? }))
    }

    /// Where those in these control groups listen, by their inodes.
    pub fn listening<'a>(&'a self, cgroups: &'a [u64]) -> impl Iterator<Item = &'a Listener> {
        self.listening.iter().filter(|listener| cgroups.contains(&listener.cgroup))
    }

    /// Their connections.
    pub fn established<'a>(&'a self, cgroups: &'a [u64]) -> impl Iterator<Item = &'a Connection> {
        self.established.iter().filter(|connection| cgroups.contains(&connection.cgroup))
    }

    /// Did they accept it, rather than open it?
    pub fn is_inbound(&self, connection: &Connection) -> bool {
        let local = connection.local.ip().to_canonical();
        self.listening
            .iter()
            .filter(|listener| listener.address.port() == connection.local.port())
            .any(|listener| listener.address.ip().is_unspecified() || listener.address.ip().to_canonical() == local)
    }
}
