//! The kernel objects that are checked in beside their sources: building them so that they come out the same in every
//! checkout, and telling whether what is checked in is what the sources give.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolchain::{self, Toolchain};
use crate::{cache, process, workspace};

/// What is checked in, and the program of the package `nodetap-ebpf` that it is.
const OBJECTS: [(&str, &str); 2] =
    [("ebpf/nodetap.bpf.o", "nodetap-ebpf"), ("ebpf/fallback.bpf.o", "nodetap-fallback")];
const LOCK: &str = "ebpf/nodetap.bpf.lock";
const TARGET: &str = "bpfel-unknown-none";

/// Builds the objects and their lock file, or with `check` only compares.
///
/// # Errors
/// When there is no toolchain to build with, the build fails, or what is checked in differs.
pub(crate) fn run(check: bool) -> Result<()> {
    if check { compare() } else { write() }
}

fn write() -> Result<()> {
    let root = workspace::root()?;
    let toolchain = toolchain::ensure()?;
    let mut objects = Vec::new();
    for (file, program) in OBJECTS {
        let object = build(&toolchain, program, &[])?;
        fs::write(root.join(file), &object).with_context(|| format!("cannot write {file}"))?;
        eprintln!("ebpf: {file}, {} bytes, sha256 {}", object.len(), cache::hex(&object));
        objects.push(object);
    }
    let lock = lock(&toolchain.versions()?, &objects, &sources(&root)?);
    fs::write(root.join(LOCK), lock).with_context(|| format!("cannot write {LOCK}"))?;
    if !toolchain.pinned {
        eprintln!("ebpf: not built by the pinned toolchain: have it built by that one before it is checked in");
    }
    Ok(())
}

/// Builds the programs with their log switched on, for `nodetap run --kernel-object`; what is checked in has none.
///
/// # Errors
/// As [`run`].
pub(crate) fn with_log() -> Result<()> {
    let object = build(&toolchain::ensure()?, OBJECTS[0].1, &["log"])?;
    let path = workspace::target_dir()?.join("ebpf").join("nodetap-log.bpf.o");
    fs::write(&path, object).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("ebpf: try `NODETAP_LOG=debug nodetap run --kernel-object {} -- CMD`", path.display());
    Ok(())
}

fn compare() -> Result<()> {
    let root = workspace::root()?;
    let lock = fs::read_to_string(root.join(LOCK)).with_context(|| format!("no {LOCK}: run `cargo xtask ebpf`"))?;
    if field(&lock, "sources") != Some(sources(&root)?.as_str()) {
        bail!("the kernel objects are older than their sources: run `cargo xtask ebpf`");
    }
    let toolchain = toolchain::ensure_pinned();
    for (file, program) in OBJECTS {
        let kept = fs::read(root.join(file)).with_context(|| format!("no {file}: run `cargo xtask ebpf`"))?;
        if field(&lock, &format!("object {program}")) != Some(cache::hex(&kept).as_str()) {
            bail!("{LOCK} does not speak of this {file}: run `cargo xtask ebpf`");
        }
        let toolchain = match &toolchain {
            Ok(toolchain) => toolchain,
            Err(why) => {
                eprintln!("ebpf: {file} compared by the hash of its sources only: {why:#}");
                continue;
            }
        };
        let built = build(toolchain, program, &[])?;
        if built != kept {
            let differing = root.join(file).with_extension("o.rebuilt");
            fs::write(&differing, &built).context("cannot write the object that differs")?;
            bail!("{file} is not what its sources give with the pinned toolchain: compare {}", differing.display());
        }
        eprintln!("ebpf: {file} is what its sources give, byte for byte");
    }
    Ok(())
}

/// Builds one of the programs and returns the object. Paths are remapped to fixed names, so that neither the checkout's
/// place nor cargo's home is in it.
fn build(toolchain: &Toolchain, program: &str, features: &[&str]) -> Result<Vec<u8>> {
    let root = workspace::root()?;
    let target_dir = workspace::target_dir()?.join("ebpf");
    let registry = workspace::cargo_home()?.join("registry/src");
    // The last mapping that fits wins: the registry may be inside the checkout (CI caches do that).
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Cpanic=abort".to_owned(),
        remap(&toolchain.sysroot.join("lib/rustlib/src/rust"), "/rust"),
        remap(&root, "/nodetap"),
        remap(&target_dir, "/target"),
        remap(&registry, "/registry"),
    ];
    let path = std::env::join_paths(
        std::iter::once(toolchain.linker.clone())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let mut cargo = Command::new(workspace::cargo());
    // What cargo and the user's shell have set for our own build must not reach this one.
    for name in ["LD_LIBRARY_PATH", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    cargo
        .env("PATH", path)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // The workspace's release profile is the daemon's: its thin LTO and codegen units are not for programs that the
        // verifier reads.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .args(["build", "--quiet", "--release", "--package", "nodetap-ebpf", "--bin", program])
        .args(["-Z", "build-std=core", "--target", TARGET, "--features", &features.join(",")])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(&root);
    process::run(&mut cargo).context("the kernel programs do not build")?;
    let built = target_dir.join(TARGET).join("release").join(program);
    fs::read(&built).with_context(|| format!("no object at {}", built.display()))
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

fn lock(versions: &str, objects: &[Vec<u8>], sources: &str) -> String {
    let hashes = OBJECTS.iter().zip(objects).map(|((_, program), object)| (program, cache::hex(object)));
    let hashes: String = hashes.map(|(program, hash)| format!("object {program} {hash}\n")).collect();
    format!(
        "# Written by `cargo xtask ebpf`: what the kernel objects are, and what they were built from and with.\n\
         toolchain {versions}\n{hashes}sources {sources}\n"
    )
}

fn field<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    lock.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

/// A hash of everything in this checkout that decides what the object is: the programs' and the contract's sources,
/// their manifests, and the versions of aya's crates in the lock file.
fn sources(root: &Path) -> Result<String> {
    let mut files = vec![root.join("ebpf/Cargo.toml"), root.join("ebpf/common/Cargo.toml")];
    collect(&root.join("ebpf"), &mut files)?;
    files.sort();
    let mut text = String::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file);
        writeln!(text, "{} {}", name.display(), cache::hex(&fs::read(&file)?))?;
    }
    let locked = fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let mut lines = locked.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("name = \"aya-ebpf") || line.starts_with("name = \"aya-log-ebpf") {
            writeln!(text, "{line} {}", lines.peek().unwrap_or(&""))?;
        }
    }
    Ok(cache::hex(text.as_bytes()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_gives_back_what_was_written_into_it() {
        let lock = lock("rustc 1", &[b"one".to_vec(), b"other".to_vec()], "abc");
        assert_eq!(field(&lock, "sources"), Some("abc"));
        assert_eq!(field(&lock, "object nodetap-fallback"), Some(cache::hex(b"other").as_str()));
        assert_eq!(field(&lock, "toolchain"), Some("rustc 1"));
        assert_eq!(field(&lock, "other"), None);
    }
}
