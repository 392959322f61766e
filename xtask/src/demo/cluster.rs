//! `cargo xtask demo --cluster`: a cluster on this machine, nodetap installed in it as a user would, pods of a shop that opt
//! in while they run, and what was recorded of them as read from outside. It fails when less was captured than it promises.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::release_build;
use crate::setup::Job;
use crate::started::Started;
use crate::{image, process, setup, workspace};

/// What is installed.
const DEPLOY: &str = "deploy/base";
/// What runs in the cluster and knows nothing of it.
const SHOP: &str = include_str!("shop.yaml");
/// How many pods the shop has.
const PODS: usize = 4;
/// How long `nodetap tail` is shown.
const SHOWN: Duration = Duration::from_secs(5);
/// What is recorded meanwhile at the least.
const EXCHANGES: usize = 20;

/// A cluster that stands as long as the program that holds it, which ends with us.
struct Held {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    _holder: Started,
}

/// Shows the demo; with `keep` the cluster stays until somebody interrupts.
///
/// # Errors
/// When something cannot be installed, built or run, or too little was captured.
pub(crate) fn run(keep: bool, program: Option<&Path>) -> Result<()> {
    setup::run(Job::Cluster)?;
    let (nodetap, archive) = match program {
        Some(program) => (program.to_path_buf(), image::write_for_tests(program, None)?),
        None => {
            let built = release_build()?;
            let archive = image::write(&built, None)?;
            (built, archive)
        }
    };
    let cluster = Held::start(&archive)?;
    cluster.install()?;
    cluster.apply(SHOP, "what stands in xtask/src/demo/shop.yaml")?;
    for deployment in ["deployment/stock", "deployment/web", "deployment/caller"] {
        cluster.show(&["-n", "shop", "rollout", "status", deployment, "--timeout=90s"])?;
    }
    println!("\nThe pods run. Nothing of them is restarted, nothing is added to them:\n");
    cluster.show(&["-n", "shop", "annotate", "pods", "--all", "nodetap.io/inject=true"])?;
    cluster.show(&["-n", "shop", "wait", "pods", "--all", "--for=condition=nodetap.io/Capturing", "--timeout=30s"])?;
    cluster.tail(&nodetap)?;
    let summary = cluster.promised(&nodetap)?;
    cluster.show(&["-n", "shop", "get", "pods"])?;
    println!("\n{summary}");
    if keep {
        println!("\nThe cluster stays until you interrupt this (Ctrl-C). In another terminal:\n");
        println!("export KUBECONFIG={}", cluster.kubeconfig.display());
        println!("alias kubectl={}", cluster.kubectl.display());
        println!("{} tail -n shop", nodetap.display());
        loop {
            thread::park();
        }
    }
    Ok(())
}

impl Held {
    fn start(archive: &Path) -> Result<Self> {
        let mut cargo = Command::new(workspace::cargo());
        cargo.args(["build", "--quiet", "--package", "nodetap-tests", "--bin", "nodetap-cluster"]);
        process::run(cargo.current_dir(workspace::root()?))?;
        let begun = Instant::now();
        let mut holder = Command::new(workspace::target_dir()?.join("debug/nodetap-cluster"));
        let mut holder = Started::new(holder.arg(archive).stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let mut line = String::new();
        BufReader::new(holder.child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).context("the cluster did not come up")?;
        let place = |name: &str| said[name].as_str().map(PathBuf::from).with_context(|| format!("no {name} in {line}"));
        println!("a cluster with a node stands after {:.1} s", begun.elapsed().as_secs_f32());
        Ok(Self { kubectl: place("kubectl")?, kubeconfig: place("kubeconfig")?, _holder: holder })
    }

    /// Does what the manual says; the image was loaded by hand.
    fn install(&self) -> Result<()> {
        let folder = workspace::root()?.join(DEPLOY);
        self.show(&["apply", "-k", &folder.display().to_string()])?;
        self.show(&["-n", "nodetap", "rollout", "status", "daemonset/nodetap-agent", "--timeout=90s"])?;
        self.show(&["-n", "nodetap", "rollout", "status", "deployment/nodetap-controller", "--timeout=90s"])?;
        let api = "apiservice/v1alpha1.capture.nodetap.io";
        self.show(&["wait", api, "--for=condition=Available", "--timeout=60s"])
    }

    fn tail(&self, nodetap: &Path) -> Result<()> {
        let mut tail = self.nodetap(nodetap, &["tail", "-n", "shop"]);
        println!("\n$ {}", process::line(&tail));
        let shown = Started::new(&mut tail)?;
        thread::sleep(SHOWN);
        drop(shown);
        Ok(())
    }

    /// Counts what was captured, and says so in one sentence.
    fn promised(&self, nodetap: &Path) -> Result<String> {
        let lines = process::output(&mut self.nodetap(nodetap, &["ls", "-n", "shop", "-o", "json"]))?;
        let records = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let exchanges: Vec<&Value> = records.iter().filter(|record| record["kind"] == "exchange").collect();
        let count = |direction: &str| exchanges.iter().filter(|record| record["direction"] == direction).count();
        let (inbound, outbound) = (count("inbound"), count("outbound"));
        let pods: std::collections::BTreeSet<&str> =
            exchanges.iter().filter_map(|record| record["target"]["name"].as_str()).collect();
        let summary = format!("{inbound} exchanges inbound, {outbound} outbound, of {} pods", pods.len());
        ensure!(exchanges.len() >= EXCHANGES && inbound > 0 && outbound > 0, "too few: {summary}");
        ensure!(pods.len() == PODS, "not of every pod: {summary}");
        Ok(summary)
    }

    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        kubectl
    }

    fn nodetap(&self, nodetap: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(nodetap);
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        command
    }

    /// Runs kubectl for everybody to see.
    fn show(&self, arguments: &[&str]) -> Result<()> {
        println!("$ kubectl {}", arguments.join(" "));
        process::run(&mut self.kubectl(arguments))
    }

    fn apply(&self, manifests: &str, what: &str) -> Result<()> {
        println!("$ kubectl apply -f -    # {what}");
        let mut child = self.kubectl(&["apply", "-f", "-"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("no standard input")?.write_all(manifests.as_bytes())?;
        ensure!(child.wait()?.success(), "kubectl apply failed");
        Ok(())
    }
}
