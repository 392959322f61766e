//! `nodetap-cluster [ARCHIVE…]`: a cluster with a node for as long as its standard input is open. The node has the images of
//! the distribution's nginx and Python, and those of the archives. It prints one line of JSON when everything stands: where
//! kubectl is, and a kubeconfig with all rights that works on this machine.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::io::Read;
use std::path::PathBuf;

use anyhow::Result;
use nodetap_tests::cluster::{Cluster, Reach, images};
use nodetap_tests::installed;
use serde_json::json;

/// What the image of Python does when it is told nothing else.
const NOTHING: &str = "import signal\nsignal.pause()\n";

fn main() -> Result<()> {
    let cluster = Cluster::up()?;
    let node = cluster.node()?;
    node.import(&images::nginx()?)?;
    node.import(&images::python("python", NOTHING)?)?;
    for archive in std::env::args_os().skip(1).map(PathBuf::from) {
        node.import_archive(&archive)?;
    }
    let kubeconfig = cluster.kubeconfig_for("admin", Some("system:masters"), Reach::Outside)?;
    let kubectl = installed::kubernetes()?.join("kubectl");
    println!("{}", json!({"kubectl": kubectl, "kubeconfig": kubeconfig, "logs": cluster.host().folder()}));
    // Whoever has started it ends it so, however that ends itself.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
