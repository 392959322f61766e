//! `cargo xtask demo --cluster`: builds nodetap and its image, then hands over to a program of the tests' package, which
//! has the cluster. What happens there is not known here.

use std::process::Command;

use anyhow::Result;

use super::release_build;
use crate::setup::{self, Job};
use crate::{image, process, workspace};

/// The program that shows it.
const PROGRAM: &str = "cluster-demo";

/// Shows the demo in a cluster; with `keep` it stays until the input ends.
///
/// # Errors
/// When something cannot be installed, built or run, or too little was captured.
pub(crate) fn run(keep: bool) -> Result<()> {
    setup::run(Job::Test)?;
    let nodetap = release_build()?;
    let archive = image::of(&nodetap)?;
    let mut demo = Command::new(workspace::cargo());
    demo.args(["run", "--quiet", "--package", "nodetap-tests", "--bin", PROGRAM]).current_dir(workspace::root()?);
    if keep {
        demo.args(["--", "--keep"]);
    }
    process::run(demo.env("NODETAP_BIN", nodetap).env("NODETAP_IMAGE", archive))
}
