//! New TLS connections by `openssl s_time`: its command line and what it prints. wrk would resume the sessions of those
//! that offer it and not of the others; this one never does.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::bench::lane::Lane;

/// How many are at work at a time.
const CLIENTS: usize = 4;

/// What all of them saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connections {
    pub(super) count: f64,
    pub(super) per_second: f64,
}

/// Opens connections one after the other, in so many clients at a time, with one request on each.
pub(super) fn connections(lane: &mut Lane, seconds: u32) -> Result<Connections> {
    // It goes on until the second on the clock that is so many later.
    let client = format!("openssl s_time -new -connect {} -www /1k -time {seconds} | tail -n 1 &", lane.called);
    let script = format!("{} wait", [client.as_str()].repeat(CLIENTS).join(" "));
    let start = Instant::now();
    let text = lane.client("sh", &["-c".to_owned(), script])?;
    let count = parse(&text).with_context(|| format!("{}: openssl s_time printed {text:?}", lane.name))?;
    Ok(Connections { count, per_second: count / start.elapsed().as_secs_f64() })
}

/// The connections of all clients; `None` when one of them failed.
fn parse(text: &str) -> Option<f64> {
    // `N connections in S real seconds, B bytes read per connection`, of a request that was answered with 1 KiB.
    let count = |line: &str| -> Option<f64> {
        let (count, rest) = line.split_once(" connections in ")?;
        let bytes: f64 =
            rest.split_once(" real seconds, ")?.1.strip_suffix(" bytes read per connection")?.parse().ok()?;
        (bytes >= 1024.0).then(|| count.trim().parse().ok())?
    };
    let counts: Vec<f64> = text.lines().filter_map(count).collect();
    (counts.len() == CLIENTS).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "481 connections in 3 real seconds, 1259 bytes read per connection\n";

    #[test]
    fn connections_are_those_of_all_clients() {
        assert_eq!(parse(&LINE.repeat(CLIENTS)), Some(1924.0));
    }

    #[test]
    fn a_client_that_failed_or_got_no_file_gives_no_figure() {
        assert_eq!(parse(&LINE.repeat(CLIENTS - 1)), None);
        assert_eq!(parse(&LINE.replace("1259", "150").repeat(CLIENTS)), None);
        assert_eq!(parse(""), None);
    }
}
