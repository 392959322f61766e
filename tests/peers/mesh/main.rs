//! `nodetap-mesh`: a mesh with nodetap beside it, for as long as its standard input is open. In the namespace `shop` stand
//! `stock`, captured transparently, and `web`, captured by the published annotations, both called by `caller`. It prints one
//! line of JSON when everything stands, and answers each line that it reads with one: `calls` (what is called while it is
//! watched), `load` (a load begins), `kill` (agent and worker die), `stop` (how the load went).
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::io::BufRead as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::cluster::Reach;
use nodetap_tests::cluster::load::Load;
use nodetap_tests::controller::{NAMESPACE, Replica, install};
use nodetap_tests::installed;
use nodetap_tests::mesh::Mesh;
use nodetap_tests::mesh::served::Served;
use nodetap_tests::process::children;
use nodetap_tests::wait::{DEADLINE, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

const SHOP: &str = "shop";
/// Requests a second to each of the two.
const RATE: u32 = 100;
/// Requests that both have answered after the agent died.
const GO_ON: u64 = 300;
/// Calls to each.
const CALLS: usize = 3;

/// What stands.
struct Shop {
    stock: Served,
    web: Served,
    caller: Served,
}

fn main() -> Result<()> {
    let mesh = Mesh::shared()?;
    let cluster = mesh.cluster();
    install(cluster)?;
    cluster.namespace_named(SHOP, &json!({}))?;
    let node = Node::new()?.of(NAMESPACE);
    let agent = Agent::ready(cluster, &node, 1, &[])?;
    let _controller = Replica::start(cluster, "controller")?;
    let shop = Shop::open(mesh)?;
    eventually(DEADLINE, "the Sidecar to hold", || shop.web.is_redirected().then_some(()))?;
    let kubeconfig = cluster.kubeconfig_for("admin", Some("system:masters"), Reach::Outside)?;
    let kubectl = installed::kubernetes()?.join("kubectl");
    println!("{}", json!({"kubectl": kubectl, "kubeconfig": kubeconfig, "records": &*node.records}));
    let mut loads = Vec::new();
    // Whoever has started it ends it so, however that ends itself.
    for line in std::io::stdin().lock().lines() {
        let answer = match line?.as_str() {
            "calls" => shop.call()?,
            "load" => {
                loads = shop.load()?;
                json!({})
            }
            "kill" => {
                kill(&agent)?;
                for (_, load) in &mut loads {
                    load.attempts(GO_ON)?;
                }
                json!({})
            }
            "stop" => {
                let ended = std::mem::take(&mut loads).into_iter().map(|(name, load)| {
                    let (attempts, failed) = load.stop()?;
                    Ok((name.to_owned(), json!({"attempts": attempts, "failed": failed.len()})))
                });
                Value::Object(ended.collect::<Result<_>>()?)
            }
            other => bail!("{other} is nothing that can be asked here"),
        };
        println!("{answer}");
    }
    Ok(())
}

impl Shop {
    fn open(mesh: &Mesh) -> Result<Self> {
        let published = json!({
            "sidecar.speedscale.com/inject": "true", "sidecar.speedscale.com/capture-mode": "proxy",
            "sidecar.speedscale.com/proxy-type": "dual", "sidecar.speedscale.com/proxy-protocol": "tcp:http",
            "sidecar.speedscale.com/proxy-host": "localhost", "sidecar.speedscale.com/proxy-port": "8080",
        });
        let stock = Served::new(mesh, SHOP, "stock", &json!({"nodetap.io/inject": "true"}))?;
        let web = Served::new(mesh, SHOP, "web", &published)?;
        let caller = Served::new(mesh, SHOP, "caller", &json!({}))?;
        // Envoy keeps the connections that it opens before, and they would pass unrecorded.
        for of in [&stock, &web] {
            let well = |said: &Value| {
                let notes = said["message"].as_str().is_some_and(|text| text.contains("\"notes\""));
                said["status"] == "True" && !notes
            };
            eventually(DEADLINE, "capture of all", || of.member.pod().condition().filter(well).map(drop))?;
        }
        caller.reaches(&stock)?;
        caller.reaches(&web)?;
        web.reaches(&stock)?;
        Ok(Self { stock, web, caller })
    }

    /// In and out of both.
    fn call(&self) -> Result<Value> {
        for number in 0..CALLS {
            self.caller.asks(&self.web, &format!("/basket/{number}"))?;
            self.web.asks_through("http://127.0.0.1:4140", &self.stock, &format!("/items/{number}"))?;
            self.stock.asks(&self.caller, &format!("/delivered/{number}"))?;
        }
        Ok(json!({"calls": 3 * CALLS}))
    }

    fn load(&self) -> Result<Vec<(&'static str, Load)>> {
        let traffic = traffic()?;
        let to = |name, of: &Served| {
            let load = Load::start(&traffic, self.caller.member.pod(), (&of.address, 80), RATE, None)?;
            Ok((name, load))
        };
        [to("stock", &self.stock), to("web", &self.web)].into_iter().collect()
    }
}

/// The program that makes traffic stands beside this one.
fn traffic() -> Result<String> {
    let program: PathBuf = std::env::current_exe()?.with_file_name("nodetap-traffic");
    program.into_os_string().into_string().ok().context("a path that is no text")
}

/// The keeper first, or it would replace its worker.
fn kill(agent: &Agent<'_>) -> Result<()> {
    let workers = children(agent.keeper());
    agent.signal(Signal::KILL)?;
    for worker in workers {
        let pid = rustix::process::Pid::from_raw(worker.try_into()?).context("no process")?;
        rustix::process::kill_process(pid, Signal::KILL)?;
    }
    Ok(())
}
