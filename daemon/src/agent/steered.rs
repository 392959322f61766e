//! The steering of a pod's connections that the kernel brings: the hooks' own, with what can change while the pod is
//! captured laid over it (who it is called, how its TLS is treated).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use nodetap_core::exchange::{Connection, Direction, Target};
use nodetap_proxy::steering::{Arrival, Destination, Forward, OurOwn, Route, Steering, Stray};
use socket2::Socket;

use super::explicit::Tls;

/// What is laid over it.
#[derive(Debug, Clone)]
struct Over {
    target: Arc<Target>,
    tls: Tls,
}

/// The hooks' steering, and what is laid over it.
pub(super) struct Steered {
    hooks: Arc<dyn Steering>,
    over: RwLock<Over>,
}

impl std::fmt::Debug for Steered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steered").field("over", &self.over).finish_non_exhaustive()
    }
}

impl Steered {
    pub(super) fn new(hooks: Arc<dyn Steering>, target: Arc<Target>, tls: Tls) -> Self {
        Self { hooks, over: RwLock::new(Over { target, tls }) }
    }

    /// From now on.
    pub(super) fn set(&self, target: Arc<Target>, tls: Tls) {
        *self.over.write().unwrap_or_else(PoisonError::into_inner) = Over { target, tls };
    }

    fn laid_over(&self, destination: Destination) -> Destination {
        let over = self.over.read().unwrap_or_else(PoisonError::into_inner);
        let tls = match destination.connection.direction {
            Direction::Inbound => over.tls.inbound.clone(),
            Direction::Outbound => over.tls.out.clone(),
        };
        let connection = Connection { target: Arc::clone(&over.target), ..Connection::clone(&destination.connection) };
        Destination { connection: Arc::new(connection), tls, ..destination }
    }
}

impl Steering for Steered {
    fn destination(&self, arrival: &Arrival) -> Result<Destination, Stray> {
        self.hooks.destination(arrival).map(|destination| self.laid_over(destination))
    }

    fn route(&self, arrival: &Arrival) -> Result<Route, Stray> {
        self.destination(arrival).map(Route::To)
    }

    fn onward(
        &self,
        forward: &Forward,
        via: nodetap_core::exchange::Via,
        to: SocketAddr,
    ) -> Result<Destination, OurOwn> {
        self.hooks.onward(forward, via, to)
    }

    fn socket(&self, to: SocketAddr) -> io::Result<Socket> {
        self.hooks.socket(to)
    }

    fn bound(&self, destination: &Destination, local: SocketAddr) -> io::Result<()> {
        self.hooks.bound(destination, local)
    }

    fn connected(&self, destination: &Destination, local: SocketAddr) {
        self.hooks.connected(destination, local);
    }

    fn failed(&self, destination: &Destination) {
        self.hooks.failed(destination);
    }

    fn ended(&self, local: SocketAddr) {
        self.hooks.ended(local);
    }
}
