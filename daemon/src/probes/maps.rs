//! The maps, as questions and orders in the daemon's own words. Shared by the data plane's threads; each call is one
//! system call of about a microsecond.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, SockMap};
use nodetap_ebpf_common::{COUNTERS, Counter, Endpoint, Route, Settings, Steered};

use super::wire::{self, Wire, monotonic_ns};
use super::{Error, Origin};
use crate::netlink::routes::{Prefix, Table, Way};

type Hash<K, V> = Mutex<HashMap<MapData, K, V>>;
type Trie<V> = Mutex<LpmTrie<MapData, [u32; 4], V>>;

/// What the hooks counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub steered_outbound: u64,
    pub steered_inbound: u64,
    /// Connects that were not steered.
    pub direct: u64,
    /// Events that did not fit into the ring.
    pub ring_full: u64,
    /// Map entries that did not fit.
    pub map_full: u64,
    /// Steered connects that did not reach our listener.
    pub steered_failed: u64,
    /// Connects that the user wants left alone, or of another network namespace.
    pub left_alone: u64,
    /// Inbound connections that went past us because we did not answer in time.
    pub away_inbound: u64,
}

/// All maps of one target.
pub struct Maps {
    settings: Mutex<Array<MapData, Wire<Settings>>>,
    heartbeat: Mutex<Array<MapData, u64>>,
    origins: Hash<u64, Wire<nodetap_ebpf_common::Origin>>,
    steered: Hash<Wire<Steered>, Wire<nodetap_ebpf_common::Origin>>,
    refused: Hash<Wire<Endpoint>, u64>,
    routes: Trie<Wire<Route>>,
    ignored: Trie<u32>,
    ignored_ports: Hash<u32, u32>,
    listening: Hash<Wire<Endpoint>, u64>,
    v6only: Hash<Wire<Endpoint>, u32>,
    listeners: Hash<u64, Wire<Endpoint>>,
    foreign: Hash<Wire<Endpoint>, u32>,
    dials: Hash<Wire<Endpoint>, Wire<Endpoint>>,
    inbound: Mutex<SockMap<MapData>>,
    counts: PerCpuArray<MapData, u64>,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Maps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            settings: Mutex::new(take(ebpf, "SETTINGS")?),
            heartbeat: Mutex::new(take(ebpf, "HEARTBEAT")?),
            origins: Mutex::new(take(ebpf, "ORIGINS")?),
            steered: Mutex::new(take(ebpf, "STEERED")?),
            refused: Mutex::new(take(ebpf, "REFUSED")?),
            routes: Mutex::new(take(ebpf, "ROUTES")?),
            ignored: Mutex::new(take(ebpf, "IGNORED")?),
            ignored_ports: Mutex::new(take(ebpf, "IGNORED_PORTS")?),
            listening: Mutex::new(take(ebpf, "LISTENING")?),
            v6only: Mutex::new(take(ebpf, "V6ONLY")?),
            listeners: Mutex::new(take(ebpf, "LISTENERS")?),
            foreign: Mutex::new(take(ebpf, "FOREIGN")?),
            dials: Mutex::new(take(ebpf, "DIALS")?),
            inbound: Mutex::new(take(ebpf, "INBOUND")?),
            counts: take(ebpf, "COUNTS")?,
        })
    }

    pub(super) fn settings(&self, settings: &Settings) -> Result<(), Error> {
        locked(&self.settings).set(0, Wire(*settings), 0).map_err(|source| Error::Map { name: "SETTINGS", source })
    }

    /// Tells the hooks that the data plane runs.
    pub fn beat(&self) -> io::Result<()> {
        locked(&self.heartbeat).set(0, monotonic_ns(), 0).map_err(io)
    }

    /// Makes the hooks step aside at once.
    pub fn stop_beating(&self) -> io::Result<()> {
        locked(&self.heartbeat).set(0, 0, 0).map_err(io)
    }

    /// Takes out what the connection of `client` to our listener on `listener_port` was meant to reach.
    pub fn take_origin(&self, client: SocketAddr, listener_port: u16) -> Option<Origin> {
        let key = Wire(Steered { client: wire::endpoint(client), listener_port: u32::from(listener_port) });
        let mut steered = locked(&self.steered);
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
        let mut origins = locked(&self.origins);
        let Wire(mut origin) = origins.get(&cookie, 0).map_err(io)?;
        origin.source = wire::address(source);
        origins.insert(cookie, Wire(origin), EXIST).map_err(io)
    }

    /// Leaves a destination alone for a while.
    pub fn refuse(&self, destination: SocketAddr, hold: Duration) -> io::Result<()> {
        let until = monotonic_ns().saturating_add(u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX));
        locked(&self.refused).insert(Wire(wire::endpoint(destination)), until, 0).map_err(io)
    }

    /// Takes that back.
    pub fn forgive(&self, destination: SocketAddr) {
        // It is there, or was never made.
        let _ = locked(&self.refused).remove(&Wire(wire::endpoint(destination)));
    }

    /// Announces a dial of ours from `local` on behalf of `client`, before its first packet.
    pub fn announce(&self, local: SocketAddr, client: SocketAddr) -> io::Result<()> {
        locked(&self.dials).insert(Wire(wire::endpoint(local)), Wire(wire::endpoint(client)), 0).map_err(io)
    }

    /// Takes an announcement back.
    pub fn withdraw(&self, local: SocketAddr) {
        // It is there, or was never made.
        let _ = locked(&self.dials).remove(&Wire(wire::endpoint(local)));
    }

    /// Does the target listen on exactly this endpoint, or on all addresses of its port?
    pub fn is_listening(&self, endpoint: SocketAddr) -> bool {
        let listening = locked(&self.listening);
        let any: [IpAddr; 2] = [std::net::Ipv4Addr::UNSPECIFIED.into(), std::net::Ipv6Addr::UNSPECIFIED.into()];
        let addresses = std::iter::once(endpoint.ip()).chain(any);
        addresses
            .map(|ip| SocketAddr::new(ip, endpoint.port()))
            .any(|endpoint| listening.get(&Wire(wire::endpoint(endpoint)), 0).is_ok_and(|sockets| sockets > 0))
    }

    /// Cookies of the target's listening sockets.
    pub fn listeners(&self) -> Vec<(u64, SocketAddr)> {
        let listeners = locked(&self.listeners);
        listeners.iter().flatten().map(|(cookie, Wire(endpoint))| (cookie, wire::socket_addr(endpoint))).collect()
    }

    /// Notes whether a listening endpoint of the target takes IPv4.
    pub fn set_v6only(&self, endpoint: SocketAddr, v6only: bool) -> io::Result<()> {
        let key = Wire(wire::endpoint(endpoint));
        let mut map = locked(&self.v6only);
        if v6only { map.insert(key, 1, 0) } else { map.remove(&key) }.map_err(io)
    }

    /// Somebody else listens here: never steered for a wildcard listener of the target.
    pub fn set_foreign(&self, endpoint: SocketAddr, foreign: bool) -> io::Result<()> {
        let key = Wire(wire::endpoint(endpoint));
        let mut map = locked(&self.foreign);
        if foreign { map.insert(key, 1, 0) } else { map.remove(&key) }.map_err(io)
    }

    /// Replaces `before` by `after`, entry by entry.
    pub fn set_routes(&self, before: &Table, after: &Table) -> io::Result<()> {
        let mut routes = locked(&self.routes);
        for (prefix, way) in after.iter().filter(|(prefix, way)| before.get(prefix) != Some(way)) {
            let route = match way {
                Way::Usable(source) => Route { source: source.map_or([0; 4], wire::address), usable: 1 },
                Way::Barred => Route { source: [0; 4], usable: 0 },
            };
            routes.insert(&key(*prefix), Wire(route), 0).map_err(io)?;
        }
        for prefix in before.keys().filter(|prefix| !after.contains_key(prefix)) {
            routes.remove(&key(*prefix)).map_err(io)?;
        }
        Ok(())
    }

    /// Leaves a prefix alone (or no longer), in both directions.
    pub fn ignore(&self, prefix: Prefix, ignored: bool) -> io::Result<()> {
        let mut map = locked(&self.ignored);
        if ignored { map.insert(&key(prefix), 1, 0) } else { map.remove(&key(prefix)) }.map_err(io)
    }

    /// Leaves a port alone, in both directions.
    pub fn ignore_port(&self, port: u16) -> io::Result<()> {
        locked(&self.ignored_ports).insert(u32::from(port), 1, 0).map_err(io)
    }

    /// Gives the hooks our inbound listener of a family. It must be a listening socket.
    pub fn set_inbound(&self, v6: bool, listener: &impl AsRawFd) -> Result<(), Error> {
        locked(&self.inbound).set(u32::from(v6), listener, 0).map_err(|source| Error::Map { name: "INBOUND", source })
    }

    /// What was counted so far, over all CPUs.
    pub fn counts(&self) -> Counts {
        let of = |counter: Counter| {
            debug_assert!((counter as u32) < COUNTERS);
            self.counts.get(&(counter as u32), 0).map_or(0, |cpus| cpus.iter().sum())
        };
        Counts {
            steered_outbound: of(Counter::Steered),
            steered_inbound: of(Counter::SteeredIn),
            direct: of(Counter::Direct),
            ring_full: of(Counter::RingFull),
            map_full: of(Counter::MapFull),
            steered_failed: of(Counter::SteeredFailed),
            left_alone: of(Counter::LeftAlone),
            away_inbound: of(Counter::AwayIn),
        }
    }
}

fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, Error>
where
    M: TryFrom<aya::maps::Map, Error = MapError>,
{
    ebpf.take_map(name).ok_or(Error::Missing(name))?.try_into().map_err(|source| Error::Map { name, source })
}

fn key(prefix: Prefix) -> Key<[u32; 4]> {
    Key::new(u32::from(prefix.length), wire::address(prefix.address.into()))
}

/// A panic while a map was held leaves it as it was: every change is one system call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn io(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        MapError::KeyNotFound | MapError::ElementNotFound => io::ErrorKind::NotFound.into(),
        error => io::Error::other(error),
    }
}
