//! A map that keeps what was used last. It refuses to know what it keeps.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// At most so many entries; the one that was not used for the longest time makes room.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    limit: usize,
    turn: u64,
    entries: HashMap<K, (u64, V)>,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), turn: 0, entries: HashMap::new() }
    }

    pub(super) fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.turn += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.turn;
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.turn += 1;
        if self.entries.len() >= self.limit && !self.entries.contains_key(&key) {
            self.remove_oldest();
        }
        self.entries.insert(key, (self.turn, value));
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }

    /// What was not used for the longest time, if there is anything.
    pub(super) fn remove_oldest(&mut self) -> Option<V> {
        // A look at all of them is cheap beside the handshake that has led here.
        let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
        oldest.and_then(|key| self.entries.remove(&key)).map(|(_, value)| value)
    }

    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let mut recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("b", 2);
        assert_eq!(recent.get("a"), Some(&mut 1));
        recent.insert("c", 3);
        assert_eq!((recent.get("a").copied(), recent.entries.len()), (Some(1), 2));
        assert_eq!(recent.get("b"), None);
        recent.insert("c", 4);
        assert_eq!((recent.get("a").copied(), recent.get("c").copied()), (Some(1), Some(4)));
    }
}
