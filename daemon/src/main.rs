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
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Ls(ls) => ls.run(),
    }
}
