//! What the writer needs of a file system, so that a test can hand it a full or failing one. [`Disk`] is the real one:
//! files 0600, locked while they are open, owned by whom it is told.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, chown, fchown};
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
}
