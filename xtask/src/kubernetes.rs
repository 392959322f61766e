//! Kubernetes' own programs, which the tests' clusters run: built from its Go modules, which anybody's module proxy has,
//! where its releases may be out of reach. They are kept in a folder of the cache of their own, because they take long
//! and nothing else of this project decides what they are. What is done with them is not known here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cache, process, workspace};

/// Its version; that of its modules stands in [`MODULES`].
const VERSION: &str = "1.36.2";
/// The folder of `go.mod` and `go.sum`.
const MODULES: &str = "tests/modules/kubernetes";
const PROGRAMS: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];
/// Where the programs look up what they are; without it they say v0.0.0, and clients believe it.
const STAMP: &str = "k8s.io/component-base/version";

/// Builds what is missing, and notes where it is in the folder that the tests are built in.
///
/// # Errors
/// When Go is missing or fails.
pub(crate) fn ensure() -> Result<()> {
    let modules = workspace::root()?.join(MODULES);
    let [manifest, sums] = ["go.mod", "go.sum"].map(|name| std::fs::read_to_string(modules.join(name)));
    let decides = [VERSION, &manifest.context("no go.mod")?, &sums.context("no go.sum")?, &PROGRAMS.join(" ")];
    let place = cache::folder_of("kubernetes", &decides)?.join("bin");
    cache::ensure_at(&place, |folder| build(&modules, folder))?;
    workspace::note("test-kubernetes", &place)
}

fn build(modules: &Path, folder: &Path) -> Result<()> {
    let (major, minor) = VERSION.rsplit_once('.').and_then(|(rest, _)| rest.split_once('.')).context("a version")?;
    let mut go = Command::new("go");
    // Flags of whoever runs this would make it another build.
    go.current_dir(modules).env("GOFLAGS", "-buildvcs=false").args(["build", "-trimpath", "-ldflags"]);
    go.arg(format!("-s -w -X {STAMP}.gitVersion=v{VERSION} -X {STAMP}.gitMajor={major} -X {STAMP}.gitMinor={minor}"));
    go.arg("-o").arg(folder).args(PROGRAMS.map(|program| format!("k8s.io/kubernetes/cmd/{program}")));
    eprintln!(
        "set-up: go build of Kubernetes {VERSION} in {} (a quarter of an hour on two processors, once)",
        folder.display()
    );
    process::output(&mut go).map(drop)
}
