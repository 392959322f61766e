//! When each network namespace is looked at next.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Between two looks at one namespace, whoever asks for them.
const REST: Duration = Duration::from_millis(20);

/// Who is new comes at a moment of its own, so that many targets do not come at once.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    entries: HashMap<u64, Entry>,
    order: BTreeSet<(Instant, u64)>,
    newcomers: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    next: Instant,
    last: Instant,
    pace: Duration,
}

impl Calendar {
    /// It was just looked at, and is to be looked at again once a `pace`.
    pub(super) fn add(&mut self, netns: u64, pace: Duration, now: Instant) {
        // The golden ratio spreads any number of them over the pace.
        self.newcomers = self.newcomers.wrapping_add(0x9e37_79b9);
        let part = f64::from(self.newcomers) / f64::from(u32::MAX);
        self.put(netns, Entry { next: now + pace.mul_f64(part), last: now, pace });
    }

    pub(super) fn remove(&mut self, netns: u64) {
        if let Some(entry) = self.entries.remove(&netns) {
            self.order.remove(&(entry.next, netns));
        }
    }

    /// There is a reason to look soon.
    pub(super) fn hasten(&mut self, netns: u64, now: Instant) {
        if let Some(entry) = self.entries.get(&netns).copied() {
            let soon = now.max(entry.last + REST);
            self.put(netns, Entry { next: entry.next.min(soon), ..entry });
        }
    }

    /// Who is due now; taken to be looked at.
    pub(super) fn due(&mut self, now: Instant) -> Vec<u64> {
        let due: Vec<u64> = self.order.iter().take_while(|(at, _)| *at <= now).map(|(_, netns)| *netns).collect();
        for netns in &due {
            if let Some(entry) = self.entries.get(netns).copied() {
                self.put(*netns, Entry { next: now + entry.pace, last: now, ..entry });
            }
        }
        due
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    fn put(&mut self, netns: u64, entry: Entry) {
        if let Some(before) = self.entries.insert(netns, entry) {
            self.order.remove(&(before.next, netns));
        }
        self.order.insert((entry.next, netns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_secs(5);

    #[test]
    fn many_are_spread_over_the_pace_and_each_comes_once_in_it() {
        let (mut calendar, start) = (Calendar::default(), Instant::now());
        (1..=250).for_each(|netns| calendar.add(netns, PACE, start));
        let mut most = 0;
        for round in 0..2 {
            let mut seen = Vec::new();
            for tenth in 1..=50 {
                let due = calendar.due(start + PACE * round + Duration::from_millis(100) * tenth);
                most = most.max(due.len());
                seen.extend(due);
            }
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(1..=250), "{seen:?}");
        }
        assert!(most <= 8, "{most} at once");
    }

    #[test]
    fn who_is_asked_for_comes_soon_but_not_without_rest() {
        let (mut calendar, start) = (Calendar::default(), Instant::now());
        calendar.add(7, PACE, start);
        calendar.hasten(7, start);
        assert_eq!(calendar.due(start), [0; 0]);
        assert_eq!(calendar.next(), Some(start + REST));
        assert_eq!(calendar.due(start + REST), [7]);
        assert_eq!(calendar.due(start + REST), [0; 0]);
        calendar.remove(7);
        calendar.hasten(7, start + PACE);
        assert_eq!(calendar.next(), None);
    }
}
