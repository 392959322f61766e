//! Remembers for a while who could not be opened, so that the next connection is passed through at once. It refuses to
//! decide what a failure means.

use std::sync::{Mutex, PoisonError};

use nodetap_core::exchange::UnixMicros;

use super::Reason;
use super::recent::Recent;

/// A client that refused our certificate is left alone for so long, with this server.
const CLIENT: UnixMicros = 600 * 1_000_000;
/// A server that could not be opened is tried again after this time: it may have been repaired.
const UPSTREAM: UnixMicros = 60 * 1_000_000;
/// Pairs of target and host that are remembered; one is about 200 bytes.
const LIMIT: usize = 4096;

/// By target and host (the server name asked for, or the address; and the port).
#[derive(Debug)]
pub(crate) struct Verdicts(Mutex<Recent<(String, String), Verdict>>);

#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// The client went away once without a word.
    Doubt {
        until: UnixMicros,
    },
    Pass {
        reason: Reason,
        until: UnixMicros,
    },
}

impl Default for Verdicts {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(LIMIT)))
    }
}

impl Verdicts {
    /// Why this is to be passed through, if it is.
    pub(crate) fn passes(&self, target: &str, host: &str, now: UnixMicros) -> Option<Reason> {
        self.with(target, host, |recent, key| match recent.get(key)? {
            Verdict::Pass { reason, until } if *until > now => Some(*reason),
            Verdict::Pass { .. } => {
                recent.remove(key);
                None
            }
            Verdict::Doubt { .. } => None,
        })
    }

    /// It could not be opened, and will not be for a while.
    pub(crate) fn failed(&self, target: &str, host: &str, reason: Reason, now: UnixMicros) {
        let term = match reason {
            Reason::ClientRejected | Reason::ClientSilent => CLIENT,
            // Also a handshake that broke off: who waits for its end each time would be slower than without us.
            Reason::UpstreamUnverified
            | Reason::ClientCertificateWanted
            | Reason::UpstreamUnsupported
            | Reason::UpstreamFailed => UPSTREAM,
            // This one client's, or ours.
            Reason::Asked | Reason::ClientUnsupported | Reason::HelloUnreadable | Reason::NoCertificate => return,
        };
        let verdict = Verdict::Pass { reason, until: now + term };
        self.with(target, host, |recent, key| recent.insert(key.clone(), verdict));
    }

    /// The client went away without a word: the second time in a row counts.
    pub(crate) fn silent(&self, target: &str, host: &str, now: UnixMicros) {
        self.with(target, host, |recent, key| {
            let until = now + CLIENT;
            let verdict = match recent.get(key) {
                Some(Verdict::Doubt { until: doubt }) if *doubt > now => {
                    Verdict::Pass { reason: Reason::ClientSilent, until }
                }
                Some(Verdict::Pass { until: passes, .. }) if *passes > now => return,
                _ => Verdict::Doubt { until },
            };
            recent.insert(key.clone(), verdict);
        });
    }

    /// The client sent something through TLS that was opened. What an alert has said stands.
    pub(crate) fn succeeded(&self, target: &str, host: &str) {
        self.with(target, host, |recent, key| {
            if matches!(recent.get(key), Some(Verdict::Doubt { .. })) {
                recent.remove(key);
            }
        });
    }

    fn with<T>(
        &self,
        target: &str,
        host: &str,
        f: impl FnOnce(&mut Recent<(String, String), Verdict>, &(String, String)) -> T,
    ) -> T {
        let key = (target.to_owned(), host.to_ascii_lowercase());
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), &key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: UnixMicros = 60 * 1_000_000;

    #[test]
    fn an_alert_counts_at_once_and_for_ten_minutes() {
        let verdicts = Verdicts::default();
        verdicts.failed("run", "Example.com", Reason::ClientRejected, 5);
        assert_eq!(verdicts.passes("run", "example.com", 10 * MINUTE), Some(Reason::ClientRejected));
        assert_eq!(verdicts.passes("run", "example.org", 6), None);
        assert_eq!(verdicts.passes("other", "example.com", 6), None);
        assert_eq!(verdicts.passes("run", "example.com", 10 * MINUTE + 5), None);
    }

    #[test]
    fn silence_counts_twice_in_a_row() {
        let verdicts = Verdicts::default();
        verdicts.silent("run", "a", 1);
        verdicts.succeeded("run", "a");
        verdicts.silent("run", "a", 2);
        assert_eq!(verdicts.passes("run", "a", 3), None);
        verdicts.silent("run", "a", 4);
        assert_eq!(verdicts.passes("run", "a", 5), Some(Reason::ClientSilent));
        verdicts.succeeded("run", "a");
        assert_eq!(verdicts.passes("run", "a", 6), Some(Reason::ClientSilent));
        verdicts.silent("run", "b", 1);
        verdicts.silent("run", "b", 1 + 10 * MINUTE);
        assert_eq!(verdicts.passes("run", "b", 2 + 10 * MINUTE), None);
    }

    #[test]
    fn what_may_pass_by_itself_is_not_remembered() {
        let verdicts = Verdicts::default();
        for reason in [Reason::ClientUnsupported, Reason::NoCertificate, Reason::HelloUnreadable] {
            verdicts.failed("run", "a", reason, 1);
            assert_eq!(verdicts.passes("run", "a", 2), None);
        }
        verdicts.failed("run", "a", Reason::UpstreamUnverified, 1);
        assert_eq!(verdicts.passes("run", "a", MINUTE), Some(Reason::UpstreamUnverified));
        assert_eq!(verdicts.passes("run", "a", 1 + MINUTE), None);
    }
}
