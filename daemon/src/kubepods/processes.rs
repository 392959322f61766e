//! Who is behind a process number: its name, and the container that it runs in. What was found is kept for a while, for
//! processes that are gone when somebody asks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::names::Place;
use super::process::Proc;

/// Processes that are remembered.
const KEPT: usize = 4096;
/// For how long one that is gone is. Longer, and its number might have been given again without anybody noticing.
const MEMORY: Duration = Duration::from_secs(10);

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub name: String,
    /// `None`: it belongs to no pod.
    pub place: Option<Place>,
}

#[derive(Debug)]
struct Known {
    started: u64,
    seen: Instant,
    process: Process,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<u32, Known>,
    /// The oldest first.
    order: VecDeque<u32>,
}

/// The processes of the node.
#[derive(Debug)]
pub struct Processes {
    proc: Proc,
    /// Does `/proc` mean the same processes by its numbers as the hooks do?
    hooks: bool,
    table: Mutex<Table>,
}

impl Processes {
    pub fn new(proc: Proc) -> Self {
        let hooks = proc.is_machines();
        Self { proc, hooks, table: Mutex::default() }
    }

    /// The process of which a hook told the number. `None` also where the node is itself a container (kind): hooks
    /// number processes as the machine does, and another one might have this number here.
    pub fn of_hook(&self, pid: u32) -> Option<Process> {
        if self.hooks { self.look(pid) } else { None }
    }

    /// The process of this number in `/proc`; `None` when there is none, and was none a moment ago.
    pub fn look(&self, pid: u32) -> Option<Process> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let known = table.known.get_mut(&pid);
        let Some(stat) = self.proc.stat(pid) else {
            return known.filter(|known| now.duration_since(known.seen) < MEMORY).map(|known| known.process.clone());
        };
        if let Some(known) = known
            && known.started == stat.started
            // A runtime's process moves into the container before it becomes the container's program.
            && known.process.place.is_some()
        {
            known.seen = now;
            known.process.name = stat.name;
            return Some(known.process.clone());
        }
        // Of pods within pods this node knows the outermost.
        let place = self.proc.places(pid).and_then(|places| places.into_iter().next());
        let process = Process { name: stat.name, place };
        table.keep(pid, Known { started: stat.started, seen: now, process: process.clone() });
        Some(process)
    }
}

impl Table {
    fn keep(&mut self, pid: u32, known: Known) {
        if self.known.insert(pid, known).is_none() {
            self.order.push_back(pid);
        }
        while self.known.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    const POD: &str = "0d2c1f3a-8b7e-4c55-9a10-6f1e2d3c4b5a";

    fn write(proc: &Path, pid: u32, name: &str, started: u64, groups: &str) {
        let folder = proc.join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("stat"), format!("{pid} ({name}) S {}{started} 0", "0 ".repeat(18))).unwrap();
        fs::write(folder.join("cgroup"), groups).unwrap();
    }

    fn pod(process: &Process) -> Option<&str> {
        process.place.as_ref().map(|place| place.pod.as_str())
    }

    #[test]
    fn a_process_that_is_gone_is_remembered_and_its_number_is_not_mistaken() {
        let proc = TempDir::new().unwrap();
        let processes = Processes::new(Proc::made_up(proc.path()));
        assert_eq!(processes.look(7), None);
        let groups = format!("0::/kubepods/pod{POD}/{}\n", "a".repeat(64));
        write(proc.path(), 7, "curl", 5, &groups);
        assert_eq!(pod(&processes.look(7).unwrap()), Some(POD));
        fs::remove_dir_all(proc.path().join("7")).unwrap();
        assert_eq!(processes.look(7).unwrap().name, "curl");
        write(proc.path(), 7, "sshd", 6, "0::/system.slice/ssh.service\n");
        assert_eq!(processes.look(7), Some(Process { name: "sshd".to_owned(), place: None }));
    }

    #[test]
    fn a_process_that_moves_into_its_container_is_looked_at_again() {
        let proc = TempDir::new().unwrap();
        let processes = Processes::new(Proc::made_up(proc.path()));
        write(proc.path(), 7, "runc:[1:CHILD]", 5, "0::/system.slice/containerd.service\n");
        assert_eq!(pod(&processes.look(7).unwrap()), None);
        write(proc.path(), 7, "app", 5, &format!("0::/kubepods/pod{POD}/{}\n", "a".repeat(64)));
        let now = processes.look(7).unwrap();
        assert_eq!((now.name.as_str(), pod(&now)), ("app", Some(POD)));
    }

    #[test]
    fn no_more_are_remembered_than_the_limit() {
        // Thousands of folders: in memory where there is such a place.
        let proc = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let processes = Processes::new(Proc::made_up(proc.path()));
        let limit = u32::try_from(KEPT).unwrap();
        for pid in 1..=limit + 10 {
            write(proc.path(), pid, "x", 1, "0::/\n");
            processes.look(pid);
            fs::remove_dir_all(proc.path().join(pid.to_string())).unwrap();
        }
        let table = processes.table.lock().unwrap();
        assert_eq!((table.known.len(), table.order.len()), (KEPT, KEPT));
        drop(table);
        assert_eq!(processes.look(1), None);
        assert!(processes.look(limit + 10).is_some());
    }
}
