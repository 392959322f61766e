//! `cargo xtask fuzz`: libFuzzer over everything of the data plane that reads what strangers send. It needs no nightly
//! compiler: the coverage pass is one of LLVM's own, and only the workspace's crates are given it, so that the others are
//! those of the tests.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};

use crate::{cache, packages, process, workspace};

const PACKAGE: &str = "nodetap-fuzz";
/// Set for a compiler that is to instrument what it compiles.
const INSTRUMENT: &str = "NODETAP_INSTRUMENT";
/// What libFuzzer is fed by (<https://clang.llvm.org/docs/SanitizerCoverage.html>).
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Copt-level=1",
];
/// Bytes of an input at most.
const LONGEST: u32 = 4096;

/// Runs every target (or those whose name contains `filter`) for so many seconds each.
///
/// # Errors
/// When a target crashed: the input that did it is named.
pub(crate) fn run(seconds: u32, filter: Option<&str>) -> Result<()> {
    packages::ensure(&[packages::GXX])?;
    let folder = workspace::target_dir()?.join("fuzz");
    std::fs::create_dir_all(&folder)?;
    let binary = build(&folder)?;
    let names = names(&binary, &folder)?;
    let wanted: Vec<&String> = names.iter().filter(|name| filter.is_none_or(|part| name.contains(part))).collect();
    if wanted.is_empty() {
        bail!("no fuzz target has such a name; there are: {}", names.join(" "));
    }
    // As many at a time as there are processors, each for its whole time.
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    for some in wanted.chunks(lanes) {
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let running: Vec<_> =
                some.iter().map(|name| scope.spawn(|| fuzz(&binary, name, seconds, &folder))).collect();
            running.into_iter().map(|one| one.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))).collect()
        });
        results.into_iter().collect::<Result<()>>()?;
    }
    Ok(())
}

fn fuzz(binary: &Path, name: &str, seconds: u32, folder: &Path) -> Result<()> {
    // What was found in earlier runs is where this one begins.
    let corpus = cache::folder()?.join("corpus").join(name);
    let crashes = folder.join(name);
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&crashes)?;
    let mut command = Command::new(binary);
    command.env("NODETAP_FUZZ", name).arg(&corpus);
    command.args([format!("-max_total_time={seconds}"), format!("-max_len={LONGEST}")]);
    command.args(["-timeout=5", "-rss_limit_mb=1024", "-verbosity=0", "-print_final_stats=1", "-use_value_profile=1"]);
    command.arg(format!("-artifact_prefix={}/", crashes.display()));
    let done = command.output().with_context(|| format!("cannot start {}", process::line(&command)))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        bail!("fuzz target {name} failed, with the input in {}: {}", crashes.display(), said.trim());
    }
    let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!("fuzz {name}: {} inputs in {seconds} s, no crash", runs.map_or("?", str::trim));
    Ok(())
}

fn build(folder: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(workspace::cargo());
    // We are the compiler's wrapper, too: see [`compile`]. A copy, because the tests' build may have put another xtask in
    // our place, and then this program has no name any more.
    let wrapper = folder.join("compiler");
    std::fs::copy("/proc/self/exe", &wrapper).context("cannot copy this program")?;
    cargo.env("RUSTC_WORKSPACE_WRAPPER", &wrapper).env(INSTRUMENT, "1");
    cargo.args(["build", "--quiet", "--package", PACKAGE]).current_dir(workspace::root()?);
    process::run(&mut cargo)?;
    Ok(workspace::target_dir()?.join("debug").join(PACKAGE))
}

/// The names of all targets, as the program says them before it exits, which libFuzzer takes for a crash: what it writes
/// of it goes to `folder`.
fn names(binary: &Path, folder: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(binary);
    command.env("NODETAP_FUZZ", "").args(["-runs=1", "-verbosity=0"]);
    let done = command.arg(format!("-artifact_prefix={}/", folder.display())).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    let list = said.lines().find_map(|line| line.split_once("one of:")).context("the fuzz program names no targets")?;
    Ok(list.1.split_whitespace().map(ToOwned::to_owned).collect())
}

/// When cargo calls this program in place of the compiler: becomes the compiler, with the coverage pass. Returns only
/// when this is an ordinary call, or the compiler cannot be started.
pub(crate) fn compile() -> Option<ExitCode> {
    std::env::var_os(INSTRUMENT)?;
    let mut arguments = std::env::args_os().skip(1);
    let compiler = arguments.next()?;
    let arguments: Vec<OsString> = arguments.collect();
    let mut command = Command::new(compiler);
    command.args(&arguments);
    // A build script runs here and now, without libFuzzer.
    if !arguments.iter().any(|argument| argument == "build_script_build") {
        command.args(COVERAGE);
    }
    eprintln!("error: cannot start {}: {}", process::line(&command), command.exec());
    Some(ExitCode::FAILURE)
}
