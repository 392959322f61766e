//! What the process in the middle uses, as the kernel counts it in `/proc` (proc(5)).

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The kernel's unit for processor time in `/proc`, the same on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a process may go on with what a load has left it.
const SETTLE: Duration = Duration::from_secs(20);
/// How long it has to use next to nothing, to count as settled.
const STILL: Duration = Duration::from_millis(200);

/// Seconds of processor time that a process with all its threads, ended ones too, has used in user space and kernel.
pub(super) fn processor_time(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).context("no times");
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// Waits until a process has done what the load has left it: its work is neither given to the next path nor left out of
/// its own bill. One that never rests is measured as it is.
pub(super) fn settle(pid: u32) -> Result<()> {
    let end = Instant::now() + SETTLE;
    let mut before = processor_time(pid)?;
    while Instant::now() < end {
        thread::sleep(STILL);
        let now = processor_time(pid)?;
        if now - before < 1.5 / TICKS_PER_SECOND {
            return Ok(());
        }
        before = now;
    }
    Ok(())
}

/// Resident memory in mebibytes: now, and the most so far.
pub(super) fn memory(pid: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mebibytes = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no memory")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    };
    Ok((mebibytes("VmRSS:")?, mebibytes("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(processor_time(pid).unwrap() >= 0.0);
        let (now, most) = memory(pid).unwrap();
        assert!(now > 0.0 && most >= now, "{now} MiB, {most} MiB at the most");
    }
}
