//! wrk: its command line and what it prints.

use anyhow::{Context, Result};

use super::durations::microseconds;
use super::lane::Lane;

/// What one wrk saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// How many were answered.
    pub(super) requests: f64,
    pub(super) per_second: f64,
    /// Microseconds.
    pub(super) p50: f64,
    /// Microseconds.
    pub(super) p99: f64,
}

/// wrk's arguments, for one thread.
pub(super) fn arguments(connections: u32, seconds: u32, url: &str) -> Vec<String> {
    ["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--latency", url].map(str::to_owned).to_vec()
}

/// Loads a lane.
pub(super) fn load(lane: &mut Lane, arguments: &[String]) -> Result<Load> {
    let text = lane.client("wrk", arguments)?;
    parse(&text).with_context(|| format!("{}: wrk printed {text:?}", lane.name))
}

/// Reads what wrk prints with `--latency`; `None` when it is not that, or when there were errors, which would make the
/// figures those of another path.
fn parse(text: &str) -> Option<Load> {
    let after = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start).map(str::trim));
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        return None;
    }
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ").map(|(count, _)| count))?;
    Some(Load {
        requests: requests.parse().ok()?,
        per_second: after("Requests/sec:")?.parse().ok()?,
        p50: microseconds(after("50%")?)?,
        p99: microseconds(after("99%")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "Running 1s test @ http://127.0.0.1:80/1k\n  1 threads and 16 connections\n  \
        Latency Distribution\n     50%  446.00us\n     75%  600.00us\n     90%    1.20ms\n     99%    2.05ms\n  \
        27000 requests in 1.00s, 30.00MB read\nRequests/sec:  27825.31\nTransfer/sec:     30.00MB\n";

    #[test]
    fn the_figures_of_wrk_are_read_in_microseconds() {
        let load = parse(PRINTED).unwrap();
        assert!((load.p50 - 446.0).abs() < 1e-6 && (load.p99 - 2050.0).abs() < 1e-6, "{load:?}");
        assert!((load.per_second - 27825.31).abs() < 1e-6 && (load.requests - 27000.0).abs() < 1e-6, "{load:?}");
    }

    #[test]
    fn a_run_with_errors_gives_no_figures() {
        assert!(parse(&format!("{PRINTED}  Socket errors: connect 0, read 3, write 0, timeout 0\n")).is_none());
        assert!(parse(&format!("{PRINTED}  Non-2xx or 3xx responses: 5\n")).is_none());
    }
}
