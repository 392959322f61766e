//! What the processes in the middle use, as the kernel counts it in `/proc` (proc(5)).

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

/// Whose processor time and memory is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Middle {
    /// One process with all its threads: what it has started is somebody else, as the server under `nodetap run`.
    Process(u32),
    /// A process that has others work for it, and those.
    Family(u32),
}

impl Middle {
    /// Seconds of processor time, of ended threads and a family's ended processes too, in user space and kernel.
    pub(super) fn processor_time(self) -> Result<f64> {
        match self {
            Self::Process(pid) => Ok(Stat::of(pid)?.own),
            Self::Family(pid) => Ok(family(pid)?.iter().map(|stat| stat.own + stat.of_ended_children).sum()),
        }
    }

    /// Waits until what the load has left is done: it is neither given to the next path nor left out of this one's bill.
    /// What never rests is measured as it is.
    pub(super) fn settle(self) -> Result<()> {
        let end = Instant::now() + SETTLE;
        let mut before = self.processor_time()?;
        while Instant::now() < end {
            thread::sleep(STILL);
            let now = self.processor_time()?;
            if now - before < 1.5 / TICKS_PER_SECOND {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }

    /// Mebibytes of resident memory, now. What a family's processes share is divided among them.
    pub(super) fn memory(self) -> Result<f64> {
        match self {
            Self::Process(pid) => mebibytes(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:"),
            Self::Family(pid) => family(pid)?.iter().map(|stat| shared_memory(stat.pid)).sum(),
        }
    }

    /// The most so far, of the first process.
    pub(super) fn peak_memory(self) -> Result<f64> {
        let (Self::Process(pid) | Self::Family(pid)) = self;
        mebibytes(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmHWM:")
    }
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug)]
struct Stat {
    pid: u32,
    parent: u32,
    /// Seconds.
    own: f64,
    /// Seconds, of those that were waited for.
    of_ended_children: f64,
}

impl Stat {
    fn of(pid: u32) -> Result<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat"))?)
    }

    fn parse(pid: u32, text: &str) -> Result<Self> {
        // The name stands in parentheses and may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
        let field = |index: usize| fields.get(index).copied().context("too few fields");
        let ticks = |index: usize| -> Result<f64> { Ok(field(index)?.parse()?) };
        Ok(Self {
            pid,
            parent: field(1)?.parse()?,
            own: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            of_ended_children: (ticks(13)? + ticks(14)?) / TICKS_PER_SECOND,
        })
    }
}

/// A process and what it and its descendants have started, as far as it still runs.
fn family(pid: u32) -> Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        // One that has ended since is none.
        if let Some(stat) = name.to_str().and_then(|name| name.parse().ok()).and_then(|pid| Stat::of(pid).ok()) {
            all.push(stat);
        }
    }
    Ok(related(pid, all))
}

fn related(pid: u32, all: Vec<Stat>) -> Vec<Stat> {
    let (mut family, mut others): (Vec<Stat>, Vec<Stat>) = all.into_iter().partition(|stat| stat.pid == pid);
    loop {
        let is_child = |stat: &Stat| family.iter().any(|parent| parent.pid == stat.parent);
        let (children, rest): (Vec<Stat>, Vec<Stat>) = others.into_iter().partition(is_child);
        if children.is_empty() {
            return family;
        }
        family.extend(children);
        others = rest;
    }
}

fn shared_memory(pid: u32) -> Result<f64> {
    // One that has ended since has none.
    fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).map_or(Ok(0.0), |text| mebibytes(&text, "Pss:"))
}

/// Reads a line such as `VmRSS:      1024 kB`.
fn mebibytes(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        for middle in [Middle::Process(std::process::id()), Middle::Family(std::process::id())] {
            assert!(middle.processor_time().unwrap() >= 0.0);
            assert!(middle.memory().unwrap() > 0.0 && middle.peak_memory().unwrap() > 0.0, "{middle:?}");
        }
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = Stat::parse(7, "7 (a) (b c) S 5 7 7 0 -1 4194304 1 2 3 4 100 50 20 10 20 0 1 0 5 6 7").unwrap();
        assert_eq!((stat.pid, stat.parent), (7, 5));
        assert!((stat.own - 1.5).abs() < 1e-9 && (stat.of_ended_children - 0.3).abs() < 1e-9, "{stat:?}");
    }

    #[test]
    fn a_family_is_a_process_and_its_descendants() {
        let stat = |(pid, parent)| Stat { pid, parent, own: 0.0, of_ended_children: 0.0 };
        let all = [(9, 3), (1, 0), (2, 1), (3, 2), (4, 1)].map(stat);
        let mut pids: Vec<u32> = related(2, Vec::from(all)).iter().map(|stat| stat.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [2, 3, 9]);
    }
}
