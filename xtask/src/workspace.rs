//! Where things are: the checkout and the folder builds go to. It knows no tool but cargo's environment.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of this checkout.
pub(crate) fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).context("xtask is not inside a workspace")
}

/// The folder that cargo builds into: `CARGO_TARGET_DIR`, else `target` in the checkout.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let root = root()?;
    Ok(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir)))
}

/// The cargo that runs us, so that one version does everything.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Cargo's home, where the registry's sources are.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(PathBuf::from(home));
    }
    let home = std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

/// Writes into the folder that the tests are built in where they find something.
pub(crate) fn note(name: &str, place: &Path) -> Result<()> {
    let target = target_dir()?;
    std::fs::create_dir_all(&target)?;
    std::fs::write(target.join(name), place.display().to_string()).with_context(|| format!("cannot write {name}"))
}
