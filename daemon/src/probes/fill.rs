//! How full the maps are.

use aya::Pod;

use super::tables::{Hash, Tables, Trie, locked};

/// Of one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    pub map: &'static str,
    pub entries: usize,
}

pub(super) fn fill(tables: &Tables) -> Vec<Fill> {
    let all = [
        ("targets", hash(&tables.targets)),
        ("origins", hash(&tables.origins)),
        ("steered", hash(&tables.steered)),
        ("direct", hash(&tables.direct)),
        ("connected", hash(&tables.connected)),
        ("sent", hash(&tables.sent)),
        ("refused", hash(&tables.refused)),
        ("routes", trie(&tables.routes)),
        ("ignored", trie(&tables.ignored)),
        ("ignored_ports", hash(&tables.ignored_ports)),
        ("listening", hash(&tables.listening)),
        ("older", hash(&tables.older)),
        ("v6only", hash(&tables.v6only)),
        ("listeners", hash(&tables.listeners)),
        ("foreign", hash(&tables.foreign)),
        ("dials", hash(&tables.dials)),
        ("counts", locked(&tables.counts).keys().take(STEPS).flatten().count()),
    ];
    all.into_iter().map(|(map, entries)| Fill { map, entries }).collect()
}

/// A walk begins anew when the key that it stands on is taken out: it must still end.
const STEPS: usize = 262_144;

fn hash<K: Pod, V: Pod>(map: &Hash<K, V>) -> usize {
    locked(map).keys().take(STEPS).flatten().count()
}

fn trie<K: Pod, V: Pod>(map: &Trie<K, V>) -> usize {
    locked(map).keys().take(STEPS).flatten().count()
}
