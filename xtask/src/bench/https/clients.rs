//! New TLS connections: the command line of our own clients (`src/bin/tls_clients.rs`) and what they print.

use anyhow::{Context, Result};

use super::Kind;
use super::certificates::Certificates;
use crate::bench::Ground;
use crate::bench::lane::Lane;

/// How many are at work at a time.
const CLIENTS: usize = 16;

/// What all of them saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Connections {
    pub(super) count: f64,
    pub(super) per_second: f64,
}

/// Opens connections one after the other, in so many clients at a time, with one request on each.
pub(super) fn connect(ground: Ground, lane: &mut Lane, kind: Kind, certificates: &Certificates) -> Result<Connections> {
    let program = ground.programs.tls_clients()?.display();
    let roots = match kind {
        // What the run tells the programs under it to trust.
        Kind::RunOutbound => "$SSL_CERT_FILE".to_owned(),
        _ => certificates.authority.display().to_string(),
    };
    let script = format!("\"{program}\" {} /1k \"{roots}\" {} {CLIENTS}", lane.called, ground.extent.seconds);
    let text = lane.client("sh", &["-c".to_owned(), script])?;
    parse(&text).with_context(|| format!("{}: the clients printed {text:?}", lane.name))
}

/// Reads `COUNT connections in SECONDS seconds`.
fn parse(text: &str) -> Option<Connections> {
    let (count, rest) = text.lines().find_map(|line| line.split_once(" connections in "))?;
    let (count, seconds): (f64, f64) = (count.parse().ok()?, rest.strip_suffix(" seconds")?.parse().ok()?);
    Some(Connections { count, per_second: count / seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_with_their_rate() {
        let connections = Connections { count: 600.0, per_second: 200.0 };
        assert_eq!(parse("600 connections in 3.000 seconds\n\n"), Some(connections));
        assert_eq!(parse("Error: after 3\n"), None);
    }
}
