//! Whether the threads of some processes sleep, and slept all the time from one look to the next: who sleeps is about to
//! write nothing. It refuses to know what they would write.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Processes and threads that are looked at: with more of them a look would take longer than what it is to exclude.
const LOOKED_AT: usize = 256;
/// A line of numbers.
const LINE: usize = 128;

/// Threads that slept when they were looked at.
#[derive(Debug)]
pub(super) struct Asleep(Vec<Thread>);

#[derive(Debug)]
struct Thread {
    /// `/proc/PID/task/TID/schedstat`: nanoseconds that it ran and waited, and how often it was given a processor.
    turns: File,
    seen: u64,
}

impl Asleep {
    /// Looks at all of them; nothing where one of them runs or wants to, or cannot be looked at.
    pub(super) fn all(processes: &[u32]) -> Option<Self> {
        let mut threads = Vec::new();
        for pid in processes {
            for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
                let task = entry.ok()?.path();
                let turns = File::open(task.join("schedstat")).ok()?;
                // Its turns first: one that has had another since, and sleeps again, is told by the next look.
                let seen = read(&turns)?;
                if threads.len() == LOOKED_AT || !sleeps(&fs::read_to_string(task.join("stat")).ok()?) {
                    return None;
                }
                threads.push(Thread { turns, seen });
            }
        }
        (!threads.is_empty()).then_some(Self(threads))
    }

    /// Nobody has had a turn since. A few microseconds for each.
    pub(super) fn still(&self) -> bool {
        self.0.iter().all(|thread| read(&thread.turns) == Some(thread.seen))
    }
}

/// How often it was given a processor; nothing for one that is gone, and where the kernel does not count it
/// (CONFIG_SCHED_INFO).
fn read(turns: &File) -> Option<u64> {
    let mut line = [0; LINE];
    let length = turns.read_at(&mut line, 0).ok()?;
    let text = std::str::from_utf8(line.get(..length)?).ok()?;
    text.split_ascii_whitespace().nth(2)?.parse().ok().filter(|turns| *turns > 0)
}

/// From `/proc/PID/task/TID/stat` (proc(5)): the state follows the name, which may hold anything.
fn sleeps(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['S', 'I']))
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
            if let Some(asleep) = Asleep::all(&[cat.id()]).filter(Asleep::still) {
                break asleep;
            }
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        };
        assert!(asleep.still());
        std::io::Write::write_all(cat.stdin.as_mut().unwrap(), b"x").unwrap();
        while asleep.still() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        drop(cat.stdin.take());
        cat.wait().unwrap();
        assert!(!asleep.still(), "one that is gone");
    }

    #[test]
    fn who_looks_does_not_sleep_and_nobody_is_not_asleep() {
        assert!(Asleep::all(&[std::process::id()]).is_none());
        assert!(Asleep::all(&[]).is_none());
    }

    #[test]
    fn a_state_is_read_behind_any_name() {
        assert!(sleeps("7 (a) R (b)) S 1 2"));
        assert!(!sleeps("7 (a) S 1) R 1 2"));
        assert!(!sleeps("7 (a) D 1"));
        assert!(!sleeps(""));
    }
}
