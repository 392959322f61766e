//! The seam to whoever brings connections to our listeners: the kernel's hooks, a fixed upstream, or a client that asks
//! for one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nodetap_core::exchange::{Connection, Direction, Target, UnixMicros, Via};
use nodetap_core::ulid::Ulid;
use socket2::{Domain, Socket, Type};

use crate::forward::names::Names;
use crate::sockets::{Here, Sockets};
use crate::tls;

/// A connection that one of our listeners accepted; nothing was read from it yet.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Which listener: its place in the list that its group was given.
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

/// What becomes of a connection.
#[derive(Debug, Clone)]
pub enum Route {
    /// It goes on.
    To(Destination),
    /// Its client says where it goes.
    Forward(Box<Forward>),
}

/// A connection to the forward proxy, as long as its client has not said where it goes.
#[derive(Debug, Clone)]
pub struct Forward {
    /// What is known of it; `server` and `via` are to be found out.
    pub connection: Connection,
    /// How its client's names are resolved.
    pub names: Arc<Names>,
    /// How long a destination may take to be resolved and to answer.
    pub patience: Duration,
    /// Tells this proxy from others in a `Via` field (RFC 9110 §7.6.3).
    pub instance: Arc<str>,
    /// What is done with TLS in its tunnels.
    pub tls: tls::Policy,
    /// For the steering's own use.
    pub tag: u64,
}

impl Forward {
    /// What is known of the connection once it goes to `server`.
    pub fn toward(&self, via: Via, server: SocketAddr) -> Connection {
        Connection { via, server, ..self.connection.clone() }
    }
}

/// A destination is the proxy itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OurOwn;

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

    /// What becomes of this connection?
    ///
    /// # Errors
    /// As [`Steering::destination`].
    fn route(&self, arrival: &Arrival) -> Result<Route, Stray> {
        self.destination(arrival).map(Route::To)
    }

    /// A client of the forward proxy wants to go `to` this address.
    ///
    /// # Errors
    /// When that is a listener of ours: it would go round for ever.
    fn onward(&self, forward: &Forward, via: Via, to: SocketAddr) -> Result<Destination, OurOwn> {
        let connection = Arc::new(forward.toward(via, to));
        Ok(Destination { connection, dial: to, source: None, tag: forward.tag, tls: forward.tls.clone() })
    }

    /// Is this connection left alone, as the user wishes: passed on as ever, and not recorded?
    fn ignores(&self, _connection: &Connection) -> bool {
        false
    }

    /// Whether a connection to the forward proxy is left alone: by the first place that it goes to. Told once of each.
    fn settled(&self, _ignored: bool) {}

    /// A socket for the upstream connection `to` this address, as [`Sockets::make`] makes them.
    ///
    /// # Errors
    /// What the kernel answers.
    fn socket(&self, to: SocketAddr) -> io::Result<Socket> {
        Here.make(Domain::for_address(to), Type::STREAM)
    }

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

/// Proxies by hand: what each listener of the group is for, in their order.
#[derive(Debug, Clone)]
pub struct Explicit {
    pub listeners: Vec<Listener>,
    /// What records call the target.
    pub target: Arc<Target>,
    /// Made where the listeners are: what is an address of ours there is told by them.
    pub sockets: Arc<dyn Sockets>,
    /// How clients' names are resolved.
    pub names: Arc<Names>,
    /// See [`Forward::patience`].
    pub patience: Duration,
    /// See [`Forward::instance`].
    pub instance: Arc<str>,
    /// What is done with the TLS of the forward proxy's clients.
    pub tls_out: tls::Policy,
    /// What is done with TLS that arrives at a reverse proxy.
    pub tls_in: tls::Policy,
}

/// A listener of ours, and what is done with what arrives there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens, with its port.
    pub address: SocketAddr,
    pub serves: Serves,
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Everything goes to this upstream, and is inbound.
    Reverse(SocketAddr),
    /// Clients say where they want to go; that is outbound.
    Forward,
}

impl Explicit {
    fn serves(&self, arrival: &Arrival) -> Result<Serves, Stray> {
        self.listeners.get(arrival.listener).map(|listener| listener.serves).ok_or(Stray("no_upstream"))
    }

    fn connection(&self, arrival: &Arrival, direction: Direction, via: Via, server: SocketAddr) -> Connection {
        let Arrival { id, client, at: accepted, .. } = *arrival;
        Connection {
            id,
            direction,
            via,
            target: Arc::clone(&self.target),
            container: None,
            process: None,
            client,
            client_name: None,
            server,
            server_name: None,
            accepted,
        }
    }
}

impl Steering for Explicit {
    fn destination(&self, arrival: &Arrival) -> Result<Destination, Stray> {
        match self.serves(arrival)? {
            Serves::Reverse(upstream) => {
                let connection = self.connection(arrival, Direction::Inbound, Via::Reverse, upstream);
                let (connection, tls) = (Arc::new(connection), self.tls_in.clone());
                Ok(Destination { connection, dial: upstream, source: None, tag: 0, tls })
            }
            Serves::Forward => Err(Stray("not_asked")),
        }
    }

    fn route(&self, arrival: &Arrival) -> Result<Route, Stray> {
        match self.serves(arrival)? {
            Serves::Reverse(_) => self.destination(arrival).map(Route::To),
            Serves::Forward => {
                let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                let connection = self.connection(arrival, Direction::Outbound, Via::ForwardHttp, unknown);
                let (names, instance) = (Arc::clone(&self.names), Arc::clone(&self.instance));
                let (patience, tls) = (self.patience, self.tls_out.clone());
                Ok(Route::Forward(Box::new(Forward { connection, names, patience, instance, tls, tag: 0 })))
            }
        }
    }

    fn onward(&self, forward: &Forward, via: Via, to: SocketAddr) -> Result<Destination, OurOwn> {
        let is_of_this_host = |address: IpAddr| is_of_this_host(&*self.sockets, address);
        if self.listeners.iter().any(|listener| leads_to(to, listener.address, is_of_this_host)) {
            return Err(OurOwn);
        }
        let connection = Arc::new(forward.toward(via, to));
        Ok(Destination { connection, dial: to, source: None, tag: forward.tag, tls: forward.tls.clone() })
    }
}

/// The first listener that passes on to itself, be it by way of others: its first connection would take all descriptors.
pub fn circle(listeners: &[Listener]) -> Option<SocketAddr> {
    let next = |listener: &Listener| match listener.serves {
        Serves::Reverse(to) => {
            listeners.iter().find(|other| leads_to(to, other.address, |address| is_of_this_host(&Here, address)))
        }
        Serves::Forward => None,
    };
    // Whoever is still under way after as many steps as there are listeners has been somewhere twice.
    let goes_round = |first: &&Listener| {
        std::iter::successors(Some(*first), |listener| next(listener)).nth(listeners.len()).is_some()
    };
    listeners.iter().find(goes_round).map(|listener| listener.address)
}

/// Would a connection `to` this address arrive at the listener? By its own address, by the unspecified one (which the
/// kernel takes for loopback), by any address of this host if it listens on all, or by an IPv4 address in IPv6's clothes.
fn leads_to(to: SocketAddr, listener: SocketAddr, is_of_this_host: impl Fn(IpAddr) -> bool) -> bool {
    let (ip, own) = (to.ip().to_canonical(), listener.ip().to_canonical());
    let meant = match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    to.port() == listener.port() && (meant == own || own.is_unspecified() && is_of_this_host(meant))
}

/// An address that a socket may be bound to is one of the host's in which it was made.
fn is_of_this_host(sockets: &dyn Sockets, address: IpAddr) -> bool {
    let own = SocketAddr::new(address, 0);
    let bound = || sockets.make(Domain::for_address(own), Type::DGRAM).and_then(|socket| socket.bind(&own.into()));
    address.is_loopback() || bound().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_that_pass_on_in_a_circle_are_found() {
        let reverse = |at: u16, to: &str| Listener {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, at)),
            serves: Serves::Reverse(to.parse().unwrap()),
        };
        let forward = Listener { serves: Serves::Forward, ..reverse(9, "127.0.0.1:9") };
        let port = |listeners: &[Listener]| circle(listeners).map(|address| address.port());
        assert_eq!(port(&[reverse(1, "127.0.0.1:1")]), Some(1));
        assert_eq!(port(&[reverse(1, "0.0.0.0:1")]), Some(1));
        assert_eq!(port(&[reverse(1, "127.0.0.1:2"), reverse(2, "127.0.0.1:1")]), Some(1));
        assert_eq!(port(&[reverse(1, "127.0.0.1:2"), reverse(2, "127.0.0.1:3")]), None);
        assert_eq!(port(&[reverse(1, "127.0.0.1:9"), forward]), None);
        assert_eq!(port(&[]), None);
    }

    #[test]
    fn every_way_to_a_listener_of_ours_is_known() {
        let interface: IpAddr = "10.9.8.7".parse().unwrap();
        let of_this_host = |ip: IpAddr| ip.is_loopback() || ip == interface;
        for (to, listener, expected) in [
            ("127.0.0.1:4140", "127.0.0.1:4140", true),
            ("127.0.0.1:4141", "127.0.0.1:4140", false),
            ("127.0.0.2:4140", "127.0.0.1:4140", false),
            ("0.0.0.0:4140", "127.0.0.1:4140", true),
            ("[::ffff:127.0.0.1]:4140", "127.0.0.1:4140", true),
            ("[::1]:4140", "127.0.0.1:4140", false),
            ("[::1]:4140", "[::1]:4140", true),
            ("[::]:4140", "[::1]:4140", true),
            ("127.0.0.2:4140", "0.0.0.0:4140", true),
            ("10.9.8.7:4140", "0.0.0.0:4140", true),
            ("10.9.8.7:4140", "[::]:4140", true),
            ("10.9.8.7:4140", "127.0.0.1:4140", false),
            ("10.9.8.6:4140", "0.0.0.0:4140", false),
            ("[::]:4140", "[::]:4140", true),
        ] {
            let found = leads_to(to.parse().unwrap(), listener.parse().unwrap(), of_this_host);
            assert_eq!(found, expected, "{to} to {listener}");
        }
    }
}
