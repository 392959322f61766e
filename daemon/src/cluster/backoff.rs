//! How long to wait after a failure before the next try. It refuses to know what is tried, and to look at a clock.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(250);
/// The longest: an API server that comes back is noticed within this time.
const LONGEST: Duration = Duration::from_secs(15);

/// Waits that double from failure to failure.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// After one failure more. `asked`: what the server said it wants (`Retry-After`); `random` spreads the tries of
    /// many agents over the second half of the wait.
    pub fn after_failure(&mut self, asked: Option<Duration>, random: u32) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let spread = wait / 2 + (wait / 2).mul_f64(f64::from(random) / f64::from(u32::MAX));
        spread.max(asked.unwrap_or_default().min(LONGEST * 4))
    }

    /// It worked.
    pub fn success(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..40 {
            waits.push(backoff.after_failure(None, u32::MAX));
        }
        assert_eq!(waits[..4], [250, 500, 1000, 2000].map(Duration::from_millis));
        assert_eq!(waits[39], LONGEST);
        backoff.success();
        assert_eq!(backoff.after_failure(None, 0), FIRST / 2);
    }

    #[test]
    fn what_the_server_asks_for_is_granted_within_reason() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after_failure(Some(Duration::from_secs(7)), 0), Duration::from_secs(7));
        assert_eq!(backoff.after_failure(Some(Duration::from_secs(7000)), 0), LONGEST * 4);
    }
}
