//! The toolchains that build the kernel programs. One is pinned, so that everybody who has it gets the same object byte
//! for byte: Debian's `rustc-web` with its sources, and a bpf-linker linked to the LLVM of the same version. The other is
//! rustup's nightly with `rust-src`: good for work on the programs, its object differs. What is built is not known here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, nightly, packages, process, workspace};

/// The pinned compiler.
pub(crate) const RUSTC: &str = "1.96.0";
/// The pinned bpf-linker, the same for both toolchains.
pub(crate) const BPF_LINKER: &str = "0.13.0";
/// The LLVM that the pinned compiler and the pinned bpf-linker both are built with.
pub(crate) const LLVM: &str = "22";

const PINNED_RUSTC: &str = "/usr/bin/rustc";
const PINNED_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/core";

/// What builds the kernel programs on this machine.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// Set as `RUSTC`.
    pub(crate) rustc: PathBuf,
    /// The standard library's sources, whose paths must not end in the object.
    pub(crate) sysroot: PathBuf,
    /// The folder with `bpf-linker`, to be put on the `PATH`.
    pub(crate) linker: PathBuf,
    /// Whether its object can be compared byte for byte.
    pub(crate) pinned: bool,
}

impl Toolchain {
    /// The versions, as the lock file states them.
    pub(crate) fn versions(&self) -> Result<String> {
        let rustc = process::output(command(&self.rustc).arg("--version"))?;
        Ok(format!("{}, bpf-linker {BPF_LINKER} (LLVM {LLVM})", rustc.trim()))
    }
}

/// Finds or installs a toolchain: the pinned one wherever it can be had, else rustup's nightly.
///
/// # Errors
/// Says what to install when neither can be had.
pub(crate) fn ensure() -> Result<Toolchain> {
    match ensure_pinned() {
        Ok(toolchain) => Ok(toolchain),
        Err(pinned) => match nightly::ensure() {
            Ok(toolchain) => Ok(toolchain),
            Err(nightly) => bail!("no toolchain for the kernel programs\n  pinned: {pinned:#}\n  nightly: {nightly:#}"),
        },
    }
}

/// Finds or installs the pinned toolchain.
pub(crate) fn ensure_pinned() -> Result<Toolchain> {
    let llvm = format!("/usr/lib/llvm-{LLVM}");
    let missing: Vec<String> = [
        ("rustc-web".to_owned(), is_pinned_rustc()),
        ("rust-web-src".to_owned(), Path::new(PINNED_SOURCES).is_dir()),
        (format!("llvm-{LLVM}-dev"), Path::new(&llvm).join("include/llvm").exists()),
    ]
    .into_iter()
    .filter_map(|(package, there)| (!there).then_some(package))
    .collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(String::as_str).collect();
        packages::apt_install(&names, "the pinned toolchain for kernel programs is not complete")?;
    }
    if !is_pinned_rustc() {
        bail!("{PINNED_RUSTC} is not the pinned {RUSTC}: Debian's rustc-web has moved on");
    }
    Ok(Toolchain {
        rustc: PathBuf::from(PINNED_RUSTC),
        sysroot: sysroot(Path::new(PINNED_RUSTC))?,
        linker: bpf_linker(Some(&llvm))?,
        pinned: true,
    })
}

/// The folder with bpf-linker in the cache; built there when it is missing. With `llvm` it is linked to the LLVM of that
/// prefix, which must be the compiler's own version: without the prefix it finds whichever LLVM comes first, and fails.
pub(crate) fn bpf_linker(llvm: Option<&str>) -> Result<PathBuf> {
    let name = if llvm.is_some() { "bpf-linker" } else { "bpf-linker-nightly" };
    let place = cache::ensure(name, |dir| {
        let mut install = Command::new(workspace::cargo());
        install.args(["install", "--quiet", "bpf-linker", "--version", &format!("={BPF_LINKER}"), "--locked"]);
        if let Some(prefix) = llvm {
            install.env("LLVM_PREFIX", prefix);
            install.args(["--no-default-features", "--features", &format!("llvm-{LLVM}")]);
        }
        // Outside the checkout: its target folder is not to fill up with another project's build.
        install.arg("--root").arg(dir).env("CARGO_TARGET_DIR", dir.join("target")).current_dir("/");
        eprintln!("set-up: {} (a minute or two)", process::line(&install));
        process::output(&mut install)?;
        std::fs::remove_dir_all(dir.join("target")).context("cannot remove bpf-linker's build")
    })?;
    Ok(place.join("bin"))
}

/// Where a compiler keeps its standard library.
pub(crate) fn sysroot(rustc: &Path) -> Result<PathBuf> {
    Ok(PathBuf::from(process::output(command(rustc).args(["--print", "sysroot"]))?.trim()))
}

/// A compiler that is run as itself: cargo and rustup point the dynamic linker at their own toolchain.
fn command(rustc: &Path) -> Command {
    let mut command = Command::new(rustc);
    command.env_remove("LD_LIBRARY_PATH");
    command
}

fn is_pinned_rustc() -> bool {
    process::output(command(Path::new(PINNED_RUSTC)).arg("--version"))
        .is_ok_and(|version| version.starts_with(&format!("rustc {RUSTC} ")))
}
