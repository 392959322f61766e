//! What the tests' clusters run: Kubernetes' own programs and etcd, built from their Go modules, which anybody's module proxy
//! has, where releases may be out of reach and a distribution's etcd is too old for an API server's streamed lists. They are
//! kept in folders of the cache of their own, because they take long and nothing else of this project decides what they
//! are. What is done with them is not known here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cache, process, workspace};

/// Its version; that of its modules stands in their `go.mod`.
const VERSION: &str = "1.36.2";
/// Where Kubernetes' programs look up what they are; without it they say v0.0.0, and clients believe it.
const STAMP: &str = "k8s.io/component-base/version";

/// A Go module of ours that pins others, and which of their programs are built.
struct Build {
    /// Of its folder in `tests/modules`, of that in the cache, and of the note that says where it is.
    name: &'static str,
    packages: &'static [&'static str],
    /// The program's name, when the package's is another.
    program: Option<&'static str>,
    takes: &'static str,
}

const KUBERNETES: Build = Build {
    name: "kubernetes",
    packages: &[
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "k8s.io/kubernetes/cmd/kubelet",
        "k8s.io/kubernetes/cmd/kube-proxy",
        "k8s.io/kubernetes/cmd/kubectl",
    ],
    program: None,
    takes: "a quarter of an hour on two processors",
};
const ETCD: Build =
    Build { name: "etcd", packages: &["go.etcd.io/etcd/server/v3"], program: Some("etcd"), takes: "a minute" };

/// Builds what is missing, and notes where it is in the folder that the tests are built in.
///
/// # Errors
/// When Go is missing or fails.
pub(crate) fn ensure() -> Result<()> {
    let (major, minor) = VERSION.rsplit_once('.').and_then(|(rest, _)| rest.split_once('.')).context("a version")?;
    let stamp =
        format!("-s -w -X {STAMP}.gitVersion=v{VERSION} -X {STAMP}.gitMajor={major} -X {STAMP}.gitMinor={minor}");
    KUBERNETES.ensure(&stamp)?;
    ETCD.ensure("-s -w")
}

impl Build {
    fn ensure(&self, flags: &str) -> Result<()> {
        let modules = workspace::root()?.join("tests/modules").join(self.name);
        let [manifest, sums] = ["go.mod", "go.sum"].map(|name| std::fs::read_to_string(modules.join(name)));
        let decides = [flags, &manifest.context("no go.mod")?, &sums.context("no go.sum")?, &self.packages.join(" ")];
        let place = cache::folder_of(self.name, &decides)?.join("bin");
        cache::ensure_at(&place, |folder| self.build(&modules, flags, folder))?;
        workspace::note(&format!("test-{}", self.name), &place)
    }

    fn build(&self, modules: &Path, flags: &str, folder: &Path) -> Result<()> {
        eprintln!("set-up: go build of {} in {} ({}, once)", self.name, folder.display(), self.takes);
        let mut go = Command::new("go");
        // Flags of whoever runs this would make it another build.
        go.current_dir(modules).env("GOFLAGS", "-buildvcs=false").args(["build", "-trimpath", "-ldflags", flags]);
        go.arg("-o").arg(self.program.map_or_else(|| folder.to_path_buf(), |program| folder.join(program)));
        process::output(go.args(self.packages)).map(drop)
    }
}
