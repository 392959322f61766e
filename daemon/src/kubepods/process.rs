//! What `/proc` says of one process, wherever it is mounted: the agent may see the node's at another place than its own.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::names::{self, Place};
use crate::netns::Id;

/// A mounted `/proc`.
#[derive(Debug, Clone)]
pub struct Proc {
    root: PathBuf,
    ours: bool,
}

/// PROC_PID_INIT_INO of linux/nsfs.h: the inode of the PID namespace that a machine begins with.
const INITIAL: u64 = 0xEFFF_FFFC;

/// From `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) name: String,
    /// Clock ticks since boot. With the number it names one process for good.
    pub(super) started: u64,
}

impl Proc {
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let namespace = |root: &Path| Id::of(&root.join("1/ns/pid")).ok();
        let ours = root == Path::new("/proc")
            || namespace(&root).is_some_and(|theirs| namespace(Path::new("/proc")) == Some(theirs));
        Self { root, ours }
    }

    #[cfg(test)]
    pub(super) fn made_up(root: &Path) -> Self {
        Self { root: root.to_owned(), ours: true }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Does it number processes as the kernel's hooks do: as the machine, and not as a container on it that is a node?
    pub(super) fn is_machines(&self) -> bool {
        let own = if self.ours { "self/ns/pid" } else { "1/ns/pid" };
        Id::of(&self.root.join(own)).is_ok_and(|id| id.inode == INITIAL)
    }

    /// Does it number processes as the kernel numbers them for us, in `cgroup.procs` and elsewhere?
    pub(super) fn is_ours(&self) -> bool {
        self.ours
    }

    pub(super) fn stat(&self, pid: u32) -> Option<Stat> {
        stat(&fs::read_to_string(self.file(pid, "stat")).ok()?)
    }

    /// The pods on the path of the process's control group, the outermost first.
    pub(super) fn places(&self, pid: u32) -> Option<Vec<Place>> {
        fs::read_to_string(self.file(pid, "cgroup")).ok().map(|groups| places(&groups))
    }

    pub(super) fn network(&self, pid: u32) -> PathBuf {
        self.file(pid, "ns/net")
    }

    /// The file of the process's network namespace.
    pub(super) fn netns(&self, pid: u32) -> io::Result<Id> {
        Id::of(&self.network(pid))
    }

    /// Every process there is.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
    }

    fn file(&self, pid: u32, name: impl AsRef<OsStr>) -> PathBuf {
        self.root.join(pid.to_string()).join(name.as_ref())
    }
}

fn stat(text: &str) -> Option<Stat> {
    // The name may hold anything, `)` too.
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // Field 22, of which `after` begins with the third.
    let started = after.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(Stat { name: name.to_owned(), started })
}

/// From `/proc/PID/cgroup` (cgroups(7)). The line of version 2 says it all; where that knows no pod, as with a kubelet
/// on version 1, the other lines do, if they agree.
fn places(groups: &str) -> Vec<Place> {
    let mut old: Option<Vec<Place>> = None;
    let mut agree = true;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(_), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let found = names::places(path.strip_suffix(" (deleted)").unwrap_or(path));
        if found.is_empty() {
            continue;
        }
        if hierarchy == "0" {
            return found;
        }
        agree &= old.as_ref().is_none_or(|old| same_pods(old, &found));
        old.get_or_insert(found);
    }
    old.filter(|_| agree).unwrap_or_default()
}

fn same_pods(one: &[Place], other: &[Place]) -> bool {
    one.iter().map(|place| &place.pod).eq(other.iter().map(|place| &place.pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "0d2c1f3a-8b7e-4c55-9a10-6f1e2d3c4b5a";
    const OTHER: &str = "ffffffff-8b7e-4c55-9a10-6f1e2d3c4b5a";

    fn pods(groups: &str) -> Vec<String> {
        places(groups).into_iter().map(|place| place.pod.to_string()).collect()
    }

    #[test]
    fn a_name_with_parentheses_does_not_move_the_start_time() {
        let rest = " S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let read = stat(&format!("7 (a) b (c)){rest}")).unwrap();
        assert_eq!(read, Stat { name: "a) b (c)".to_owned(), started: 4242 });
        assert_eq!(stat("7 (a) S 1"), None);
        assert_eq!(stat(""), None);
    }

    #[test]
    fn the_line_of_version_2_goes_before_the_others() {
        assert_eq!(pods(&format!("4:memory:/kubepods/pod{OTHER}\n0::/kubepods/pod{POD}\n")), [POD]);
    }

    #[test]
    fn lines_of_version_1_count_when_they_agree() {
        let memory = format!("4:memory:/kubepods/burstable/pod{POD}/x\n");
        assert_eq!(
            pods(&format!("{memory}3:cpu,cpuacct:/kubepods/burstable/pod{POD}/x\n1:name=systemd:/\n0::/\n")),
            [POD]
        );
        assert_eq!(pods(&format!("{memory}3:cpu:/kubepods/pod{OTHER}\n")), [] as [String; 0]);
    }

    #[test]
    fn colons_in_a_path_and_a_group_that_was_removed_are_read() {
        let unit = POD.replace('-', "_");
        let id = "a".repeat(64);
        assert_eq!(pods(&format!("0::/kubepods-besteffort-pod{unit}.slice:cri-containerd:{id}\n")), [POD]);
        assert_eq!(pods(&format!("0::/kubepods/pod{POD} (deleted)\n")), [POD]);
    }

    #[test]
    fn this_process_is_read_as_it_is() {
        let proc = Proc::at("/proc");
        let pid = std::process::id();
        assert!(proc.is_ours());
        assert!(proc.stat(pid).unwrap().started > 0);
        assert!(proc.places(pid).is_some());
        assert!(proc.pids().any(|found| found == pid));
        assert_eq!(proc.stat(0), None);
    }
}
