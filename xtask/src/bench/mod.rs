//! `cargo xtask bench`: nodetap beside its peers on one machine in one run. The paths take turns in every round, forwards
//! in one and backwards in the next, so that what else the machine does meets all of them; what is told are medians over
//! the rounds, ratios of those, and which bars they meet.

mod bars;
mod kind;
mod lanes;
mod losses;
mod measure;
mod middle;
mod paths;
mod report;
mod wrk;

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::setup::Job;
use crate::started::Folder;
use crate::{demo, packages, process, setup};

use kind::Kind;
use lanes::Programs;
use measure::Figures;
use paths::{Path, Site};
use report::Row;

/// What is asked of a bench.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
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
    /// Seconds of load for each figure [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Extent {
    rounds: u32,
    /// Seconds of load for each figure.
    seconds: u32,
    /// Size of the download.
    mebibytes: u64,
}

impl Options {
    fn extent(&self) -> Extent {
        let (rounds, seconds, mebibytes) = if self.quick { (2, 1, 128) } else { (5, 3, 1024) };
        Extent { rounds: self.rounds.unwrap_or(rounds), seconds: self.seconds.unwrap_or(seconds), mebibytes }
    }

    fn kinds(&self) -> Result<Vec<Kind>> {
        let wanted = |kind: &Kind| self.only.is_empty() || self.only.iter().any(|part| kind.name().contains(part));
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(wanted).collect();
        if kinds.is_empty() {
            bail!("no row has such a name; there are: {}", Kind::ALL.map(Kind::name).join(" · "));
        }
        ensure!(
            process::is_root() || !kinds.iter().any(|kind| kind.is_run()),
            "`nodetap run` needs root here: start the bench as root, or name other rows with --only"
        );
        Ok(kinds)
    }
}

/// Measures and reports.
///
/// # Errors
/// When a peer cannot be installed or started, a measurement fails, or a row was not what its name says.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (kinds, extent) = (options.kinds()?, options.extent());
    setup::run(Job::Bench)?;
    let programs = Programs { nodetap: binary()?, mitmdump: packages::mitmdump()? };
    let folder = Folder::new("bench")?;
    let site = Site::start(&folder.0, extent.mebibytes)?;
    let mut measured = Vec::new();
    for kind in kinds {
        measured.push((Path::start(kind, &site, &programs, &folder.0)?, Vec::new()));
    }
    for round in 1..=extent.rounds {
        measure_round(&mut measured, round, extent)?;
        measured.reverse();
    }
    measured.sort_by_key(|(path, _)| path.kind);
    let mut rows = Vec::new();
    for (path, figures) in &mut measured {
        rows.push(Row::new(path.kind, figures, path.end()?));
    }
    print!("{}", report::table(&rows));
    if let Some(file) = &options.json {
        std::fs::write(file, format!("{:#}\n", report::json(&rows, extent.rounds, extent.seconds)))?;
    }
    // Only now: the other rows are right all the same.
    let calm: Vec<&str> = rows.iter().filter(|row| row.was_spared()).map(|row| row.kind.name()).collect();
    ensure!(calm.is_empty(), "nothing was lost, so nothing was in the recorder's way: {}", calm.join(" · "));
    Ok(())
}

fn measure_round(measured: &mut [(Path, Vec<Figures>)], round: u32, extent: Extent) -> Result<()> {
    for (path, figures) in measured {
        eprintln!("round {round} of {}: {}", extent.rounds, path.kind.name());
        // mitmproxy keeps a whole body in memory: once, at the end, is enough to see how long that takes.
        let download = path.kind != Kind::Mitmdump || round == extent.rounds;
        figures.push(measure::figures(path, extent.seconds, download)?);
    }
    Ok(())
}

/// The nodetap to measure: the one that `NODETAP_BIN` names, else this checkout's, built as users get it.
fn binary() -> Result<PathBuf> {
    match std::env::var_os("NODETAP_BIN").filter(|file| !file.is_empty()) {
        Some(file) => {
            let file = PathBuf::from(file);
            ensure!(file.is_file(), "NODETAP_BIN names {}, which is no file", file.display());
            eprintln!("measuring {}", file.display());
            Ok(file)
        }
        None => demo::release_build(),
    }
}
