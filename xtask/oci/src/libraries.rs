//! Which libraries a program needs: asked of the dynamic linker itself, which is what looks for them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The libraries that are loaded with a program or library, and the dynamic linker, by the paths at which they are looked
/// for. None, for a program that is linked statically.
///
/// # Errors
/// When there is no `ldd`, or a library is missing.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let done = Command::new("ldd").env("LC_ALL", "C").arg(program).output().context("cannot start ldd")?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(said.contains("not a dynamic executable"), "ldd {}: {}", program.display(), said.trim());
        return Ok(Vec::new());
    }
    parse(&String::from_utf8_lossy(&done.stdout)).with_context(|| program.display().to_string())
}

/// Reads `name => /path (0x…)` and `/path (0x…)`; what has no path is the kernel's own.
fn parse(printed: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in printed.lines() {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place.contains("not found") {
            bail!("{} is missing", name.trim());
        }
        let place = place.trim().split(" (").next().unwrap_or_default();
        if place.starts_with('/') {
            found.push(PathBuf::from(place));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_linker_are_read_and_the_kernels_own_is_not_a_file() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse(printed).unwrap(), expected);
        assert!(parse("\tstatically linked\n").unwrap().is_empty());
    }

    #[test]
    fn a_library_that_is_missing_is_named() {
        assert_eq!(parse("\tlibx.so.1 => not found\n").unwrap_err().to_string(), "libx.so.1 is missing");
    }
}
