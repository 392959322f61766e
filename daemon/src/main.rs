//! The thin front door: everything is put together in [`nodetap::app`].

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ls(nodetap::commands::ls::Ls),
    Show(nodetap::commands::show::Show),
    Tail(nodetap::commands::tail::Tail),
    Export(nodetap::commands::export::Export),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Ls(ls) => ls.run(),
        Command::Show(show) => show.run(),
        Command::Tail(tail) => tail.run(),
        Command::Export(export) => export.run(),
    }
}
