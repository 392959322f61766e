//! nodetap's automation: everything that builds, installs, tests, shows or measures the project starts here as
//! `cargo xtask …`. It knows tools and files; what nodetap does with traffic is none of its business.
#![allow(clippy::print_stdout, reason = "what these commands print is what they are for")]

mod bench;
mod cache;
mod demo;
mod ebpf;
mod fuzz;
mod go;
mod image;
mod istio;
mod kubernetes;
mod nightly;
mod packages;
mod peers;
mod process;
mod setup;
mod started;
mod test;
mod tiers;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "nodetap's automation")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find what a job needs, install what is missing, and say so before doing it
    Setup {
        /// The job at hand
        #[arg(long = "for", value_enum, default_value = "all")]
        job: setup::Job,
    },
    /// Build the kernel programs into ebpf/nodetap.bpf.o and ebpf/fallback.bpf.o
    Ebpf {
        /// Change nothing: fail when the object that is checked in is not what its sources give
        #[arg(long)]
        check: bool,
        /// Build another object, beside it, whose programs log
        #[arg(long, conflicts_with = "check")]
        log: bool,
    },
    /// Format, clippy, kernel object, unit tests and every test tier
    Test {
        /// Run only tests whose name contains this, and skip the checks before them
        filter: Option<String>,
    },
    /// Capture real programs under `nodetap run`, or pods of a cluster, and show what was recorded
    Demo {
        /// In a cluster that is made for it
        #[arg(long)]
        cluster: bool,
        /// Beside Istio, in a mesh that is made for it
        #[arg(long, conflicts_with = "cluster")]
        mesh: bool,
        /// Leave the cluster up until you interrupt
        #[arg(long, requires = "cluster")]
        keep: bool,
        /// A nodetap that is built already
        #[arg(long, value_name = "FILE", hide = true)]
        program: Option<std::path::PathBuf>,
    },
    /// What the demo captures; it runs inside `nodetap run`
    #[command(hide = true)]
    Scene,
    /// Feed every parser of strangers' bytes with what libFuzzer thinks of
    Fuzz {
        /// For each target
        #[arg(long, value_name = "N", default_value_t = 10)]
        seconds: u32,
        /// Only targets whose name contains this
        filter: Option<String>,
    },
    /// Measure nodetap beside its peers: one run, interleaved, medians and ratios
    Bench(bench::Options),
    /// Build nodetap as a container image, without a container engine
    Image {
        /// The archive; in the build's folder when this is not given
        #[arg(long, value_name = "FILE")]
        to: Option<std::path::PathBuf>,
        /// A nodetap that is built already, without what only debuggers read; else it is built as users get it
        #[arg(long, value_name = "FILE")]
        program: Option<std::path::PathBuf>,
    },
    /// What takes longer: more of what is generated, calls that stay open, the bars of a release build (250 pods; one pod
    /// that floods, beside the same flood without capture; outages under load), and the kernel tier over and over
    Soak {
        /// Only those bars; FILTER is a part of `many`, `floods` or `outage` then
        #[arg(long, conflicts_with = "rounds")]
        bars: bool,
        /// How often
        #[arg(long, default_value_t = 20)]
        rounds: u32,
        /// Only tests whose name contains this
        filter: Option<String>,
    },
}

fn main() -> ExitCode {
    if let Some(failed) = fuzz::compile() {
        return failed;
    }
    let outcome = match Cli::parse().command {
        Command::Setup { job } => setup::run(job),
        Command::Ebpf { log: true, .. } => ebpf::with_log(),
        Command::Ebpf { check, .. } => ebpf::run(check),
        Command::Test { filter } => test::run(filter.as_deref()),
        Command::Demo { mesh: true, program, .. } => demo::mesh::run(program.as_deref()),
        Command::Demo { cluster: true, keep, program, .. } => demo::cluster::run(keep, program.as_deref()),
        Command::Demo { .. } => demo::run(),
        Command::Scene => demo::play(),
        Command::Fuzz { seconds, filter } => fuzz::run(seconds, filter.as_deref()),
        Command::Image { to, program } => image::run(to.as_deref(), program.as_deref()),
        Command::Bench(options) => bench::run(&options),
        Command::Soak { bars: true, filter, .. } => test::bars(filter.as_deref()),
        Command::Soak { rounds, filter, .. } => test::soak(rounds, filter.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
