//! What `cargo xtask setup --for test` has installed out of the languages' own registries. It knows the folder's layout,
//! and nothing of how it came there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The interpreter of the Python environment with the clients' packages.
///
/// # Errors
/// Says how to get it, when it is not there.
pub fn python() -> Result<PathBuf> {
    part("python/bin/python")
}

/// The folder `node_modules` of the clients' packages.
///
/// # Errors
/// Says how to get it, when it is not there.
pub fn node_modules() -> Result<PathBuf> {
    part("node/node_modules")
}

/// The sources of python-socks, with its tests.
///
/// # Errors
/// Says how to get them, when they are not there.
pub fn python_socks() -> Result<PathBuf> {
    part("python-socks")
}

/// The folder with the programs of Kubernetes.
///
/// # Errors
/// Says how to get them, when they are not there.
pub fn kubernetes() -> Result<PathBuf> {
    let place = folder("NODETAP_KUBERNETES", "test-kubernetes");
    place.context("the programs of Kubernetes are not built: run `cargo xtask setup --for test`")
}

/// The folder with etcd.
///
/// # Errors
/// Says how to get it, when it is not there.
pub fn etcd() -> Result<PathBuf> {
    folder("NODETAP_ETCD", "test-etcd").context("etcd is not built: run `cargo xtask setup --for test`")
}

/// The folder with the programs of Istio, Envoy, and the files that belong to them.
///
/// # Errors
/// Says how to get them, when they are not there.
pub fn istio() -> Result<PathBuf> {
    folder("NODETAP_ISTIO", "test-istio").context("Istio is not built: run `cargo xtask setup --for test`")
}

fn part(name: &str) -> Result<PathBuf> {
    let folder = folder("NODETAP_PEERS", "test-peers");
    let place = folder.context("the tests' peers are not installed: run `cargo xtask setup --for test`")?.join(name);
    ensure!(place.exists(), "{} is not there: run `cargo xtask setup --for test`", place.display());
    Ok(place)
}

/// What a variable says, else what set-up has written into the folder that this test binary was built in.
fn folder(variable: &str, note: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(variable) {
        return Some(PathBuf::from(folder));
    }
    let test = std::env::current_exe().ok()?;
    let noted = |folder: &Path| std::fs::read_to_string(folder.join(note)).ok();
    test.ancestors().skip(1).take(4).find_map(noted).map(|path| PathBuf::from(path.trim()))
}
