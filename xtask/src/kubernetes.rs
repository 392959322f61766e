//! What the tests' clusters run: Kubernetes' own programs, and etcd, because a distribution's is too old for an API server's
//! streamed lists. What is done with them is not known here.

use anyhow::{Context, Result};

use crate::go::Build;

/// Its version; that of its modules stands in their `go.mod`.
const VERSION: &str = "1.36.2";
/// Where Kubernetes' programs look up what they are; without it they say v0.0.0, and clients believe it.
const STAMP: &str = "k8s.io/component-base/version";

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
    KUBERNETES.ensure(&stamp, "", |_| Ok(()))?;
    ETCD.ensure("-s -w", "", |_| Ok(()))
}
