//! Waiting for a condition, with a deadline: the only way in which a test waits.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Long enough for anything that happens at all on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Calls `look` until it gives something, and returns that.
///
/// # Errors
/// When it gave nothing for `deadline`; `what` names the condition.
pub fn eventually<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {deadline:?} in vain: {what}");
        }
        std::thread::sleep(PAUSE);
    }
}
