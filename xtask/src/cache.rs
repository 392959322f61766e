//! The cache folder outside the checkout, for what is slow to build or fetch: one folder for each set of versions, so
//! that an old checkout and a new one do not take each other's tools. It knows nothing about what is kept there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Everything whose version decides what is in the cache.
const VERSIONS: &[&str] = &[
    crate::toolchain::BPF_LINKER,
    crate::toolchain::LLVM,
    crate::packages::HAR_VALIDATOR,
    crate::packages::MITMPROXY,
    crate::peers::PYTHON,
    crate::peers::NODE,
    crate::peers::PYTHON_SOCKS,
];

/// `$XDG_CACHE_HOME/nodetap/<hash of versions>`, else under `~/.cache`. Need not exist yet.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(base()?.join(short(VERSIONS)))
}

/// As [`folder`], for something big that must not be made anew because the version of something else has changed: only
/// what `decides` does.
pub(crate) fn folder_of(name: &str, decides: &[&str]) -> Result<PathBuf> {
    Ok(base()?.join(format!("{name}-{}", short(decides))))
}

fn base() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    Ok(base.join("nodetap"))
}

fn short(decides: &[&str]) -> String {
    hex(decides.join("\n").as_bytes()).chars().take(16).collect()
}

/// Makes the folder `name` in the cache with `build`, unless it is there.
pub(crate) fn ensure(name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let place = folder()?.join(name);
    ensure_at(&place, build)?;
    Ok(place)
}

/// Makes the folder `place` with `build`, unless it is there. It is built beside its place and moved there when it is
/// whole, so that an interrupted build leaves nothing that looks finished.
pub(crate) fn ensure_at(place: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if place.is_dir() {
        return Ok(());
    }
    let building = place.with_extension(format!("building-{}", std::process::id()));
    std::fs::create_dir_all(&building).with_context(|| format!("cannot make {}", building.display()))?;
    if let Err(error) = build(&building) {
        // What is left is only in the way of the next try; the build's own error is the one to tell.
        drop(std::fs::remove_dir_all(&building));
        return Err(error);
    }
    match std::fs::rename(&building, place) {
        Err(_) if place.is_dir() => std::fs::remove_dir_all(&building).context("cannot remove a second build"),
        other => other.with_context(|| format!("cannot move the build to {}", place.display())),
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
