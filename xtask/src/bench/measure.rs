//! One turn of one path: load, a download, and what the process in the middle used meanwhile.

use anyhow::{Context, Result, ensure};

use super::paths::Path;
use super::wrk::Load;
use super::{middle, wrk};

/// Seconds of load before each turn, whose figures nobody sees: buffers, caches and branches as under lasting load, and
/// what is to be in the recorder's way is.
const WARM_UP: u32 = 1;
/// Microseconds per request below which the load cannot have passed a process.
const LEAST_CPU: f64 = 1.0;

/// What one turn gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) c1: Option<Load>,
    pub(crate) c16: Load,
    /// Requests that were answered, those of the warm-up too.
    pub(crate) requests: f64,
    /// Mebibytes per second.
    pub(crate) download: Option<f64>,
    pub(crate) used: Option<Used>,
}

/// What the process in the middle used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// Microseconds of processor time per request, at 16 connections, with what it did afterwards because of them.
    pub(crate) cpu: f64,
    /// Mebibytes of memory at the end of the turn.
    pub(crate) rss: f64,
    /// The most so far.
    pub(crate) peak: f64,
}

/// Measures one turn.
pub(super) fn figures(path: &mut Path, seconds: u32, download: bool) -> Result<Figures> {
    let undisturbed = !path.kind.is_disturbed();
    let warm_up = load(path, 16, WARM_UP)?;
    let c1 = if undisturbed { Some(load(path, 1, seconds)?) } else { None };
    let pid = path.pid();
    let before = pid.map(settled).transpose()?;
    let c16 = load(path, 16, seconds)?;
    let after = pid.map(settled).transpose()?;
    let cpu = before.zip(after).map(|(before, after)| (after - before) * 1e6 / c16.requests);
    ensure!(cpu.is_none_or(|cpu| cpu >= LEAST_CPU), "{}: the load went past it ({cpu:?} µs)", path.kind.name());
    let download = if undisturbed && download { Some(fetch(path)?) } else { None };
    let used = match pid.zip(cpu) {
        Some((pid, cpu)) => {
            middle::settle(pid)?;
            let (rss, peak) = middle::memory(pid)?;
            Some(Used { cpu, rss, peak })
        }
        None => None,
    };
    let requests = warm_up.requests + c1.map_or(0.0, |load| load.requests) + c16.requests;
    Ok(Figures { c1, c16, requests, download, used })
}

/// Processor time, once the process rests.
fn settled(pid: u32) -> Result<f64> {
    middle::settle(pid)?;
    middle::processor_time(pid)
}

fn load(path: &mut Path, connections: u32, seconds: u32) -> Result<Load> {
    let arguments = wrk::arguments(connections, seconds, &format!("{}/1k", path.base));
    let text = path.client("wrk", &arguments)?;
    wrk::parse(&text).with_context(|| format!("{}: wrk printed {text:?}", path.kind.name()))
}

fn fetch(path: &mut Path) -> Result<f64> {
    let url = format!("{}/large", path.base);
    let arguments = ["-sS", "-f", "-o", "/dev/null", "-w", "%{speed_download}", &url].map(str::to_owned);
    let text = path.client("curl", &arguments)?;
    let speed: f64 = text.trim().parse().with_context(|| format!("{}: curl printed {text:?}", path.kind.name()))?;
    Ok(speed / f64::from(1 << 20))
}
