//! `cargo xtask test`: every check of the project in one go, ended by one line that counts the tests. Everything is built
//! once, by one command and with one set of features; what was built is then run directly.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::setup::Job;
use crate::tiers::{self, Tier};
use crate::{demo, ebpf, fuzz, image, process, setup, workspace};

/// All packages but the kernel programs, which are built for another machine; and the tiers, which a plain `cargo test`
/// leaves out.
const EVERYTHING: &[&str] = &[
    "--workspace",
    "--exclude",
    "nodetap-ebpf",
    "--all-targets",
    "--features",
    "nodetap/netns,nodetap/kernel,nodetap-tests/netns,nodetap-tests/kernel,nodetap-tests/cluster,nodetap-tests/mesh,\
     nodetap-tests/node,xtask/tls-clients",
];

/// For each fuzz target.
const FUZZ_SECONDS: u32 = 10;
/// Modules of the cluster tier.
const BARS: [&str; 3] = ["many::", "floods::", "outage::"];
/// Of a soak.
const CONVERSATIONS: u32 = 100_000;

/// What the test binaries counted.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    passed: u64,
    failed: u64,
}

/// A test binary, and the package it belongs to.
#[derive(Debug)]
struct Binary {
    package: PathBuf,
    name: String,
    file: PathBuf,
}

#[derive(Debug, Default)]
struct Built {
    tests: Vec<Binary>,
    nodetap: Option<PathBuf>,
    /// Bars that are times are held, and not only told.
    bars: bool,
    /// `nodetap` is as users get it.
    optimised: bool,
}

/// Runs all checks and tests; with a filter only the tests whose name contains it.
///
/// # Errors
/// When a check or a test failed, or a tier that is required cannot run.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    setup::run(Job::Test)?;
    if filter.is_none() {
        step("format");
        process::run(cargo().args(["fmt", "--all", "--check"]))?;
        step("clippy");
        process::run(cargo().args(["clippy", "--quiet"]).args(EVERYTHING).args(["--", "-D", "warnings"]))?;
        step("kernel object");
        ebpf::run(true)?;
    }
    step("build");
    let built = build()?;
    let mut count = Count::default();
    step("unit tests");
    for binary in built.tests.iter().filter(|binary| tier_of(binary).is_none()) {
        count.add(execute(binary, &built, filter, &[])?);
    }
    if filter.is_none() {
        let mut doc = cargo();
        doc.args(["test", "--quiet", "--workspace", "--exclude", "nodetap-ebpf", "--doc"]);
        count.add(counted(&mut doc)?);
    }
    for tier in tiers::ALL {
        count.add(run_tier(tier, &built, filter)?);
    }
    if filter.is_none() && count.failed == 0 {
        step("fuzz");
        fuzz::run(FUZZ_SECONDS, None)?;
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    if count.failed > 0 {
        bail!("{} tests failed", count.failed);
    }
    if count.passed == 0 {
        bail!("no test has the name {}", filter.unwrap_or_default());
    }
    Ok(())
}

/// Runs what the tests hold back because it takes long, the bars of a release build, and then the kernel tier `rounds`
/// times; stops at the first that fails.
///
/// # Errors
/// When the tier cannot run, or a test failed.
pub(crate) fn soak(rounds: u32, filter: Option<&str>) -> Result<()> {
    setup::run(Job::Test)?;
    let mut built = build()?;
    built.bars = true;
    let mut total = if filter.is_none() { long(&built)? } else { Count::default() };
    if filter.is_none() && total.failed == 0 {
        total.add(hold_bars(&mut built, None)?);
    }
    for round in 1..=rounds {
        if total.failed > 0 {
            break;
        }
        step(&format!("round {round} of {rounds}"));
        if let Some(why) = Tier::Kernel.lacks() {
            bail!("the kernel tier cannot run here: {why}");
        }
        total.add(run_tier(Tier::Kernel, &built, filter)?);
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 || total.passed == 0 {
        bail!("the soak did not pass");
    }
    Ok(())
}

/// Only the bars of a release build.
///
/// # Errors
/// When they cannot be measured here, or one is not met.
pub(crate) fn bars(filter: Option<&str>) -> Result<()> {
    setup::run(Job::Test)?;
    let mut built = build()?;
    built.bars = true;
    let count = hold_bars(&mut built, filter)?;
    println!("{} passed, {} failed", count.passed, count.failed);
    if count.failed > 0 || count.passed == 0 {
        bail!("not all bars were met");
    }
    Ok(())
}

/// The tests with bars that are times, sizes or shares of a processor, with nodetap as users get it and one at a time:
/// many pods, a flood, an outage.
fn hold_bars(built: &mut Built, filter: Option<&str>) -> Result<Count> {
    step("the bars of a release build");
    if let Some(why) = Tier::Cluster.lacks() {
        bail!("the cluster tier cannot run here: {why}");
    }
    let wanted: Vec<&str> = BARS.iter().copied().filter(|name| filter.is_none_or(|part| name.contains(part))).collect();
    if wanted.is_empty() {
        bail!("no bars have the name {}: there are {}", filter.unwrap_or_default(), BARS.join(" "));
    }
    let of_tests = built.nodetap.replace(demo::release_build()?);
    built.optimised = true;
    let mut count = Count::default();
    for binary in built.tests.iter().filter(|binary| tier_of(binary) == Some(Tier::Cluster)) {
        let mut command = command(binary, built);
        command.args(&wanted).args(["--nocapture", "--test-threads=1"]);
        count.add(counted(&mut command)?);
    }
    (built.nodetap, built.optimised) = (of_tests, false);
    Ok(count)
}

/// The tests that are ignored otherwise, and those that can be told to do more of the same.
fn long(built: &Built) -> Result<Count> {
    let mut count = Count::default();
    step(&format!("{CONVERSATIONS} generated conversations"));
    for binary in built.tests.iter().filter(|binary| binary.name == "tap") {
        let mut command = command(binary, built);
        command.env("NODETAP_CONVERSATIONS", CONVERSATIONS.to_string()).args(["peers::", "--nocapture"]);
        count.add(counted(&mut command)?);
    }
    step("tests that take longer");
    for binary in built.tests.iter().filter(|binary| tier_of(binary) == Some(Tier::None)) {
        // One at a time: they look at the clock.
        count.add(counted(command(binary, built).args(["--ignored", "--nocapture", "--test-threads=1"]))?);
    }
    Ok(count)
}

impl Count {
    fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

fn run_tier(tier: Tier, built: &Built, filter: Option<&str>) -> Result<Count> {
    step(&format!("tier {}", tier.name()));
    if let Some(why) = tier.lacks() {
        if std::env::var("NODETAP_REQUIRE_TIERS").is_ok_and(|value| value == "all") {
            bail!("tier {} is required (NODETAP_REQUIRE_TIERS=all) and cannot run: {why}", tier.name());
        }
        println!("tier {} cannot run here: {why}", tier.name());
        return Ok(Count::default());
    }
    if let (Tier::Node, Some(nodetap)) = (tier, &built.nodetap) {
        // What runs there is the image, with the program that was built for the tests.
        image::write_for_tests(nodetap, None)?;
    }
    let mut count = Count::default();
    for binary in built.tests.iter().filter(|binary| tier_of(binary) == Some(tier)) {
        count.add(execute(binary, built, filter, &[&format!("--test-threads={}", tier.at_once())])?);
    }
    Ok(count)
}

fn build() -> Result<Built> {
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--message-format", "json-render-diagnostics"]).args(EVERYTHING);
    let mut child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut built = Built::default();
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        if let Ok(message) = serde_json::from_str::<Value>(&line?) {
            built.take(&message);
        }
    }
    if !child.wait()?.success() {
        bail!("the build failed");
    }
    built.tests.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(built)
}

impl Built {
    /// Notes what one of cargo's messages says was built.
    fn take(&mut self, message: &Value) {
        let Some(file) = message["executable"].as_str().map(PathBuf::from) else { return };
        let target = &message["target"];
        let kind = target["kind"][0].as_str().unwrap_or_default();
        if message["profile"]["test"] == true && kind != "bench" {
            let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
            let package = manifest.parent().unwrap_or(manifest).to_path_buf();
            self.tests.push(Binary { package, name: target["name"].as_str().unwrap_or_default().to_owned(), file });
        } else if kind == "bin" && target["name"] == "nodetap" {
            self.nodetap = Some(file);
        }
    }
}

fn tier_of(binary: &Binary) -> Option<Tier> {
    let has_tiers = binary.package.file_name().is_some_and(|name| name == "tests" || name == "daemon");
    tiers::ALL.into_iter().find(|tier| has_tiers && tier.name() == binary.name)
}

fn execute(binary: &Binary, built: &Built, filter: Option<&str>, arguments: &[&str]) -> Result<Count> {
    let mut command = command(binary, built);
    command.args(filter).args(arguments);
    if tier_of(binary).is_none() {
        command.arg("--quiet");
    }
    counted(&mut command)
}

fn command(binary: &Binary, built: &Built) -> Command {
    let mut command = Command::new(&binary.file);
    command.current_dir(&binary.package).env("CARGO_MANIFEST_DIR", &binary.package);
    if let Some(nodetap) = &built.nodetap {
        command.env("NODETAP_BIN", nodetap);
    }
    if built.bars {
        command.env("NODETAP_BARS", "held");
    }
    if built.optimised {
        command.env("NODETAP_OPTIMISED", "yes");
    }
    command
}

/// Runs a test binary (or cargo's doc tests), passes its output on, and counts by its closing lines. One that ended
/// badly without having counted a failure counts as one.
fn counted(command: &mut Command) -> Result<Count> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", process::line(command)))?;
    let mut count = Count::default();
    for line in BufReader::new(child.stdout.take().context("a test has no output")?).lines() {
        let line = line?;
        println!("{line}");
        count.add(closing(&line).unwrap_or_default());
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        println!("{} ended with {status}", process::line(command));
        count.failed += 1;
    }
    Ok(count)
}

/// Reads `test result: ok. 3 passed; 0 failed; …`.
fn closing(line: &str) -> Option<Count> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |word: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse::<u64>().ok()).unwrap_or_default()
    };
    Some(Count { passed: number("passed"), failed: number("failed") })
}

fn cargo() -> Command {
    let mut cargo = Command::new(workspace::cargo());
    if let Ok(root) = workspace::root() {
        cargo.current_dir(root);
    }
    cargo
}

fn step(name: &str) {
    println!("── {name}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_binary_is_counted() {
        let count = closing("test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out").unwrap();
        assert_eq!((count.passed, count.failed), (12, 3));
    }

    #[test]
    fn other_lines_are_not_counted() {
        assert!(closing("test a_test ... ok").is_none());
    }
}
