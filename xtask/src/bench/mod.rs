//! `cargo xtask bench`: nodetap beside its peers on one machine in one run. The paths take turns in every round, so that
//! what else the machine does meets all of them; what is told are medians over the rounds, and ratios of those.

mod measure;
mod paths;
mod report;

use std::path::PathBuf;

use anyhow::Result;

use crate::setup::Job;
use crate::started::Folder;
use crate::{demo, packages, setup};

pub(crate) use paths::Kind;

/// What is asked of a bench.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Two short rounds: to see that everything works, not to quote
    #[arg(long)]
    quick: bool,
    /// Write the figures there as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure only paths whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
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

/// Measures and reports.
///
/// # Errors
/// When a peer cannot be installed or started, or a measurement fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run(Job::Bench)?;
    let nodetap = demo::release_build()?;
    let extent = if options.quick {
        Extent { rounds: 2, seconds: 1, mebibytes: 128 }
    } else {
        Extent { rounds: 5, seconds: 3, mebibytes: 1024 }
    };
    let folder = Folder::new("bench")?;
    let site = paths::Site::start(&folder.0, extent.mebibytes)?;
    let mut measured = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| options.only.as_ref().is_none_or(|part| kind.name().contains(part)))
    {
        let path = paths::Path::start(kind, &site, &nodetap, &packages::mitmdump()?, &folder.0)?;
        measured.push((path, Vec::new()));
    }
    for round in 1..=extent.rounds {
        for (path, figures) in &mut measured {
            eprintln!("round {round} of {}: {}", extent.rounds, path.kind.name());
            // mitmproxy keeps a whole body in memory: once is enough to see how long that takes.
            let download = path.kind != Kind::Mitmdump || round == 1;
            figures.push(measure::figures(path, extent, download)?);
        }
    }
    let results: Vec<report::Row> =
        measured.iter().map(|(path, figures)| report::Row::new(path.kind, figures)).collect();
    print!("{}", report::table(&results));
    if let Some(file) = &options.json {
        std::fs::write(file, format!("{:#}\n", report::json(&results, extent.rounds, extent.seconds)))?;
    }
    Ok(())
}
