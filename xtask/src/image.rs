//! `cargo xtask image`: nodetap as a container image, without a container engine. It holds the program, the libraries that
//! it is linked to as they stand on this machine, and the roots that it verifies servers against. `deploy/Containerfile`
//! makes the same with one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nodetap_oci::Image;

use crate::{demo, packages, process, workspace};

/// Without the version, which is the tag.
const NAME: &str = "docker.io/library/nodetap";
/// Where the archive goes, in the build's folder.
const ARCHIVE: &str = "nodetap-image.tar";
const PROGRAM: &str = "/usr/bin/nodetap";
/// Debian's roots, one a file: the bundle in `/etc/ssl` may hold some that are this machine's own.
const ROOTS: &str = "/usr/share/ca-certificates/mozilla";
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Which names are asked for where.
const NAMES: &str = "hosts: files dns\n";
const USERS: &str = "root:x:0:0:root:/root:/sbin/nologin\n";

/// Builds the program as users get it, unless one is given, and writes its image; prints what to do with it.
pub(crate) fn run(to: Option<&Path>, program: Option<&Path>) -> Result<()> {
    let place = match program {
        Some(program) => write_for_tests(program, to)?,
        None => write(&demo::release_build()?, to)?,
    };
    let size = std::fs::metadata(&place)?.len() >> 20;
    println!("{} MiB: {} in {}", size.max(1), reference(), place.display());
    println!("kind load image-archive {0}\nctr -n k8s.io images import {0}", place.display());
    Ok(())
}

/// The image's name and tag; `deploy/` says the same.
fn reference() -> String {
    format!("{NAME}:{}", env!("CARGO_PKG_VERSION"))
}

/// Writes an image of a program that was built for tests: without what only debuggers read, because each container of it
/// may be a copy.
pub(crate) fn write_for_tests(program: &Path, to: Option<&Path>) -> Result<PathBuf> {
    let stripped = workspace::target_dir()?.join("nodetap-stripped");
    process::output(Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(program))?;
    write(&stripped, to)
}

/// Writes an image of a program that is there, and returns where it is.
pub(crate) fn write(program: &Path, to: Option<&Path>) -> Result<PathBuf> {
    let place = match to {
        Some(place) => place.to_path_buf(),
        None => workspace::target_dir()?.join(ARCHIVE),
    };
    Image::new(&reference())
        .entrypoint(&[PROGRAM])
        .program(PROGRAM, program)?
        .bytes(BUNDLE, roots()?, 0o644)
        .bytes("/etc/nsswitch.conf", NAMES, 0o644)
        .bytes("/etc/passwd", USERS, 0o644)
        .folder("/tmp", 0o1777)
        .write(&place)?;
    Ok(place)
}

fn roots() -> Result<String> {
    if !Path::new(ROOTS).is_dir() {
        packages::apt_install(&["ca-certificates"], &format!("no roots in {ROOTS}"))?;
    }
    let mut files = std::fs::read_dir(ROOTS)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>())
        .with_context(|| format!("cannot read {ROOTS}"))?;
    files.sort();
    let mut bundle = String::new();
    for file in files {
        bundle.push_str(&std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(bundle)
}
