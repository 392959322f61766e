//! One target's part of the maps, as questions and orders in the daemon's own words. Shared by the data plane's threads;
//! each call is one system call of about a microsecond.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use nodetap_core::exchange::Direction;
use nodetap_ebpf_common::{
    IGNORED_BITS, INBOUND, IgnoredKey, IgnoredPort, OUTBOUND, Place, ROUTE_BITS, Route, RouteKey, Steered, ignored_key,
    route_key,
};

use super::tables::{Hash, Tables, locked};
use super::wire::{self, Wire, monotonic_ns};
use super::{Counts, Origin};
use crate::netlink::routes::{Prefix, Table, Way};

/// The maps, as far as they speak of one network namespace.
#[derive(Debug)]
pub struct Maps {
    tables: Arc<Tables>,
    netns: u64,
    /// The target is gone: what is written for it now would stay for ever.
    gone: AtomicBool,
}

impl Maps {
    pub(super) fn new(tables: Arc<Tables>, netns: u64) -> Self {
        Self { tables, netns, gone: AtomicBool::new(false) }
    }

    pub(super) fn close(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// The namespace's cookie.
    pub fn netns(&self) -> u64 {
        self.netns
    }

    /// Takes out what the connection of `client` to our listener on `listener_port` was meant to reach.
    pub fn take_origin(&self, client: SocketAddr, listener_port: u16) -> Option<Origin> {
        let client = wire::endpoint(client);
        let key = Wire(Steered { netns: self.netns, client, listener_port: u32::from(listener_port) });
        let mut steered = locked(&self.tables.steered);
        let Wire(origin) = steered.get(&key, 0).ok()?;
        // Gone already when the kernel evicted it: harmless.
        let _ = steered.remove(&key);
        Some(Origin {
            destination: wire::socket_addr(origin.destination),
            source: (origin.source != [0; 4]).then(|| wire::ip(origin.source)),
            bound: origin.bound != 0,
            pid: origin.pid,
            name: wire::name(origin.comm),
            cookie: origin.cookie,
        })
    }

    /// What getsockname() answers for a steered socket from now on.
    pub fn set_source(&self, cookie: u64, source: IpAddr) -> io::Result<()> {
        /// Only what is there: the socket may have been closed.
        const EXIST: u64 = 2;
        let mut origins = locked(&self.tables.origins);
        let Wire(mut origin) = origins.get(&cookie, 0).map_err(io)?;
        origin.source = wire::address(source);
        origins.insert(cookie, Wire(origin), EXIST).map_err(io)
    }

    /// Leaves a destination alone for a while.
    pub fn refuse(&self, destination: SocketAddr, hold: Duration) -> io::Result<()> {
        self.alive()?;
        let until = monotonic_ns().saturating_add(u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX));
        locked(&self.tables.refused).insert(self.place(destination), until, 0).map_err(io)
    }

    /// Takes that back.
    pub fn forgive(&self, destination: SocketAddr) {
        // It is there, or was never made.
        let _ = locked(&self.tables.refused).remove(&self.place(destination));
    }

    /// Announces a dial of ours from `local` on behalf of `client`, before its first packet.
    pub fn announce(&self, local: SocketAddr, client: SocketAddr) -> io::Result<()> {
        self.alive()?;
        locked(&self.tables.dials).insert(self.place(local), Wire(wire::endpoint(client)), 0).map_err(io)
    }

    /// Is there a dial of ours from `local`, or was there one a moment ago?
    pub fn is_announced(&self, local: SocketAddr) -> bool {
        locked(&self.tables.dials).get(&self.place(local), 0).is_ok()
    }

    /// Takes an announcement back.
    pub fn withdraw(&self, local: SocketAddr) {
        // It is there, or was never made.
        let _ = locked(&self.tables.dials).remove(&self.place(local));
    }

    /// Does the target listen on exactly this endpoint, or on all addresses of its port?
    pub fn is_listening(&self, endpoint: SocketAddr) -> bool {
        let any: [IpAddr; 2] = [std::net::Ipv4Addr::UNSPECIFIED.into(), std::net::Ipv6Addr::UNSPECIFIED.into()];
        let addresses = std::iter::once(endpoint.ip()).chain(any);
        let mut places = addresses.map(|ip| self.place(SocketAddr::new(ip, endpoint.port())));
        // The order of the locks does not matter: each is given back before the next is taken.
        places.any(|place| {
            let sockets = locked(&self.tables.listening).get(&place, 0).map_or(0, u64::cast_signed);
            sockets > 0 || locked(&self.tables.older).get(&place, 0).is_ok()
        })
    }

    /// Have the hooks counted somebody of the target who listens on exactly this endpoint?
    pub fn counts_listeners(&self, endpoint: SocketAddr) -> bool {
        locked(&self.tables.listening).get(&self.place(endpoint), 0).map_or(0, u64::cast_signed) > 0
    }

    /// Did the hooks see this socket of the target begin to listen, and not end?
    pub fn is_own(&self, cookie: u64) -> bool {
        locked(&self.tables.listeners).get(&cookie, 0).is_ok_and(|Wire(place)| place.netns == self.netns)
    }

    /// Did the hooks see this socket connect, and not end?
    pub fn has_seen(&self, cookie: u64) -> bool {
        locked(&self.tables.origins).get(&cookie, 0).is_ok() || locked(&self.tables.direct).get(&cookie, 0).is_ok()
    }

    /// Takes out a listening socket that the hooks do not see any more.
    pub fn forget_listener(&self, cookie: u64, endpoint: SocketAddr) {
        // They are there, or were never made.
        let _ = locked(&self.tables.listeners).remove(&cookie);
        let _ = locked(&self.tables.listening).remove(&self.place(endpoint));
    }

    /// Notes an endpoint on which the target listened before the hooks could see it.
    pub fn set_older(&self, endpoint: SocketAddr, listening: bool) -> io::Result<()> {
        self.mark(&self.tables.older, endpoint, listening)
    }

    /// Notes whether a listening endpoint of the target takes IPv4.
    pub fn set_v6only(&self, endpoint: SocketAddr, v6only: bool) -> io::Result<()> {
        self.mark(&self.tables.v6only, endpoint, v6only)
    }

    /// Somebody else listens here: never steered for a wildcard listener of the target.
    pub fn set_foreign(&self, endpoint: SocketAddr, foreign: bool) -> io::Result<()> {
        self.mark(&self.tables.foreign, endpoint, foreign)
    }

    /// Replaces `before` by `after`, entry by entry.
    pub fn set_routes(&self, before: &Table, after: &Table) -> io::Result<()> {
        self.alive()?;
        let mut routes = locked(&self.tables.routes);
        for (prefix, way) in after.iter().filter(|(prefix, way)| before.get(prefix) != Some(way)) {
            let route = match way {
                Way::Usable(source) => Route { source: source.map_or([0; 4], wire::address), usable: 1 },
                Way::Barred => Route { source: [0; 4], usable: 0 },
            };
            routes.insert(&self.route(*prefix), Wire(route), 0).map_err(io)?;
        }
        for prefix in before.keys().filter(|prefix| !after.contains_key(prefix)) {
            routes.remove(&self.route(*prefix)).map_err(io)?;
        }
        Ok(())
    }

    /// Leaves connections of a direction alone (or no longer) whose other side is within a prefix.
    pub fn ignore(&self, direction: Direction, prefix: Prefix, ignored: bool) -> io::Result<()> {
        self.alive()?;
        let key = self.ignored(direction, prefix);
        let mut map = locked(&self.tables.ignored);
        if ignored { map.insert(&key, 1, 0) } else { map.remove(&key) }.map_err(io)
    }

    /// Leaves connections of a direction alone (or no longer) to a port: inbound the target's, outbound the other side's.
    pub fn ignore_port(&self, direction: Direction, port: u16, ignored: bool) -> io::Result<()> {
        self.alive()?;
        let key = Wire(IgnoredPort { netns: self.netns, direction: number(direction), port: u32::from(port) });
        let mut map = locked(&self.tables.ignored_ports);
        if ignored { map.insert(key, 1, 0) } else { map.remove(&key) }.map_err(io)
    }

    /// What was counted so far, over all CPUs.
    pub fn counts(&self) -> Counts {
        let values = locked(&self.tables.counts).get(&self.netns, 0);
        values.map_or_else(|_| Counts::default(), |cpus| Counts::sum(cpus.iter()))
    }

    fn alive(&self) -> io::Result<()> {
        if self.gone.load(Ordering::Relaxed) { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn mark(&self, map: &Hash<Wire<Place>, u32>, endpoint: SocketAddr, set: bool) -> io::Result<()> {
        self.alive()?;
        let key = self.place(endpoint);
        let mut map = locked(map);
        if set { map.insert(key, 1, 0) } else { map.remove(&key) }.map_err(io)
    }

    fn place(&self, endpoint: SocketAddr) -> Wire<Place> {
        Wire(Place::new(self.netns, wire::endpoint(endpoint)))
    }

    fn route(&self, prefix: Prefix) -> Key<RouteKey> {
        let address = wire::address(prefix.address.into());
        Key::new(ROUTE_BITS + u32::from(prefix.length), route_key(self.netns, address))
    }

    fn ignored(&self, direction: Direction, prefix: Prefix) -> Key<IgnoredKey> {
        let address = wire::address(prefix.address.into());
        Key::new(IGNORED_BITS + u32::from(prefix.length), ignored_key(self.netns, number(direction), address))
    }
}

fn number(direction: Direction) -> u32 {
    match direction {
        Direction::Inbound => INBOUND,
        Direction::Outbound => OUTBOUND,
    }
}

fn io(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        MapError::KeyNotFound | MapError::ElementNotFound => io::ErrorKind::NotFound.into(),
        error => io::Error::other(error),
    }
}
