//! Takes out of the maps what belonged to targets that are gone. A namespace's cookie is never given twice, so what still
//! lies there decides nothing: it only takes room, and is taken out for many targets at a time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use aya::Pod;
use aya::maps::lpm_trie::Key;

use super::tables::{Hash, Tables, Trie, locked};

/// A tunnel that outlives its target may still write something for it; its slots may still be read by a running hook.
pub(super) const REST: Duration = Duration::from_secs(5);

/// A walk begins anew when the key that it stands on is taken out by somebody else: it must still end.
const STEPS: usize = 262_144;

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
    let of_place = |place: &super::wire::Wire<nodetap_ebpf_common::Place>| gone.contains(&place.0.netns);
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
