//! A container, as its control group shows it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::names::{self, ContainerId, PodUid};

/// One container of a pod; the sandbox's own counts as one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub pod: PodUid,
    pub id: ContainerId,
    /// Its control group, to attach to: what the runtime makes beneath it is covered.
    pub path: PathBuf,
    /// The kernel's identifier of that group, as `sock_diag` and the hooks tell it.
    pub cgroup: u64,
}

/// Groups that a container has made beneath its own, and that are looked at.
const BENEATH: usize = 256;

impl Container {
    /// The control group of its pod: that above its own, but where containerd makes one folder of both.
    pub fn folder(&self) -> &Path {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let alone = names::colons(name).is_some();
        self.path.parent().filter(|_| !alone).unwrap_or(&self.path)
    }

    /// The identifiers of its group and those beneath it: crun and systemd put processes further down.
    pub fn cgroups(&self) -> Vec<u64> {
        let mut found = vec![self.cgroup];
        let mut paths = vec![self.path.clone()];
        while let Some(path) = paths.pop() {
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                if found.len() >= BENEATH {
                    return found;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    found.extend(identifier(&entry.path()));
                    paths.push(entry.path());
                }
            }
        }
        found
    }
}

/// Of a group; `None` when it is gone.
pub(super) fn identifier(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}
