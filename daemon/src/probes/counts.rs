//! What the hooks counted of one target.

use nodetap_ebpf_common::{COUNTERS, Counter, DIRECT_COUNTERS, Reason};

/// Numbers since the target began; they only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub steered_outbound: u64,
    pub steered_inbound: u64,
    /// Connects that were not steered.
    pub direct: Direct,
    /// Inbound connections that went past us because we did not answer in time.
    pub away_inbound: u64,
    /// Inbound connections that the user wants left alone.
    pub ignored_inbound: u64,
    /// Inbound connections to a loopback address, where these are left alone.
    pub loopback_inbound: u64,
    /// Destinations that a socket has sent datagrams to.
    pub datagram: u64,
    /// Events that did not fit into the ring.
    pub ring_full: u64,
    /// Map entries that did not fit.
    pub map_full: u64,
    /// Steered connects that did not reach our listener.
    pub steered_failed: u64,
}

/// Connects that were not steered, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Direct {
    pub off: u64,
    pub away: u64,
    pub ignored: u64,
    pub refused: u64,
    pub no_route: u64,
    pub scoped: u64,
    pub loopback: u64,
    pub chosen: u64,
}

impl Direct {
    /// By the names that metrics use.
    pub fn by_name(&self) -> [(&'static str, u64); 8] {
        [
            ("off", self.off),
            ("away", self.away),
            ("ignored", self.ignored),
            ("refused", self.refused),
            ("no_route", self.no_route),
            ("scoped", self.scoped),
            ("loopback", self.loopback),
            ("chosen", self.chosen),
        ]
    }
}

impl Counts {
    /// From the values of all CPUs.
    pub(super) fn sum<'a>(cpus: impl Iterator<Item = &'a [u64; COUNTERS]>) -> Self {
        let mut sums = [0u64; COUNTERS];
        for cpu in cpus {
            sums.iter_mut().zip(cpu).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
        }
        let slot = |slot: u32| sums.get(slot as usize).copied().unwrap_or(0);
        let of = |counter: Counter| slot(counter as u32);
        let direct = |reason: Reason| slot(DIRECT_COUNTERS + reason as u32);
        Self {
            steered_outbound: of(Counter::Steered),
            steered_inbound: of(Counter::SteeredIn),
            direct: Direct {
                off: direct(Reason::Off),
                away: direct(Reason::Away),
                ignored: direct(Reason::Ignored),
                refused: direct(Reason::Refused),
                no_route: direct(Reason::NoRoute),
                scoped: direct(Reason::Scoped),
                loopback: direct(Reason::Loopback),
                chosen: direct(Reason::Chosen),
            },
            away_inbound: of(Counter::AwayIn),
            ignored_inbound: of(Counter::IgnoredIn),
            loopback_inbound: of(Counter::LoopbackIn),
            datagram: of(Counter::Datagram),
            ring_full: of(Counter::RingFull),
            map_full: of(Counter::MapFull),
            steered_failed: of(Counter::SteeredFailed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_slot_of_its_own() {
        let last_reason = (0..).map_while(|more| Reason::from_number(1 + more)).last().unwrap();
        assert_eq!(DIRECT_COUNTERS as usize + last_reason as usize + 1, COUNTERS);
        assert_eq!(Counter::Datagram as u32 + 1, DIRECT_COUNTERS);
    }

    #[test]
    fn cpus_are_added_up() {
        let mut cpu = [0; COUNTERS];
        cpu[Counter::Steered as usize] = 3;
        cpu[DIRECT_COUNTERS as usize + Reason::Loopback as usize] = 2;
        let counts = Counts::sum([cpu, cpu].iter());
        assert_eq!((counts.steered_outbound, counts.direct.loopback), (6, 4));
    }
}
