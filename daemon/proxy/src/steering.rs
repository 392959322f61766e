//! The seam to whoever brings connections to our listeners: the kernel's hooks, or a fixed upstream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nodetap_core::exchange::{Connection, Direction, UnixMicros, Via};
use nodetap_core::ulid::Ulid;

use crate::tls;

/// A connection that one of our listeners accepted; nothing was read from it yet.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Which listener: its place in the list that the engine was given.
    pub listener: usize,
    /// The other end, as the kernel shows it to us.
    pub client: SocketAddr,
    /// Our end, as the kernel shows it to us (the original destination, where `sk_lookup` steered it).
    pub local: SocketAddr,
    pub at: UnixMicros,
    /// The identifier that its connection will have, unless it belongs to one that has one.
    pub id: Ulid,
}

/// Where a connection goes on to.
#[derive(Debug, Clone)]
pub struct Destination {
    pub connection: Arc<Connection>,
    /// Whom to dial.
    pub dial: SocketAddr,
    /// The address to dial from; when it is given, [`Steering::bound`] is told the port before the first packet leaves.
    pub source: Option<IpAddr>,
    /// For the steering's own use.
    pub tag: u64,
    /// What is done with TLS on it.
    pub tls: tls::Policy,
}

/// Why a connection has no destination; it is reset and counted under this word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stray(pub &'static str);

/// Tells the engine what it cannot know, and is told what others need to know. Called on the data plane's threads: an
/// implementation may make a system call, but must not wait.
pub trait Steering: Send + Sync + 'static {
    /// Where does this connection go?
    ///
    /// # Errors
    /// When nobody knows: the connection is not one that was steered to us.
    fn destination(&self, arrival: &Arrival) -> Result<Destination, Stray>;

    /// Our upstream socket is bound, and will connect when this returns.
    ///
    /// # Errors
    /// When the connection could not be announced: it is then not made.
    fn bound(&self, _destination: &Destination, _local: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    /// The upstream connection stands; `local` is our end of it.
    fn connected(&self, _destination: &Destination, _local: SocketAddr) {}

    /// There is no connection to the destination: it refused, did not answer, or we could not even try.
    fn failed(&self, _destination: &Destination) {}

    /// A socket that was announced by [`Steering::bound`] is closed.
    fn ended(&self, _local: SocketAddr) {}
}

/// A reverse proxy by hand: everything that a listener accepts goes to that listener's upstream.
#[derive(Debug, Clone)]
pub struct Reverse {
    /// One upstream a listener, in the order of the engine's listeners.
    pub upstreams: Vec<SocketAddr>,
    /// What records call the target.
    pub target: String,
}

impl Steering for Reverse {
    fn destination(&self, arrival: &Arrival) -> Result<Destination, Stray> {
        let upstream = *self.upstreams.get(arrival.listener).ok_or(Stray("no_upstream"))?;
        let connection = Connection {
            id: arrival.id,
            direction: Direction::Inbound,
            via: Via::Reverse,
            target: self.target.clone(),
            process: None,
            client: arrival.client,
            server: upstream,
            accepted: arrival.at,
        };
        Ok(Destination {
            connection: Arc::new(connection),
            dial: upstream,
            source: None,
            tag: 0,
            tls: tls::Policy::Untouched,
        })
    }
}
