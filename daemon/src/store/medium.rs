//! What the writer needs of a file system, so that a test can hand it a full or failing one. [`Disk`] is the real one:
//! files 0600, locked while they are open, owned by whom it is told.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::Path;

/// How often a file is made anew that another run took for one of a dead writer.
const ATTEMPTS: u32 = 16;

/// User and group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

pub trait Medium: Send {
    /// Makes a file that did not exist.
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn Sink>>;
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
}

/// An open file.
pub trait Sink: Send {
    /// Writes some of the bytes and says how many.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Sets the file's length.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// Writes all, or says how much was written before the error.
pub(super) fn write_all_at(sink: &mut dyn Sink, bytes: &[u8], offset: u64) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match sink.write_at(rest, offset + written as u64) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// The file system.
#[derive(Debug, Default)]
pub struct Disk {
    pub owner: Option<Owner>,
}

impl Disk {
    /// Makes a folder and what is missing above it, 0700 each. What exists is left as it is.
    pub fn create_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_folder(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
            other => other?,
        }
        self.owner.map_or(Ok(()), |owner| chown(path, Some(owner.uid), Some(owner.gid)))
    }
}

impl Medium for Disk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn Sink>> {
        for _ in 0..ATTEMPTS {
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
            if !lock(&file)? {
                continue;
            }
            if let Some(owner) = self.owner {
                fchown(&file, Some(owner.uid), Some(owner.gid))?;
            }
            return Ok(Box::new(file));
        }
        Err(io::Error::other("another run removes it again and again"))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
}

/// Locks a file that was just made: `false` when another run, which found it before it was locked, has removed it. A
/// reader that found it holds a shared lock as long as it scans it, hence no `try_lock`: there is nothing in it yet.
fn lock(file: &File) -> io::Result<bool> {
    file.lock()?;
    Ok(file.metadata()?.nlink() > 0)
}

/// Opens a file for payloads, empty, that only `owner` (by default who runs this) can read, also when it was there
/// before and others could. Devices and pipes (`/dev/stdout`) are opened as they are.
///
/// # Errors
/// When it cannot be opened, or belongs to somebody who may keep us from making it private.
pub fn create_private(path: &Path, owner: Option<Owner>) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        // Both before there is a byte in it. What is right already is not touched: not every file system has modes.
        if metadata.mode() & 0o777 != 0o600 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        if let Some(Owner { uid, gid }) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
    }
    Ok(file)
}

impl Sink for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_removed_before_it_could_be_locked_is_not_taken_for_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.open");
        let ours = File::create_new(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!lock(&ours).unwrap());
        assert!(lock(&File::create_new(&path).unwrap()).unwrap());
    }

    #[test]
    fn a_file_for_payloads_is_private_also_when_it_was_there_and_open_to_all() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        std::fs::write(&old, "before").unwrap();
        std::fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        let me = std::fs::metadata(folder.path()).unwrap();
        for path in [new, old] {
            let file = create_private(&path, Some(Owner { uid: me.uid(), gid: me.gid() })).unwrap();
            let metadata = file.metadata().unwrap();
            assert_eq!((metadata.mode() & 0o777, metadata.len()), (0o600, 0), "{path:?}");
        }
    }

    #[test]
    fn what_is_no_regular_file_keeps_its_mode_and_its_owner() {
        // A pipe stands for all of them: were this wrong, it would do no harm.
        let (reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
        let facts = || std::fs::metadata(&path).map(|metadata| (metadata.mode(), metadata.uid())).unwrap();
        let before = facts();
        create_private(Path::new(&path), Some(Owner { uid: before.1 + 1, gid: 1 })).unwrap();
        assert_eq!(facts(), before);
        drop(reader);
    }
}
