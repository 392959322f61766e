//! h2load: its command line and what it prints.

use anyhow::{Context, Result};

use crate::bench::durations::microseconds;
use crate::bench::lane::Lane;

/// What one h2load saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    pub(super) requests: f64,
    pub(super) per_second: f64,
    /// Requests that were not answered with a status of success.
    pub(super) failed: f64,
    /// Milliseconds for a request.
    pub(super) mean: f64,
}

/// Sends so many requests over 32 connections, 32 at a time on each.
pub(super) fn load(lane: &mut Lane, requests: u32) -> Result<Load> {
    let url = format!("http://{}/1k", lane.called);
    let arguments = ["-t1", "-c32", "-m32", "-n", &requests.to_string(), &url].map(str::to_owned);
    let text = lane.client("h2load", &arguments)?;
    parse(&text).with_context(|| format!("{}: h2load printed {text:?}", lane.name))
}

/// Reads what h2load prints; `None` when it is not that.
fn parse(text: &str) -> Option<Load> {
    let after = |start: &str| text.lines().find_map(|line| line.strip_prefix(start).map(str::trim));
    let counts = after("requests:")?;
    // `N NAME, N NAME, …`
    let count = |counts: &str, name: &str| {
        let count = counts.split(", ").find_map(|part| part.trim().strip_suffix(name))?;
        count.trim().parse::<f64>().ok()
    };
    let requests = count(counts, "total")?;
    let rate = after("finished in")?.split(", ").find_map(|part| part.strip_suffix(" req/s"))?;
    // `min max mean sd +/- sd`
    let mean = after("time for request:")?.split_whitespace().nth(2)?;
    Some(Load {
        requests,
        per_second: rate.parse().ok()?,
        // One that succeeded may still have another status than 2xx, and one that never began is not counted as failed.
        failed: requests - count(counts, "succeeded")?.min(count(after("status codes:")?, "2xx")?),
        mean: microseconds(mean)? / 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "starting benchmark...\nprogress: 100% done\n\n\
        finished in 679.54ms, 73579.40 req/s, 73.97MB/s\n\
        requests: 50000 total, 50000 started, 50000 done, 50000 succeeded, 0 failed, 0 errored, 0 timeout\n\
        status codes: 50000 2xx, 0 3xx, 0 4xx, 0 5xx\n\
        traffic: 50.26MB (52703744) total, 588.28KB (602400) headers (space savings 92.13%), 48.83MB data\n\
        \x20                    min         max         mean         sd        +/- sd\n\
        time for request:     1.11ms     68.47ms     13.37ms      4.46ms    86.36%\n\
        time for connect:      202us      1.77ms       944us       438us    62.50%\n";

    #[test]
    fn the_figures_of_h2load_are_read() {
        let load = Load { requests: 50_000.0, per_second: 73_579.40, failed: 0.0, mean: 13.37 };
        assert_eq!(parse(PRINTED), Some(load));
    }

    #[test]
    fn what_was_not_answered_well_has_failed_however_h2load_calls_it() {
        let failed = |from, to| parse(&PRINTED.replace(from, to)).map(|load| load.failed);
        assert_eq!(failed("50000 succeeded, 0 failed", "49990 succeeded, 10 failed"), Some(10.0));
        assert_eq!(failed("50000 2xx, 0 3xx, 0 4xx, 0 5xx", "49000 2xx, 0 3xx, 0 4xx, 1000 5xx"), Some(1000.0));
        assert_eq!(failed("req/s", "words"), None);
    }
}
