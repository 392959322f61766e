//! The one place that knows every part: the command line, and what each command is made of.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::agent::{self, Agent, options::LogFormat};
use crate::commands::pause::{Pause, Resume};
use crate::commands::{ca, export::Export, lint::Lint, ls::Ls, show::Show, tail::Tail};
use crate::run::{self, Failure, options};
use crate::{child, controller, doctor, proxy};

/// Exit code for a command line that makes no sense, as clap's own.
const USAGE: u8 = 2;

/// Records what a program sends and receives.
#[derive(Debug, Parser)]
#[command(name = "nodetap", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command and record what it sends and receives
    Run(options::Run),
    /// Serve as a forward or reverse proxy and record what passes; needs no root
    Proxy(proxy::options::Proxy),
    /// Capture the pods of one node that asked for it; what the DaemonSet runs
    Agent(Box<Agent>),
    /// List what was recorded
    Ls(Ls),
    /// Show one record: heads, bodies, times
    Show(Show),
    /// Show the last records, and new ones as they come
    Tail(Tail),
    /// Write a recording for other programs
    Export(Export),
    /// Serve the cluster's API, and put what workloads say on their pods
    Controller(controller::options::Controller),
    /// Stop all capture in a cluster at once, until `nodetap resume`
    Pause(Pause),
    /// Go on with capture after `nodetap pause`
    Resume(Resume),
    /// Make, show or export the certificate authority that TLS is opened with
    Ca(ca::Command),
    /// Say what the pods of a manifest would get
    Lint(Lint),
    /// Check whether this machine can run nodetap; or say of pods what is captured, and why not
    Doctor(Box<doctor::Doctor>),
    /// The first process of `nodetap run`
    #[command(name = child::SUBCOMMAND, hide = true)]
    RunInCgroup(RunInCgroup),
}

#[derive(Debug, clap::Args)]
struct RunInCgroup {
    #[arg(long)]
    cgroup: PathBuf,
    #[arg(long = "as")]
    user: Option<String>,
    #[arg(long, value_parser = files)]
    files: Option<(u64, u64)>,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

fn files(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once(':').and_then(|(soft, hard)| Some((soft.parse().ok()?, hard.parse().ok()?)));
    parsed.ok_or_else(|| "expected SOFT:HARD".to_owned())
}

/// Does what the command line says; the exit code is the process's.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are no errors; and whoever says nothing gets the help.
        Err(error) if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.exit()
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "nodetap: {}", one_line(&error));
            return ExitCode::from(USAGE);
        }
    };
    log(&cli.command);
    match cli.command {
        Command::Agent(options) => match agent::agent(&options) {
            Ok(code) => ExitCode::from(code),
            Err(failure) => {
                let _ = writeln!(std::io::stderr(), "nodetap agent: {failure}");
                ExitCode::from(failure.exit_code())
            }
        },
        Command::Run(options) => finish("run", run::run(&options)),
        Command::Proxy(options) => finish("proxy", proxy::proxy(&options)),
        Command::Ls(ls) => ls.run(),
        Command::Show(show) => show.run(),
        Command::Tail(tail) => tail.run(),
        Command::Export(export) => export.run(),
        Command::Controller(options) => match controller::controller(&options) {
            Ok(code) => ExitCode::from(code),
            Err(failure) => {
                let _ = writeln!(std::io::stderr(), "nodetap controller: {failure}");
                ExitCode::FAILURE
            }
        },
        Command::Pause(pause) => pause.run(),
        Command::Resume(resume) => resume.run(),
        Command::Ca(ca) => ca.run(),
        Command::Lint(lint) => lint.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::RunInCgroup(first) => {
            ExitCode::from(child::become_command(&first.command, &first.cgroup, first.user.as_deref(), first.files))
        }
    }
}

/// What clap says in a paragraph, in one line: its first part, without the usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said: Vec<_> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let said = said.join(" ");
    format!("{}; see `nodetap --help`", said.strip_prefix("error: ").unwrap_or(&said))
}

fn finish(command: &str, result: Result<u8, Failure>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "nodetap {command}: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Logs go to stderr; `NODETAP_LOG` sets the filter. By default a command says what is wrong, a daemon what it does too.
fn log(command: &Command) {
    let agent = if let Command::Agent(options) = command { Some(options.log_format) } else { None };
    let default = if agent.is_some() { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("NODETAP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match agent {
        Some(LogFormat::Json) => format.json().flatten_event(true).init(),
        Some(LogFormat::Text) => format.with_ansi(false).init(),
        None => format.without_time().with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
}
