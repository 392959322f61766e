//! Whether the threads of some processes sleep, and slept all the time from one look to the next: who sleeps is about to
//! write nothing. It refuses to know what they would write.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// Threads that are looked at: with more of them a look would take longer than what it is to exclude.
const LOOKED_AT: usize = 256;
/// What is read of `/proc/PID/task/TID/schedstat`, and of `stat` behind the name.
const LINE: usize = 128;

/// What a look came to.
#[derive(Debug)]
pub(super) enum Look {
    /// All of them sleep.
    Asleep(Asleep),
    /// One of them runs, or is about to.
    Awake,
    /// There is none, there are too many, or the kernel does not tell.
    Unknown,
}

/// Threads that slept when they were looked at.
#[derive(Debug)]
pub(super) struct Asleep(Vec<Thread>);

#[derive(Debug)]
struct Thread {
    /// `stat` (proc(5)): among others its state, which is another one as soon as it is woken.
    state: File,
    /// `schedstat`: how long it ran and waited, and how often it was given a processor (CONFIG_SCHED_INFO).
    turns: File,
    seen: u64,
}

/// Looks at all threads of these processes.
pub(super) fn look(processes: &[u32]) -> Look {
    let mut threads = Vec::new();
    for pid in processes {
        match of(*pid, &mut threads) {
            Ok(true) => {}
            Ok(false) => return Look::Awake,
            Err(error) if is_unseen(&error) => return Look::Unknown,
            // Threads end, so others run.
            Err(_) => return Look::Awake,
        }
    }
    if threads.is_empty() { Look::Unknown } else { Look::Asleep(Asleep(threads)) }
}

fn is_unseen(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, Unsupported};
    matches!(error.kind(), PermissionDenied | QuotaExceeded | Unsupported)
}

/// Adds the threads of a process; do they sleep?
fn of(pid: u32, threads: &mut Vec<Thread>) -> io::Result<bool> {
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = entry?.path();
        let (state, turns) = (File::open(task.join("stat"))?, File::open(task.join("schedstat"))?);
        // Its turns first: one that has another one after that, and sleeps again, is found out by the next look.
        let thread = Thread { seen: count(&turns)?, state, turns };
        if threads.len() == LOOKED_AT {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if !sleeps(&thread.state)? {
            return Ok(false);
        }
        threads.push(thread);
    }
    Ok(true)
}

impl Asleep {
    /// Nobody has had a turn since, or is waiting for one. Some microseconds for each.
    pub(super) fn still(&self) -> bool {
        // The slower look first, so that the last one is as short as can be.
        self.0.iter().all(|thread| sleeps(&thread.state).unwrap_or(false))
            && self.0.iter().all(|thread| count(&thread.turns).is_ok_and(|turns| turns == thread.seen))
    }
}

/// How often it was given a processor.
fn count(turns: &File) -> io::Result<u64> {
    let mut line = [0; LINE];
    let text = read(turns, &mut line)?;
    let counted = text.split_ascii_whitespace().nth(2).and_then(|turns| turns.parse().ok());
    // Of one that waits to be heard of there is something to count, where the kernel counts.
    counted.filter(|turns| *turns > 0).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn sleeps(state: &File) -> io::Result<bool> {
    let mut line = [0; LINE];
    Ok(is_asleep(&read(state, &mut line)?))
}

/// The state follows the name, which may hold anything.
fn is_asleep(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['S', 'I']))
}

fn read(file: &File, line: &mut [u8]) -> io::Result<String> {
    let length = file.read_at(line, 0)?;
    // A name may be cut, or be no text at all.
    Ok(String::from_utf8_lossy(line.get(..length).unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_process_that_waits_sleeps_until_it_is_given_something() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let asleep = loop {
            if let Look::Asleep(asleep) = look(&[cat.id()])
                && asleep.still()
            {
                break asleep;
            }
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        };
        io::Write::write_all(cat.stdin.as_mut().unwrap(), b"x").unwrap();
        while asleep.still() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        drop(cat.stdin.take());
        cat.wait().unwrap();
        assert!(!asleep.still(), "one that is gone");
        assert!(matches!(look(&[cat.id()]), Look::Awake));
    }

    #[test]
    fn who_looks_does_not_sleep_and_of_nobody_nothing_is_known() {
        assert!(matches!(look(&[std::process::id()]), Look::Awake));
        assert!(matches!(look(&[]), Look::Unknown));
    }

    #[test]
    fn a_state_is_read_behind_any_name() {
        assert!(is_asleep("7 (a) R (b)) S 1 2"));
        assert!(!is_asleep("7 (a) S 1) R 1 2"));
        assert!(!is_asleep("7 (a) D 1"));
        assert!(!is_asleep(""));
    }
}
