//! How much TLS was to be opened and was passed through instead, by reason: for the summary of a run, and for metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Reasons that are told apart; what comes on top is counted as `other`.
const REASONS: usize = 32;
const OTHER: &str = "other";

/// Counts; shared by whoever counts and whoever shows.
#[derive(Debug, Default)]
pub(super) struct PassedThrough(Mutex<BTreeMap<&'static str, u64>>);

impl PassedThrough {
    /// One connection more. `reason`: a fixed word.
    pub(super) fn add(&self, reason: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one is for all others.
        let known = counts.contains_key(reason) || counts.len() < REASONS - 1;
        *counts.entry(if known { reason } else { OTHER }).or_default() += 1;
    }

    /// Connections by reason.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `3 client_rejected, 1 upstream_unverified`; `None`: there were none.
    pub(super) fn said(&self) -> Option<String> {
        let counts = self.counts();
        let parts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_their_number_is_bounded() {
        let passed = PassedThrough::default();
        assert_eq!(passed.said(), None);
        for reason in ["client_rejected", "upstream_unverified", "client_rejected"] {
            passed.add(reason);
        }
        assert_eq!(passed.said().as_deref(), Some("2 client_rejected, 1 upstream_unverified"));
        for number in 0..100 {
            passed.add(Box::leak(format!("reason {number}").into_boxed_str()));
        }
        let counts = passed.counts();
        assert_eq!((counts.len(), counts.values().sum::<u64>()), (REASONS, 103));
    }
}
