//! Joins the kernel's hooks and the data plane for one target: what a connection was meant to reach, whom we dial for
//! it, and what the hooks must know about that dial.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nodetap_core::exchange::{Connection, Direction, Process, Target, Via};
use nodetap_core::ulid::Ulid;
use nodetap_proxy::dial::is_loopback;
use nodetap_proxy::sockets::Sockets;
use nodetap_proxy::steering::{Arrival, Destination, Steering, Stray};
use nodetap_proxy::tls::Policy;
use socket2::{Domain, Socket, Type};

use super::processes::Processes;
use crate::probes::Maps;

/// How long a destination that refused is left to the kernel, so that programs see its own answer and can fall back.
const REFUSED_HOLD: Duration = Duration::from_secs(10);
/// IPv4 dials to the target come from 127.77.0.0/16, one address after the other: each has its own ports, so neither
/// the range of ports nor TIME_WAIT limits the rate of connections.
const DIAL_NETWORK: u32 = u32::from_be_bytes([127, 77, 0, 0]);
/// Connections of the target to itself that are known at a time; what is over gets an identifier of its own.
const SELF_CALLS: usize = 65_536;

/// A slow server may accept a connection that has ended already, and still wants to know whose it was.
const ACCEPT_LATER: Duration = Duration::from_secs(5);
/// Announcements that outlive their connection, at most; the kernel's map holds 65,536 in all.
const ENDED: usize = 8_192;

/// What a listener of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `connect` sends here.
    Outbound { port: u16 },
    /// `sk_lookup` sends here; `own` is the listener's own address, to which nothing is sent.
    Inbound { own: SocketAddr },
}

/// See [`KernelSteering::failed`].
pub(super) type Look = Box<dyn Fn() + Send + Sync>;

/// The steering of one target.
pub(super) struct KernelSteering {
    maps: Arc<Maps>,
    /// In the order of the group's listeners.
    roles: Vec<Role>,
    target: Arc<Target>,
    processes: Arc<Processes>,
    /// Where the upstream connections begin.
    sockets: Arc<dyn Sockets>,
    /// What is done with the TLS of what the target opens; what it serves is left as it is.
    tls: Policy,
    /// Asks for a look at who listens.
    look: Look,
    self_calls: Mutex<HashMap<SocketAddr, SelfCall>>,
    /// Ended dials to the target, oldest first.
    ended: Mutex<VecDeque<(SocketAddr, Instant)>>,
    next_dial: AtomicU32,
}

impl std::fmt::Debug for KernelSteering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelSteering").field("maps", &self.maps).field("roles", &self.roles).finish_non_exhaustive()
    }
}

/// A connection of the target to itself is steered twice; the second time it is recognised by our dial's address.
#[derive(Debug, Clone)]
struct SelfCall {
    connection: Ulid,
    client: SocketAddr,
}

impl KernelSteering {
    pub(super) fn new(
        maps: Arc<Maps>,
        roles: Vec<Role>,
        target: Arc<Target>,
        processes: Arc<Processes>,
        sockets: Arc<dyn Sockets>,
        tls: Policy,
        look: Look,
    ) -> Self {
        Self {
            maps,
            roles,
            target,
            processes,
            sockets,
            tls,
            look,
            self_calls: Mutex::default(),
            ended: Mutex::default(),
            next_dial: AtomicU32::new(0),
        }
    }

    fn outbound(&self, arrival: &Arrival, port: u16) -> Result<Destination, Stray> {
        let origin = self.maps.take_origin(arrival.client, port).ok_or(Stray("no_origin"))?;
        let own = |role: &Role| matches!(role, Role::Outbound { port } if *port == origin.destination.port());
        if is_loopback(origin.destination.ip()) && self.roles.iter().any(own) {
            return Err(Stray("loop"));
        }
        let client = SocketAddr::new(origin.source.unwrap_or(arrival.client.ip()), arrival.client.port());
        let here = is_loopback(origin.destination.ip()) || origin.source == Some(origin.destination.ip());
        let source = if origin.bound {
            origin.source
        } else if here && self.maps.is_listening(origin.destination) {
            // The port has to be known before the inbound side sees the connection.
            Some(origin.source.unwrap_or(origin.destination.ip()))
        } else {
            None
        };
        let connection = Connection {
            id: arrival.id,
            direction: Direction::Outbound,
            via: Via::Transparent,
            target: Arc::clone(&self.target),
            container: None,
            process: Some(Process { pid: origin.pid, name: origin.name }),
            client,
            client_name: None,
            server: origin.destination,
            server_name: None,
            accepted: arrival.at,
        };
        Ok(Destination {
            connection: Arc::new(connection),
            dial: origin.destination,
            source,
            tag: origin.cookie,
            tls: self.tls.clone(),
        })
    }

    fn inbound(&self, arrival: &Arrival) -> Destination {
        let own = self.self_calls().get(&arrival.client).cloned();
        let connection = Connection {
            id: own.as_ref().map_or(arrival.id, |call| call.connection),
            direction: Direction::Inbound,
            via: Via::Transparent,
            target: Arc::clone(&self.target),
            container: None,
            process: self.processes.listening(arrival.local),
            client: own.map_or(arrival.client, |call| call.client),
            client_name: None,
            server: arrival.local,
            server_name: None,
            accepted: arrival.at,
        };
        let source = match arrival.local.ip() {
            IpAddr::V4(_) => {
                // 1 to 65,534: neither the network's address nor the last one.
                let host = self.next_dial.fetch_add(1, Ordering::Relaxed) % 0xfffe + 1;
                Ipv4Addr::from(DIAL_NETWORK | host).into()
            }
            // There is only ::1; a host reaches each of its addresses from that very address.
            address @ IpAddr::V6(_) => address,
        };
        Destination {
            connection: Arc::new(connection),
            dial: arrival.local,
            source: Some(source),
            tag: 0,
            tls: Policy::Untouched,
        }
    }

    fn self_calls(&self) -> MutexGuard<'_, HashMap<SocketAddr, SelfCall>> {
        self.self_calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Steering for KernelSteering {
    fn destination(&self, arrival: &Arrival) -> Result<Destination, Stray> {
        match self.roles.get(arrival.listener) {
            Some(Role::Outbound { port }) => self.outbound(arrival, *port),
            Some(Role::Inbound { own }) if *own == arrival.local => Err(Stray("own_listener")),
            Some(Role::Inbound { .. }) => Ok(self.inbound(arrival)),
            None => Err(Stray("no_role")),
        }
    }

    fn socket(&self, to: SocketAddr) -> io::Result<Socket> {
        self.sockets.make(Domain::for_address(to), Type::STREAM)
    }

    fn bound(&self, destination: &Destination, local: SocketAddr) -> io::Result<()> {
        let connection = &destination.connection;
        match connection.direction {
            Direction::Inbound => self.maps.announce(local, connection.client),
            Direction::Outbound => {
                let mut calls = self.self_calls();
                if calls.len() < SELF_CALLS {
                    calls.insert(local, SelfCall { connection: connection.id, client: connection.client });
                }
                Ok(())
            }
        }
    }

    fn connected(&self, destination: &Destination, local: SocketAddr) {
        let connection = &destination.connection;
        if connection.direction == Direction::Outbound
            && connection.client.ip() != local.ip()
            && destination.source.is_none()
            && let Err(error) = self.maps.set_source(destination.tag, local.ip())
        {
            // The program may have closed its socket already.
            tracing::debug!(%error, %local, "the program keeps the address that the routes suggest");
        }
    }

    fn failed(&self, destination: &Destination) {
        let connection = &destination.connection;
        if connection.direction != Direction::Outbound {
            // A listener that is older than the hooks may have gone: they did not see it, and steer there still.
            return (self.look)();
        }
        if let Err(error) = self.maps.refuse(connection.server, REFUSED_HOLD) {
            tracing::debug!(%error, server = %connection.server, "cannot leave a refusing destination to the kernel");
        }
        // The target may have begun to listen there since it refused; its hook could not take back what was not there.
        if self.maps.is_listening(connection.server) {
            self.maps.forgive(connection.server);
        }
    }

    fn ended(&self, local: SocketAddr) {
        if self.self_calls().remove(&local).is_some() {
            return;
        }
        if local.is_ipv6() {
            // The same port of the one address may be announced again at once.
            return self.maps.withdraw(local);
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push_back((local, Instant::now()));
        while ended.len() > ENDED || ended.front().is_some_and(|(_, since)| since.elapsed() > ACCEPT_LATER) {
            if let Some((local, _)) = ended.pop_front() {
                self.maps.withdraw(local);
            }
        }
    }
}
