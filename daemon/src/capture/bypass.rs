//! Where a target's traffic went beside us, and on whose account: a table of limited size, for people who want to know
//! what is missing.

use std::collections::HashMap;
use std::net::SocketAddr;

use nodetap_core::exchange::{Process, UnixMicros};

/// Entries of one target. The one that was seen longest ago makes room, and its connections are counted as others.
const ENTRIES: usize = 256;

/// A way past us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bypass {
    pub process: Process,
    pub destination: SocketAddr,
    /// Why it was not steered; `datagram` for what is never steered.
    pub reason: &'static str,
    /// Connections, or sockets that sent there.
    pub count: u64,
    pub last: UnixMicros,
}

/// Processes are told apart by name here: a program that starts anew for each request is one.
type Key = (String, SocketAddr, &'static str);

/// What went past of one target.
#[derive(Debug, Default)]
pub(super) struct Bypasses {
    entries: HashMap<Key, (u32, u64, UnixMicros)>,
    others: u64,
}

impl Bypasses {
    /// One more.
    pub(super) fn add(&mut self, process: &Process, destination: SocketAddr, reason: &'static str, at: UnixMicros) {
        let key = (process.name.clone(), destination, reason);
        if let Some(entry) = self.entries.get_mut(&key) {
            *entry = (process.pid, entry.1 + 1, at);
            return;
        }
        if self.entries.len() >= ENTRIES {
            let oldest = self.entries.iter().min_by_key(|(_, (_, _, last))| *last).map(|(key, _)| key.clone());
            let gone = oldest.and_then(|oldest| self.entries.remove(&oldest));
            self.others += gone.map_or(0, |(_, count, _)| count);
        }
        self.entries.insert(key, (process.pid, 1, at));
    }

    /// All of them, the most frequent first, and the number of connections that are in none.
    pub(super) fn list(&self) -> (Vec<Bypass>, u64) {
        let bypass = |((name, destination, reason), (pid, count, last)): (&Key, &(u32, u64, UnixMicros))| Bypass {
            process: Process { pid: *pid, name: name.clone() },
            destination: *destination,
            reason,
            count: *count,
            last: *last,
        };
        let mut all: Vec<Bypass> = self.entries.iter().map(bypass).collect();
        all.sort_by_key(|bypass| (std::cmp::Reverse(bypass.count), bypass.destination));
        (all, self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_bounded_and_no_connection_is_forgotten() {
        let mut bypasses = Bypasses::default();
        let process = |pid| Process { pid, name: "java".into() };
        for number in 0..1000u16 {
            bypasses.add(&process(1), SocketAddr::from(([10, 0, 0, 1], number)), "off", number.into());
        }
        for _ in 0..9 {
            bypasses.add(&process(2), SocketAddr::from(([10, 0, 0, 1], 999)), "off", 1000);
        }
        let (all, others) = bypasses.list();
        assert_eq!((all.len(), others), (ENTRIES, 1000 - ENTRIES as u64));
        let first = &all[0];
        assert_eq!((first.count, first.process.pid, first.destination.port()), (10, 2, 999));
        assert_eq!(all.iter().map(|bypass| bypass.count).sum::<u64>() + others, 1009);
    }
}
