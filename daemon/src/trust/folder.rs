//! The folder that a command's bundles stand in: made for one run, readable by everybody (the command may change its user
//! as it goes, and certificates are public), writable by us alone, gone at the end. A run that is killed leaves it to the
//! next one. It refuses to hold a key.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nodetap_core::ulid::Ulid;

/// What the names of our folders begin with.
const PREFIX: &str = "nodetap-trust-";

/// Why there is no folder.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = .path.display())]
pub struct Error {
    pub path: PathBuf,
    pub source: io::Error,
}

/// The file that names the control group of the command.
const CGROUP: &str = "cgroup";

/// A folder of ours. Removed when dropped, unless something of the command still runs: it would trust nobody any more.
#[derive(Debug)]
pub struct TrustFolder {
    path: PathBuf,
    cgroup: PathBuf,
    /// Locked for as long as we live; also keeps systemd-tmpfiles(8) away.
    _directory: File,
}

impl TrustFolder {
    /// Makes one in `parent` for the command in this control group, and removes those that earlier runs of this user
    /// left behind.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(parent: &Path, id: Ulid, cgroup: &Path) -> Result<Self, Error> {
        remove_leftovers(parent);
        let path = parent.join(format!("{PREFIX}{id}"));
        let make = || {
            let directory = make_locked(&path)?;
            // Whatever the umask says.
            directory.set_permissions(fs::Permissions::from_mode(0o755))?;
            fs::write(path.join(CGROUP), cgroup.as_os_str().as_bytes())?;
            Ok(directory)
        };
        match make() {
            Ok(directory) => Ok(Self { path, cgroup: cgroup.to_owned(), _directory: directory }),
            Err(source) => Err(Error { path, source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes files by their place below the folder.
    ///
    /// # Errors
    /// When one of them cannot be written.
    pub fn write(&self, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<(), Error> {
        for (name, bytes) in files {
            let path = self.path.join(name);
            let write = || {
                if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
                    DirBuilder::new().create(parent)?;
                    fs::set_permissions(parent, fs::Permissions::from_mode(0o755))?;
                }
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                file.write_all(bytes)?;
                file.set_permissions(fs::Permissions::from_mode(0o644))
            };
            write().map_err(|source| Error { path: path.clone(), source })?;
        }
        Ok(())
    }
}

impl Drop for TrustFolder {
    fn drop(&mut self) {
        if !is_populated(&self.cgroup) {
            remove(&self.path);
        }
    }
}

/// Makes the folder and locks it. Until it is locked another run may take it for a leftover and remove it: then it is made
/// again.
fn make_locked(path: &Path) -> io::Result<File> {
    loop {
        // Fails where somebody else has made something of this name.
        DirBuilder::new().mode(0o700).create(path)?;
        let directory = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        // Nobody else can open it yet, and a run of ours that sweeps holds the lock no longer than it takes to remove.
        directory.lock()?;
        if stands_at(&directory, path) {
            return Ok(directory);
        }
    }
}

/// Is this locked folder still the one of this name? Who holds the lock of another one may not touch what is there.
fn stands_at(directory: &File, path: &Path) -> bool {
    let (locked, found) = (directory.metadata(), fs::symlink_metadata(path));
    locked.is_ok_and(|locked| found.is_ok_and(|found| (found.dev(), found.ino()) == (locked.dev(), locked.ino())))
}

/// Does a process live in this group or beneath it (cgroups(7), `cgroup.events`)?
fn is_populated(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::debug!(path = %path.display(), %error, "a folder of certificates stays for now");
    }
}

/// Folders of runs that have gone: ours by name and owner, nobody holds their lock, and nothing of their command runs.
fn remove_leftovers(parent: &Path) {
    let own = nix::unistd::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        // Of the entry itself: a symbolic link is not followed.
        let ours = entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own);
        let used = || {
            let cgroup = fs::read(entry.path().join(CGROUP)).unwrap_or_default();
            is_populated(Path::new(OsStr::from_bytes(&cgroup)))
        };
        if !ours || id.is_none_or(|id| id.parse::<Ulid>().is_err()) {
            continue;
        }
        let Ok(directory) = File::open(entry.path()) else { continue };
        // Held until it is removed: a run that is just making it would else write into a folder that goes away.
        if directory.try_lock().is_ok() && stands_at(&directory, &entry.path()) && !used() {
            remove(&entry.path());
        }
    }
}
