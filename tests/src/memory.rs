//! What a process holds in memory, as the kernel counts it.

use anyhow::{Context, Result};

/// Resident set size in bytes.
///
/// # Errors
/// When there is no such process.
pub fn resident(pid: u32) -> Result<u64> {
    bytes(pid, "VmRSS:")
}

/// The most that it ever was.
///
/// # Errors
/// When there is no such process.
pub fn peak(pid: u32) -> Result<u64> {
    bytes(pid, "VmHWM:")
}

/// What is resident of it, with what it shares divided among those that share it.
///
/// # Errors
/// When there is no such process.
pub fn proportional(pid: u32) -> Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    kib(&rollup, "Pss:")
}

fn bytes(pid: u32, name: &str) -> Result<u64> {
    kib(&std::fs::read_to_string(format!("/proc/{pid}/status"))?, name)
}

/// Of a line `NAME 12 kB`, in bytes.
fn kib(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("the process has no memory")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
