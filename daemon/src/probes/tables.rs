//! The maps of the loaded object, as aya holds them. All targets share them; [`super::Maps`] shows each its own part.

use std::collections::HashMap as Named;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuHashMap, PerCpuValues, SockMap};
use nodetap_ebpf_common::{
    COUNTERS, Connected, Endpoint, IgnoredKey, IgnoredPort, Origin, Place, Route, RouteKey, Sent, Settings, Steered,
};

use super::Error;
use super::wire::Wire;

pub(super) type Hash<K, V> = Mutex<HashMap<MapData, K, V>>;
pub(super) type Trie<K, V> = Mutex<LpmTrie<MapData, K, V>>;

/// A lock each, because aya's handles change through `&mut`. It is held for one system call, except by the sweep.
pub(super) struct Tables {
    pub(super) targets: Hash<u64, Wire<Settings>>,
    pub(super) heartbeat: Mutex<Array<MapData, u64>>,
    pub(super) origins: Hash<u64, Wire<Origin>>,
    pub(super) steered: Hash<Wire<Steered>, Wire<Origin>>,
    pub(super) direct: Hash<u64, Wire<Place>>,
    pub(super) connected: Hash<u64, Wire<Connected>>,
    pub(super) sent: Hash<Wire<Sent>, u32>,
    pub(super) refused: Hash<Wire<Place>, u64>,
    pub(super) routes: Trie<RouteKey, Wire<Route>>,
    pub(super) ignored: Trie<IgnoredKey, u32>,
    pub(super) ignored_ports: Hash<Wire<IgnoredPort>, u32>,
    pub(super) listening: Hash<Wire<Place>, u64>,
    pub(super) older: Hash<Wire<Place>, u32>,
    pub(super) v6only: Hash<Wire<Place>, u32>,
    pub(super) listeners: Hash<u64, Wire<Place>>,
    pub(super) foreign: Hash<Wire<Place>, u32>,
    pub(super) dials: Hash<Wire<Place>, Wire<Endpoint>>,
    pub(super) inbound: Mutex<SockMap<MapData>>,
    pub(super) counts: Mutex<PerCpuHashMap<MapData, u64, [u64; COUNTERS]>>,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            targets: Mutex::new(take(ebpf, "TARGETS")?),
            heartbeat: Mutex::new(take(ebpf, "HEARTBEAT")?),
            origins: Mutex::new(take(ebpf, "ORIGINS")?),
            steered: Mutex::new(take(ebpf, "STEERED")?),
            direct: Mutex::new(take(ebpf, "DIRECT")?),
            connected: Mutex::new(take(ebpf, "CONNECTED")?),
            sent: Mutex::new(take(ebpf, "SENT")?),
            refused: Mutex::new(take(ebpf, "REFUSED")?),
            routes: Mutex::new(take(ebpf, "ROUTES")?),
            ignored: Mutex::new(take(ebpf, "IGNORED")?),
            ignored_ports: Mutex::new(take(ebpf, "IGNORED_PORTS")?),
            listening: Mutex::new(take(ebpf, "LISTENING")?),
            older: Mutex::new(take(ebpf, "OLDER")?),
            v6only: Mutex::new(take(ebpf, "V6ONLY")?),
            listeners: Mutex::new(take(ebpf, "LISTENERS")?),
            foreign: Mutex::new(take(ebpf, "FOREIGN")?),
            dials: Mutex::new(take(ebpf, "DIALS")?),
            inbound: Mutex::new(take(ebpf, "INBOUND")?),
            counts: Mutex::new(take(ebpf, "COUNTS")?),
        })
    }

    /// Begins to count for a namespace.
    pub(super) fn count(&self, netns: u64) -> Result<(), Error> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| Error::Instance(error))?;
        let zeros = PerCpuValues::try_from(vec![[0; COUNTERS]; cpus]).map_err(Error::Instance)?;
        locked(&self.counts).insert(netns, zeros, 0).map_err(Error::map("COUNTS"))
    }
}

/// The descriptors of all maps, before they are taken.
pub(super) fn descriptors(ebpf: &Ebpf) -> Named<String, RawFd> {
    ebpf.maps().filter_map(|(name, map)| Some((name.to_owned(), data(map)?.fd().as_fd().as_raw_fd()))).collect()
}

/// Of the kinds that the object has.
pub(super) fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuHashMap(data)
        | Map::LpmTrie(data)
        | Map::SockMap(data)
        | Map::RingBuf(data)
        | Map::PerfEventArray(data) => Some(data),
        _ => None,
    }
}

pub(super) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, Error>
where
    M: TryFrom<Map, Error = MapError>,
{
    ebpf.take_map(name).ok_or(Error::Missing(name))?.try_into().map_err(|source| Error::Map { name, source })
}

/// A panic while a map was held leaves it as it was: every change is one system call.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
