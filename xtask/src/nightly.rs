//! Rustup's nightly as the toolchain for kernel programs, on machines that have rustup and no Debian packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::toolchain::{self, Toolchain};

/// Finds nightly with its sources, adding them when rustup can, and builds its bpf-linker.
pub(crate) fn ensure() -> Result<Toolchain> {
    if process::find("rustup").is_none() {
        bail!("rustup is not installed");
    }
    let rustc = PathBuf::from(
        process::output(rustup().args(["which", "--toolchain", "nightly", "rustc"]))
            .context("install it with `rustup toolchain install nightly --component rust-src`")?
            .trim(),
    );
    let sysroot = toolchain::sysroot(&rustc)?;
    if !has_sources(&sysroot) {
        eprintln!("set-up: nightly has no sources: rustup component add --toolchain nightly rust-src");
        process::output(rustup().args(["component", "add", "--toolchain", "nightly", "rust-src"]))?;
    }
    Ok(Toolchain { rustc, sysroot, linker: toolchain::bpf_linker(None)?, pinned: false })
}

fn has_sources(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
}

/// A rustup that does not follow the toolchain that cargo has chosen for us.
fn rustup() -> Command {
    let mut command = Command::new("rustup");
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("LD_LIBRARY_PATH");
    command
}
