//! One measurement of one path: wrk's own figures, a download, and what the process in the middle used meanwhile.

use std::fs;

use anyhow::{Context, Result};

use super::Extent;
use super::paths::Path;

/// The kernel's unit for processor time in `/proc`, the same on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// Requests per second and median latency at one number of connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) per_second: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    /// Microseconds.
    pub(crate) p99: f64,
}

/// What one round gives for one path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) c1: Load,
    pub(crate) c16: Load,
    /// Mebibytes per second.
    pub(crate) download: Option<f64>,
    /// Microseconds of processor time that the middle used per request, at 16 connections.
    pub(crate) cpu: Option<f64>,
    /// The most memory that the middle has held so far, in mebibytes.
    pub(crate) memory: Option<f64>,
}

/// Measures one round.
pub(super) fn figures(path: &mut Path, extent: Extent, download: bool) -> Result<Figures> {
    let c1 = load(path, 1, extent.seconds)?;
    let before = path.pid().map(processor_time).transpose()?;
    let c16 = load(path, 16, extent.seconds)?;
    let after = path.pid().map(processor_time).transpose()?;
    let requests = c16.per_second * f64::from(extent.seconds);
    let cpu = before.zip(after).map(|(before, after)| (after - before) * 1e6 / requests);
    let speed = if download { Some(fetch(path)?) } else { None };
    let memory = path.pid().map(peak_memory).transpose()?;
    Ok(Figures { c1, c16, download: speed, cpu, memory })
}

fn load(path: &mut Path, connections: u32, seconds: u32) -> Result<Load> {
    let (connections, duration) = (format!("-c{connections}"), format!("-d{seconds}s"));
    let url = format!("{}/1k", path.base);
    let text = path.client("wrk", &["-t1", &connections, &duration, "--latency", &url])?;
    parse(&text).with_context(|| format!("wrk printed {text:?}"))
}

fn fetch(path: &mut Path) -> Result<f64> {
    let url = format!("{}/large", path.base);
    let text = path.client("curl", &["-sS", "-f", "-o", "/dev/null", "-w", "%{speed_download}", &url])?;
    let speed: f64 = text.trim().parse().with_context(|| format!("curl printed {text:?}"))?;
    Ok(speed / f64::from(1 << 20))
}

/// Reads what wrk prints with `--latency`.
fn parse(text: &str) -> Option<Load> {
    let after = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start).map(str::trim));
    // Errors would make the figures those of another path.
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        return None;
    }
    Some(Load {
        per_second: after("Requests/sec:")?.parse().ok()?,
        p50: microseconds(after("50%")?)?,
        p99: microseconds(after("99%")?)?,
    })
}

fn microseconds(text: &str) -> Option<f64> {
    let unit = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// Seconds of processor time that a process has used, in user space and in the kernel.
fn processor_time(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).context("no times");
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn peak_memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "Running 1s test @ http://127.0.0.1:80/1k\n  1 threads and 16 connections\n  \
        Latency Distribution\n     50%  446.00us\n     75%  600.00us\n     90%    1.20ms\n     99%    2.05ms\n  \
        27000 requests in 1.00s, 30.00MB read\nRequests/sec:  27825.31\nTransfer/sec:     30.00MB\n";

    #[test]
    fn the_figures_of_wrk_are_read_in_microseconds() {
        let load = parse(PRINTED).unwrap();
        assert!((load.p50 - 446.0).abs() < 1e-6 && (load.p99 - 2050.0).abs() < 1e-6, "{load:?}");
        assert!((load.per_second - 27825.31).abs() < 1e-6, "{load:?}");
    }

    #[test]
    fn a_run_with_errors_gives_no_figures() {
        assert!(parse(&format!("{PRINTED}  Socket errors: connect 0, read 3, write 0, timeout 0\n")).is_none());
    }
}
