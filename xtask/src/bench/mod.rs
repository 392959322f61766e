//! `cargo xtask bench`: nodetap beside its peers on one machine in one run. Each contest is one kind of traffic, whose
//! paths take turns in every round; what is told are medians over the rounds, ratios of those, and which bars they meet.

mod bars;
mod contest;
mod durations;
mod h2;
mod http;
mod https;
mod lane;
mod losses;
mod middle;
mod over_and_over;
mod programs;
mod proof;
mod report;
mod site;
mod socks;
mod standings;
mod wrk;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::setup::Job;
use crate::started::Folder;
use crate::{process, setup};

use contest::Contest;
use programs::Programs;

/// What is asked of a bench.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// What is measured [default: all of it, in turn]
    #[arg(value_name = "CONTEST")]
    contests: Vec<Traffic>,
    /// Two short rounds and a small download: to see that everything works, not to quote
    #[arg(long)]
    quick: bool,
    /// Write the figures there as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure only rows whose name contains this; may be repeated. A ratio needs the rows that it compares
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// How often each row is measured [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Seconds of load for each figure that is measured by time [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
}

/// The kinds of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Traffic {
    /// HTTP/1.1, beside nginx and mitmdump
    Http,
    /// HTTP/2 without TLS, beside nghttpx
    H2,
    /// HTTPS, beside nginx and mitmdump
    Https,
    /// SOCKS5, beside microsocks and dante
    Socks,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Extent {
    rounds: u32,
    /// Seconds of load for each figure that is measured by time.
    seconds: u32,
    /// Requests of a load that is measured by their number.
    requests: u32,
    /// Size of the download.
    mebibytes: u64,
}

/// What every contest is given.
#[derive(Debug, Clone, Copy)]
struct Ground<'a> {
    /// Where files may be put.
    folder: &'a Path,
    programs: &'a Programs,
    extent: Extent,
}

impl Ground<'_> {
    /// Where nodetap records on the lane of that kind.
    fn records(&self, kind: impl std::fmt::Debug) -> PathBuf {
        self.folder.join(format!("records-{kind:?}"))
    }
}

impl Options {
    fn extent(&self) -> Extent {
        let (rounds, seconds, requests, mebibytes) =
            if self.quick { (2, 1, 20_000, 128) } else { (5, 3, 200_000, 1024) };
        Extent { rounds: self.rounds.unwrap_or(rounds), seconds: self.seconds.unwrap_or(seconds), requests, mebibytes }
    }

    /// The contests that are held, each once, and not those without a wanted row.
    fn held(&self) -> Result<Vec<Traffic>> {
        let all = Traffic::value_variants().iter().copied();
        let asked: Vec<Traffic> =
            all.filter(|traffic| self.contests.is_empty() || self.contests.contains(traffic)).collect();
        let wanted = |traffic: Traffic| traffic.rows().into_iter().filter(|(name, _)| self.wants(name));
        let held: Vec<Traffic> = asked.iter().copied().filter(|traffic| wanted(*traffic).count() > 0).collect();
        if held.is_empty() {
            let names: Vec<&str> = asked.iter().flat_map(|traffic| traffic.rows()).map(|(name, _)| name).collect();
            bail!("no row has such a name; there are: {}", names.join(" · "));
        }
        ensure!(
            process::is_root() || !held.iter().flat_map(|traffic| wanted(*traffic)).any(|(_, needs_root)| needs_root),
            "`nodetap run` needs root here: start the bench as root, or name other rows with --only"
        );
        Ok(held)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
    }
}

impl Traffic {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::H2 => "h2",
            Self::Https => "https",
            Self::Socks => "socks",
        }
    }

    /// The names of its rows, and whether they need root.
    fn rows(self) -> Vec<(&'static str, bool)> {
        match self {
            Self::Http => contest::rows::<http::Http>(),
            Self::H2 => contest::rows::<h2::H2>(),
            Self::Https => contest::rows::<https::Https>(),
            Self::Socks => contest::rows::<socks::Socks>(),
        }
    }

    fn hold(self, options: &Options, programs: &Programs) -> Result<Outcome> {
        match self {
            Self::Http => hold::<http::Http>(options, programs),
            Self::H2 => hold::<h2::H2>(options, programs),
            Self::Https => hold::<https::Https>(options, programs),
            Self::Socks => hold::<socks::Socks>(options, programs),
        }
    }
}

/// What a contest came to.
#[derive(Debug)]
struct Outcome {
    json: Value,
    /// Whether every row was what its name says.
    checked: Result<()>,
}

/// Measures and reports.
///
/// # Errors
/// When a peer cannot be installed or started, a measurement fails, or a row was not what its name says.
pub(crate) fn run(options: &Options) -> Result<()> {
    let held = options.held()?;
    setup::run(Job::Bench)?;
    let programs = Programs::default();
    let mut json = Map::new();
    let mut checked = Ok(());
    for traffic in held {
        let outcome = traffic.hold(options, &programs)?;
        json.insert(traffic.name().to_owned(), outcome.json);
        checked = checked.and(outcome.checked);
    }
    if let Some(file) = &options.json {
        std::fs::write(file, format!("{:#}\n", Value::from(json)))?;
    }
    // Only now: the other rows are right all the same.
    checked
}

fn hold<C: Contest>(options: &Options, programs: &Programs) -> Result<Outcome> {
    // Ports and files are those of one contest only.
    let folder = Folder::new("bench")?;
    let extent = options.extent();
    let ground = Ground { folder: &folder.0, programs, extent };
    let standings = contest::hold::<C>(&|name| options.wants(name), ground)?;
    println!("{}", report::table::<C>(&standings));
    Ok(Outcome { json: report::json::<C>(&standings, extent), checked: C::check(&standings) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(contests: &[Traffic], only: &[&str]) -> Options {
        let only = only.iter().copied().map(str::to_owned).collect();
        Options { contests: contests.to_vec(), quick: false, json: None, only, rounds: None, seconds: None }
    }

    #[test]
    fn a_contest_without_a_wanted_row_is_not_held() {
        let held = |contests: &[Traffic], only: &[&str]| options(contests, only).held().ok();
        assert_eq!(held(&[], &["microsocks"]), Some(vec![Traffic::Socks]));
        assert_eq!(held(&[], &["mitmdump", "nghttpx"]), Some(vec![Traffic::Http, Traffic::H2, Traffic::Https]));
        assert_eq!(held(&[Traffic::H2], &["direct"]), Some(vec![Traffic::H2]));
        assert_eq!(held(&[Traffic::H2], &["mitmdump"]), None);
    }
}
