//! `cargo xtask demo --mesh`: istiod, Envoys and pods of a shop with mutual TLS between them, one captured transparently and
//! one by the published annotations. It shows what was recorded, the Sidecar that was written and what the doctor says, then
//! kills the agent while both are called, and fails when less was captured or more failed than it promises.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::release_build;
use crate::setup::Job;
use crate::started::Started;
use crate::{process, setup, workspace};

/// What its calls come to at the least: in and out of both pods.
const EXCHANGES: usize = 9;

/// A mesh that stands as long as the program that holds it, which ends with us.
struct Held {
    nodetap: PathBuf,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    records: PathBuf,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    _holder: Started,
}

/// Shows the demo.
///
/// # Errors
/// When something cannot be installed, built or run, or it does not come to what it promises.
pub(crate) fn run(program: Option<&Path>) -> Result<()> {
    setup::run(Job::Mesh)?;
    let nodetap = program.map_or_else(release_build, |program| Ok(program.to_path_buf()))?;
    let mut mesh = Held::start(nodetap)?;
    println!("\n`stock` is captured transparently, `web` by the published annotations; `caller` is not captured.");
    mesh.ask("calls")?;
    let summary = mesh.captured()?;
    println!("\n{summary}");
    println!(
        "\nFor `web` the controller has written one Sidecar, by which its Envoy calls us; for `stock` none is needed:\n"
    );
    mesh.kubectl(&["-n", "shop", "get", "sidecars.networking.istio.io", "-o", "yaml"])?;
    for pod in ["stock", "web"] {
        println!();
        mesh.nodetap(&["doctor", pod, "-n", "shop"])?;
    }
    println!("\nThe agent is killed while both are called 100 times a second:");
    mesh.ask("load")?;
    mesh.ask("kill")?;
    let ended = mesh.ask("stop")?;
    for pod in ["stock", "web"] {
        println!("{pod}: {} requests, {} failed", ended[pod]["attempts"], ended[pod]["failed"]);
    }
    let failed = |pod: &str| ended[pod]["failed"].as_u64().unwrap_or(u64::MAX);
    // What was under way when it died, of connections that it carried.
    ensure!(failed("stock") <= IN_FLIGHT && failed("web") <= IN_FLIGHT, "more failed than was under way");
    println!("traffic flows on");
    Ok(())
}

/// Requests that may be under way at one moment, of both directions.
const IN_FLIGHT: u64 = 16;

impl Held {
    fn start(nodetap: PathBuf) -> Result<Self> {
        let mut cargo = Command::new(workspace::cargo());
        cargo.args([
            "build",
            "--quiet",
            "--package",
            "nodetap-tests",
            "--bin",
            "nodetap-mesh",
            "--bin",
            "nodetap-traffic",
        ]);
        process::run(cargo.current_dir(workspace::root()?))?;
        let begun = Instant::now();
        let mut holder = Command::new(workspace::target_dir()?.join("debug/nodetap-mesh"));
        holder.env("NODETAP_BIN", &nodetap).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = Started::new(&mut holder)?;
        let asks = holder.child.stdin.take().context("no standard input")?;
        let mut answers = BufReader::new(holder.child.stdout.take().context("no standard output")?);
        let said = answer(&mut answers).context("the mesh did not come up")?;
        let place = |name: &str| said[name].as_str().map(PathBuf::from).with_context(|| format!("no {name} in {said}"));
        println!("a mesh stands after {:.1} s", begun.elapsed().as_secs_f32());
        let (kubectl, kubeconfig, records) = (place("kubectl")?, place("kubeconfig")?, place("records")?);
        Ok(Self { nodetap, kubectl, kubeconfig, records, asks, answers, _holder: holder })
    }

    fn ask(&mut self, question: &str) -> Result<Value> {
        writeln!(self.asks, "{question}")?;
        answer(&mut self.answers).with_context(|| format!("no answer to {question}"))
    }

    /// Shows what was recorded, and says in one sentence how much that is.
    fn captured(&self) -> Result<String> {
        let from = self.records.display().to_string();
        self.nodetap(&["ls", "--from", &from])?;
        let lines = process::output(Command::new(&self.nodetap).args(["ls", "--from", &from, "-o", "json"]))?;
        let records = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let exchanges: Vec<&Value> = records.iter().filter(|record| record["kind"] == "exchange").collect();
        let count = |pod: &str, direction: &str| {
            exchanges.iter().filter(|one| one["target"]["name"] == pod && one["direction"] == direction).count()
        };
        let summary = format!(
            "stock: {} exchanges inbound, {} outbound; web: {} inbound, {} outbound",
            count("stock", "inbound"),
            count("stock", "outbound"),
            count("web", "inbound"),
            count("web", "outbound")
        );
        let both = ["stock", "web"].iter().all(|pod| count(pod, "inbound") > 0 && count(pod, "outbound") > 0);
        ensure!(both && exchanges.len() >= EXCHANGES, "too few: {summary}");
        Ok(summary)
    }

    /// Runs kubectl for everybody to see.
    fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        println!("$ kubectl {}", arguments.join(" "));
        process::run(Command::new(&self.kubectl).env("KUBECONFIG", &self.kubeconfig).args(arguments))
    }

    /// Runs nodetap for everybody to see.
    fn nodetap(&self, arguments: &[&str]) -> Result<()> {
        println!("$ nodetap {}", arguments.join(" "));
        process::run(Command::new(&self.nodetap).env("KUBECONFIG", &self.kubeconfig).args(arguments))
    }
}

fn answer(from: &mut impl BufRead) -> Result<Value> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
