//! What nodetap may leave on a machine, and must not: cgroups, and what stands in them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wait::eventually;

/// The root of the cgroup v2 tree, from the mount table.
pub fn cgroup_root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(place))
    })
}

/// The cgroup v2 folder of a process.
pub fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(cgroup_root()?.join(path))
}

/// Every cgroup whose name speaks of nodetap.
pub fn cgroups() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name().to_string_lossy().contains("nodetap") {
                    found.push(path.clone());
                }
                walk(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    if let Some(root) = cgroup_root() {
        walk(&root, &mut found);
    }
    found
}

/// Ends everything in a cgroup and removes it.
pub fn kill_cgroup(cgroup: &Path) {
    // Gone already, in the good case.
    if std::fs::write(cgroup.join("cgroup.kill"), "1").is_ok() {
        let empty =
            || std::fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|list| list.is_empty()).then_some(());
        drop(eventually(Duration::from_secs(5), "an empty cgroup", empty));
        drop(std::fs::remove_dir(cgroup));
    }
}

/// The local addresses (as `/proc/net/tcp*` writes them) on which a process listens, in its own network namespace.
pub fn listeners(pid: u32) -> Vec<String> {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .flat_map(|table| table.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listening = fields.get(3) == Some(&"0A");
            let ours = inodes.iter().any(|inode| fields.get(9) == Some(&inode.as_str()));
            (listening && ours).then(|| fields.get(1).map(|address| (*address).to_owned()))?
        })
        .collect()
}
