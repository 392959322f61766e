//! `cargo xtask demo`: real programs under one `nodetap run`, then what was captured of them, held against the validators
//! of others. It fails when less was captured than it promises.

pub(crate) mod cluster;
pub(crate) mod mesh;
mod scene;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::setup::Job;
use crate::{packages, process, setup, workspace};

pub(crate) use scene::play;

/// What the demo promises to capture at the least.
const EXCHANGES: usize = 20;

/// Shows the demo.
///
/// # Errors
/// When something cannot be installed, built or run, or too little was captured, or it is not valid.
pub(crate) fn run() -> Result<()> {
    setup::run(Job::Demo)?;
    let nodetap = release_build()?;
    let place = workspace::target_dir()?.join("demo");
    if place.exists() {
        fs::remove_dir_all(&place).context("cannot remove what the last demo captured")?;
    }
    fs::create_dir_all(&place)?;
    let (records, har) = (place.join("records"), place.join("demo.har"));

    let mut capture = with_privileges(&nodetap)?;
    capture.arg("run").arg("--out").arg(&records).arg("--har").arg(&har).arg("--");
    capture.arg(std::env::current_exe()?).arg("scene");
    println!("$ {}", process::line(&capture));
    process::run(&mut capture)?;

    let mut list = with_privileges(&nodetap)?;
    list.args(["ls", "--from"]).arg(&records);
    println!("\n$ {}", process::line(&list));
    process::run(&mut list)?;

    let mut export = with_privileges(&nodetap)?;
    let text = process::output(export.args(["ls", "-o", "json", "--from"]).arg(&records))?;
    let summary = promised(&text)?;
    let lines = place.join("demo.jsonl");
    fs::write(&lines, &text)?;
    println!("\n{summary}");
    validate(&har, &lines)?;
    println!("HAR:        {}", har.display());
    println!("JSON lines: {}", lines.display());
    println!("segments:   {}", records.display());
    Ok(())
}

/// Builds the program as users get it, and returns where it is.
pub(crate) fn release_build() -> Result<PathBuf> {
    let mut cargo = Command::new(workspace::cargo());
    cargo.args(["build", "--release", "--package", "nodetap", "--bin", "nodetap"]).current_dir(workspace::root()?);
    println!("$ {}", process::line(&cargo));
    process::run(&mut cargo)?;
    Ok(workspace::target_dir()?.join("release/nodetap"))
}

/// nodetap, as root: attaching the kernel programs needs it. The command under it is again the user's.
pub(crate) fn with_privileges(nodetap: &Path) -> Result<Command> {
    if process::is_root() {
        return Ok(Command::new(nodetap));
    }
    let sudo = process::find("sudo").context("this needs root, and there is no sudo")?;
    let mut command = Command::new(sudo);
    command.arg("--").arg(nodetap);
    Ok(command)
}

/// Counts what was captured, and says so in one sentence.
///
/// # Errors
/// When it is less than the demo promises.
fn promised(lines: &str) -> Result<String> {
    let records = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let exchanges: Vec<&Value> = records.iter().filter(|record| record["kind"] == "exchange").collect();
    let count = |which: &dyn Fn(&Value) -> bool| exchanges.iter().filter(|record| which(record)).count();
    let inbound = count(&|record| record["direction"] == "inbound");
    let outbound = count(&|record| record["direction"] == "outbound");
    let ipv6 = count(&|record| record["server"]["address"].as_str().is_some_and(|address| address.contains(':')));
    let ipv4 = exchanges.len() - ipv6;
    let summary = format!(
        "{} exchanges: {inbound} inbound, {outbound} outbound; {ipv4} over IPv4, {ipv6} over IPv6",
        exchanges.len()
    );
    ensure!(exchanges.len() >= EXCHANGES, "too few: {summary}");
    if [inbound, outbound, ipv4, ipv6].contains(&0) {
        bail!("one kind is missing: {summary}");
    }
    Ok(summary)
}

fn validate(har: &Path, lines: &Path) -> Result<()> {
    let script = workspace::root()?.join("xtask/src/demo/validate.js");
    let schema = workspace::root()?.join("daemon/core/record.schema.json");
    process::run(Command::new("node").arg(script).arg(packages::har_validator()?).args([har, lines, &schema]))
        .context("what was captured is not valid")
}

#[cfg(test)]
mod tests {
    use super::promised;

    fn lines(count: usize) -> String {
        let line = |index: usize| {
            let direction = if index.is_multiple_of(2) { "inbound" } else { "outbound" };
            let address = if index.is_multiple_of(3) { "::1" } else { "127.0.0.1" };
            format!(
                "{{\"kind\":\"exchange\",\"direction\":\"{direction}\",\"server\":{{\"address\":\"{address}\"}}}}\n"
            )
        };
        (0..count).map(line).collect()
    }

    #[test]
    fn what_was_promised_is_said_in_one_sentence() {
        assert_eq!(promised(&lines(20)).unwrap(), "20 exchanges: 10 inbound, 10 outbound; 13 over IPv4, 7 over IPv6");
    }

    #[test]
    fn too_little_or_one_sided_is_an_error() {
        assert!(promised(&lines(19)).is_err());
        assert!(promised(&lines(40).replace("::1", "127.0.0.1")).is_err());
    }
}
