//! One control group (v2) for a command, and its end. It is where the kernel programs are attached: a process belongs
//! to the target because it is in here. It refuses to know what runs in it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use nodetap_core::ulid::Ulid;
use thiserror::Error;

/// What the names of our groups begin with.
const PREFIX: &str = "nodetap-";

/// Why there is no control group.
#[derive(Debug, Error)]
pub enum Error {
    #[error("no cgroup v2 hierarchy is mounted; mount one: `mount -t cgroup2 none /sys/fs/cgroup`")]
    NoHierarchy,
    #[error("cannot make the control group {path}: {source}")]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
}

impl Error {
    /// Was it the lack of a right on the hierarchy?
    pub fn is_permission(&self) -> bool {
        match self {
            Self::NoHierarchy => false,
            Self::Make { source, .. } | Self::Read { source, .. } => {
                matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
            }
        }
    }
}

/// How often a group is made before another run's sweep is called a fault.
const ATTEMPTS: u32 = 16;

/// A control group of ours. Removed when dropped, if nothing runs in it any more.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// Locked for as long as we live, so that nobody removes it as a left-over while it is still empty.
    directory: File,
}

impl Cgroup {
    /// Makes one beneath our own, and removes those that earlier runs left behind.
    ///
    /// # Errors
    /// Without a hierarchy, or without the right to make a group in it.
    pub fn make(id: Ulid) -> Result<Self, Error> {
        let parent = own()?;
        remove_leftovers(&parent);
        let path = parent.join(format!("{PREFIX}{id}"));
        let made = (0..ATTEMPTS).find_map(|_| match make_and_lock(&path) {
            // Another run took it for a left-over, in the moment before it was locked.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::WouldBlock) => None,
            made => Some(made),
        });
        match made.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into())) {
            Ok(directory) => Ok(Self { path, directory }),
            Err(source) => Err(Error::Make { path, source }),
        }
    }

    /// The directory, to attach to.
    pub fn directory(&self) -> &File {
        &self.directory
    }

    /// Its path in the mounted hierarchy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The processes in it, in groups beneath it too.
    pub fn processes(&self) -> Vec<u32> {
        processes(&self.path)
    }
}

/// The processes in a group, and in groups beneath it. One that our PID namespace does not show is 0.
pub fn processes(path: &Path) -> Vec<u32> {
    let listed = |path: PathBuf| fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let numbers = |text: String| text.lines().filter_map(|line| line.parse::<u32>().ok()).collect::<Vec<_>>();
    within(path).into_iter().map(listed).flat_map(numbers).collect()
}

/// A group and those beneath it.
pub fn within(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(path, &mut found, 0);
    found
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path, 0);
    }
}

fn make_and_lock(path: &Path) -> io::Result<File> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let directory = File::open(path)?;
    directory.try_lock().map_err(|error| match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
    })?;
    // Locked, but is it still the one that has this name?
    fs::metadata(path).map(|_| directory)
}

/// Groups within groups that are looked into: a container engine under `run` makes some.
const DEPTH: u32 = 16;

fn collect(path: &Path, found: &mut Vec<PathBuf>, depth: u32) {
    found.push(path.to_owned());
    if depth < DEPTH {
        children(path).for_each(|child| collect(&child, found, depth + 1));
    }
}

/// Removes a group and the empty groups beneath it; the kernel refuses where something still runs.
fn remove(path: &Path, depth: u32) {
    if depth < DEPTH {
        children(path).for_each(|child| remove(&child, depth + 1));
    }
    if let Err(error) = fs::remove_dir(path) {
        tracing::debug!(path = %path.display(), %error, "the control group stays for now");
    }
}

fn children(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// Groups of runs that were killed: nobody holds their lock. The kernel keeps those in which something still runs.
fn remove_leftovers(parent: &Path) {
    for path in children(parent) {
        let ours = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(PREFIX))
            .is_some_and(|id| id.parse::<Ulid>().is_ok());
        if ours && File::open(&path).is_ok_and(|directory| directory.try_lock().is_ok()) {
            remove(&path, 0);
        }
    }
}

/// The directory of the group that this process is in.
fn own() -> Result<PathBuf, Error> {
    let read =
        |path: &str| fs::read_to_string(path).map_err(|source| Error::Read { path: PathBuf::from(path), source });
    let mounts = read("/proc/self/mountinfo")?;
    let groups = read("/proc/self/cgroup")?;
    locate(&mounts, &groups).ok_or(Error::NoHierarchy)
}

/// From `/proc/self/mountinfo` and `/proc/self/cgroup` (proc(5), cgroups(7)) to a directory.
fn locate(mounts: &str, groups: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, point) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        (after.split(' ').next() == Some("cgroup2")).then_some((fields.next()?, fields.next()?))
    })?;
    // A mount may show only a part of the hierarchy.
    let beneath = if root == "/" { group } else { group.strip_prefix(root).unwrap_or("/") };
    Some(Path::new(point).join(beneath.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 0:20 / /proc rw - proc proc rw\n\
        30 22 0:26 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_in_the_mounted_hierarchy() {
        let found = |group: &str| locate(MOUNTS, &format!("2:cpu:/\n0::{group}\n"));
        assert_eq!(found("/"), Some(PathBuf::from("/sys/fs/cgroup/unified/")));
        assert_eq!(found("/user.slice/a.scope"), Some(PathBuf::from("/sys/fs/cgroup/unified/user.slice/a.scope")));
    }

    #[test]
    fn a_mount_of_a_part_shows_what_is_beneath_it() {
        let mounts = "30 22 0:26 /kubepods/pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(locate(mounts, "0::/kubepods/pod1/app"), Some(PathBuf::from("/sys/fs/cgroup/app")));
    }

    #[test]
    fn version_1_alone_is_no_hierarchy() {
        assert_eq!(locate("30 22 0:26 / /sys/fs/cgroup/cpu rw - cgroup cpu rw", "2:cpu:/"), None);
    }
}
