//! Takes out of the maps what belonged to targets that are gone. A namespace's cookie is never given twice, so what still
//! lies there decides nothing: it only takes room, and is taken out for many targets at a time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use aya::Pod;
use aya::maps::lpm_trie::Key;

use nodetap_ebpf_common::{ELSEWHERE, Place};

use super::tables::{Hash, Tables, Trie, locked};
use super::wire::Wire;

/// A tunnel that outlives its target may still write something for it; its slots may still be read by a running hook.
pub(super) const REST: Duration = Duration::from_secs(5);

/// A walk begins anew when the key that it stands on is taken out by somebody else: it must still end.
const STEPS: usize = 262_144;

/// In place of a cookie: a namespace of which nothing is left.
const NOBODY: u64 = ELSEWHERE;

/// A target that is gone, and its slots among the inbound listeners.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grave {
    pub(super) netns: u64,
    pub(super) slot: u32,
    pub(super) since: Instant,
}

/// Which slots are free, and who has left some.
#[derive(Debug, Default)]
pub(super) struct Slots {
    free: Vec<u32>,
    next: u32,
    graves: Vec<Grave>,
}

impl Slots {
    /// The first of two slots.
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let slot = self.next;
            self.next += 2;
            slot
        })
    }

    /// It was taken, and nobody ever heard of it.
    pub(super) fn give_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    pub(super) fn bury(&mut self, netns: u64, slot: u32) {
        self.graves.push(Grave { netns, slot, since: Instant::now() });
    }

    /// Is there a grave of this namespace? Its slots rest on, and nothing more is known of it.
    pub(super) fn exhume(&mut self, netns: u64) -> bool {
        let mut of_it = self.graves.iter_mut().filter(|grave| grave.netns == netns);
        let found = of_it.next();
        found.map(|grave| grave.netns = NOBODY).is_some()
    }

    pub(super) fn has_graves(&self) -> bool {
        !self.graves.is_empty()
    }

    /// Graves that are old enough.
    pub(super) fn rested(&mut self, rest: Duration) -> Vec<Grave> {
        let (old, young) = self.graves.drain(..).partition(|grave| grave.since.elapsed() >= rest);
        self.graves = young;
        old
    }
}

/// Entries that were taken out.
pub(super) fn sweep(tables: &Tables, gone: &HashSet<u64>) -> usize {
    let of_place = |place: &Wire<Place>| gone.contains(&place.0.netns);
    let of_trie = |first: u32, second: u32| gone.contains(&(u64::from(first) | u64::from(second) << 32));
    let places = keys(&tables.refused, of_place)
        + keys(&tables.listening, of_place)
        + keys(&tables.older, of_place)
        + keys(&tables.v6only, of_place)
        + keys(&tables.foreign, of_place)
        + keys(&tables.dials, of_place);
    let sockets = values(&tables.origins, |origin| gone.contains(&origin.0.netns))
        + values(&tables.direct, |place| gone.contains(&place.0.netns))
        + values(&tables.listeners, |place| gone.contains(&place.0.netns))
        + values(&tables.connected, |connected| gone.contains(&connected.0.place.netns));
    let others = keys(&tables.steered, |steered| gone.contains(&steered.0.netns))
        + keys(&tables.sent, |sent| gone.contains(&sent.0.place.netns))
        + keys(&tables.ignored_ports, |port| gone.contains(&port.0.netns))
        + trie(&tables.routes, |key| of_trie(key[0], key[1]))
        + trie(&tables.ignored, |key| of_trie(key[0], key[1]));
    let mut counts = locked(&tables.counts);
    let counted = gone.iter().filter(|netns| counts.remove(netns).is_ok()).count();
    places + sockets + others + counted
}

fn keys<K: Pod, V: Pod>(map: &Hash<K, V>, is_gone: impl Fn(&K) -> bool) -> usize {
    let mut map = locked(map);
    let gone: Vec<K> = map.keys().take(STEPS).flatten().filter(is_gone).collect();
    // One that is not there any more was taken out by the kernel meanwhile.
    gone.iter().filter(|key| map.remove(key).is_ok()).count()
}

fn values<V: Pod>(map: &Hash<u64, V>, is_gone: impl Fn(&V) -> bool) -> usize {
    let mut map = locked(map);
    let entries = map.iter().take(STEPS).flatten();
    let gone: Vec<u64> = entries.filter(|(_, value)| is_gone(value)).map(|(key, _)| key).collect();
    gone.iter().filter(|key| map.remove(key).is_ok()).count()
}

fn trie<K: Pod, V: Pod>(map: &Trie<K, V>, is_gone: impl Fn(K) -> bool) -> usize {
    let mut map = locked(map);
    let gone: Vec<Key<K>> = map.keys().take(STEPS).flatten().filter(|key| is_gone(key.data())).collect();
    gone.iter().filter(|key| map.remove(key).is_ok()).count()
}

/// A place in bytes that can be compared.
pub(super) type Endpoint = (u64, [u32; 4], u32);

/// Takes out endpoints on which nobody listens, and nobody did the last time: a program that listens on ever new ports
/// would fill the map. `silent`: those of the last time. One on which somebody begins to listen at this very moment may be
/// lost; the next look at its namespace finds that.
pub(super) fn prune(tables: &Tables, silent: &mut HashSet<Endpoint>) -> usize {
    let mut listening = locked(&tables.listening);
    let now: Vec<_> =
        listening.iter().take(STEPS).flatten().filter(|(_, sockets)| sockets.cast_signed() <= 0).collect();
    let name = |place: &Place| (place.netns, place.endpoint.address, place.endpoint.port);
    let (long, new): (Vec<_>, Vec<_>) = now.into_iter().partition(|(place, _)| silent.contains(&name(&place.0)));
    *silent = new.iter().map(|(place, _)| name(&place.0)).collect();
    long.iter().filter(|(place, _)| listening.remove(place).is_ok()).count()
}
