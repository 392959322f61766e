//! What an agent writes down for the next one of its node, which may begin while the API server is away: the pods that
//! ask to be captured, as they were last told. It is a wish that was heard, and no more: whoever captures a pod finds its
//! processes and its network first, as ever.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cluster::pods::Pod;

/// The file, in the folder of the records.
const NAME: &str = "last-pods.json";
/// Bytes of it: a full node's pods need a hundredth of that.
const MOST: u64 = 64 << 20;
/// What is older says too little of how things are.
const AGE: Duration = Duration::from_secs(24 * 3600);
/// Between two times that it is written.
const PACE: Duration = Duration::from_secs(1);

/// Why nothing is remembered.
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{0} may be written or read by others than us: it is not used")]
    Others(PathBuf),
    #[error("{path} is not what an agent writes: {source}")]
    Garbled { path: PathBuf, source: serde_json::Error },
    #[error("{0} is of another node, or older than a day: it is not used")]
    Stale(PathBuf),
}

/// What was last heard of the API server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    node: String,
    /// Seconds since 1970.
    at: u64,
    pub paused: bool,
    /// Annotations of the pods' namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub pods: Vec<Pod>,
}

/// Where it is written, and when next.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    node: String,
    /// Something else is known than what was written.
    stale: bool,
    written: Option<Instant>,
}

impl Memory {
    /// `folder`: that of the records.
    pub(super) fn new(folder: &Path, node: &str) -> Self {
        Self { path: folder.join(NAME), node: node.to_owned(), stale: true, written: None }
    }

    /// What is known has changed.
    pub(super) fn changed(&mut self) {
        self.stale = true;
    }

    /// Is it to be written now?
    pub(super) fn is_due(&self) -> bool {
        self.stale && self.written.is_none_or(|written| written.elapsed() >= PACE)
    }

    /// Writes it, whole or not at all. A node that cannot remember captures all the same.
    pub(super) fn write(
        &mut self,
        paused: bool,
        namespaces: BTreeMap<String, BTreeMap<String, String>>,
        pods: Vec<Pod>,
    ) {
        let all = Remembered { node: self.node.clone(), at: seconds(), paused, namespaces, pods };
        (self.stale, self.written) = (false, Some(Instant::now()));
        if let Err(error) = replace(&self.path, &all) {
            tracing::warn!(%error, path = %self.path.display(), "cannot write down the pods that are captured");
        }
    }

    /// What the agent before us has written.
    ///
    /// # Errors
    /// When there is none that can be relied on.
    pub(super) fn read(&self) -> Result<Remembered, Error> {
        let path = || self.path.clone();
        let read = |source| Error::Read { path: path(), source };
        let file = open(&self.path, OpenOptions::new().read(true)).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if !metadata.is_file() || !ours || metadata.mode() & 0o077 != 0 {
            return Err(Error::Others(path()));
        }
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text).map_err(read)?;
        let all: Remembered =
            serde_json::from_slice(&text).map_err(|source| Error::Garbled { path: path(), source })?;
        if all.node != self.node || seconds().abs_diff(all.at) > AGE.as_secs() {
            return Err(Error::Stale(path()));
        }
        Ok(all)
    }
}

fn replace(path: &Path, all: &Remembered) -> io::Result<()> {
    let text = serde_json::to_vec(all)?;
    let new = path.with_extension("new");
    let mut file = open(&new, OpenOptions::new().write(true).create(true).truncate(true).mode(0o600))?;
    file.write_all(&text)?;
    std::fs::rename(&new, path)
}

/// Never what somebody's link leads to.
fn open(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits();
    how.custom_flags(flags.cast_signed()).open(path)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_written_is_read_by_the_next_agent_of_the_node_and_by_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::new(folder.path(), "n1");
        assert!(matches!(memory.read(), Err(Error::Read { .. })));
        assert!(memory.is_due());
        let pod = Pod { uid: "u1".into(), name: "web".into(), ..Pod::default() };
        let spaces = BTreeMap::from([("shop".to_owned(), BTreeMap::new())]);
        memory.write(true, spaces.clone(), vec![pod.clone()]);
        assert!(!memory.is_due());
        memory.changed();
        assert!(!memory.is_due(), "not so soon");
        let read = Memory::new(folder.path(), "n1").read().unwrap();
        assert_eq!((read.paused, read.namespaces, read.pods), (true, spaces, vec![pod]));
        assert!(matches!(Memory::new(folder.path(), "n2").read(), Err(Error::Stale(_))));
        let path = folder.path().join(NAME);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(memory.read(), Err(Error::Others(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(memory.read(), Err(Error::Garbled { .. })));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(memory.read(), Err(Error::Read { .. })));
    }
}
