//! Where records go. It refuses to know what a recorder does with them.

use nodetap_core::exchange::Event;

/// Takes records without ever waiting: traffic never waits for recording. Whoever implements it counts what it cannot
/// take.
pub trait Sink: Send + Sync + 'static {
    /// One finished record.
    fn record(&self, event: Event);

    /// Records that were lost before they could be handed over, by a fixed word of a reason.
    fn lost(&self, reason: &'static str, exchanges: u64, bytes: u64);

    /// TLS that was to be opened was passed through untouched, by a fixed word of a reason.
    fn passed_through(&self, _reason: &'static str) {}

    /// Does anybody want records? If not, no tap is made, and bytes are pumped without being looked at.
    fn wants_records(&self) -> bool {
        true
    }
}

/// Records nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSink;

impl Sink for NoSink {
    fn record(&self, _: Event) {}

    fn lost(&self, _: &'static str, _: u64, _: u64) {}

    fn wants_records(&self) -> bool {
        false
    }
}
