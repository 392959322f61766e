//! Watched folders (inotify(7)): which were made in them, and which removed.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Read at once; an event with the longest name is 272 bytes.
const BUFFER: usize = 64 * 1024;

/// Watched folders, and what each is to whoever watches.
#[derive(Debug)]
pub(super) struct Watches<K> {
    inotify: OwnedFd,
    limit: usize,
    by_number: HashMap<i32, (PathBuf, K)>,
    by_path: HashMap<PathBuf, i32>,
}

/// What the kernel noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice<K> {
    /// A folder was made in a watched one.
    Made { folder: PathBuf, kind: K, name: String },
    /// One was removed.
    Removed { path: PathBuf },
    /// There was more than the kernel keeps.
    Overflow,
}

impl<K: Clone> Watches<K> {
    pub(super) fn new(limit: usize) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, limit, by_number: HashMap::new(), by_path: HashMap::new() })
    }

    /// Watches a folder, if it is not watched already.
    pub(super) fn add(&mut self, path: &Path, kind: K) -> io::Result<()> {
        if self.by_number.len() >= self.limit && !self.by_path.contains_key(path) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let what = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        // The same folder has the same number, and another one of the same name has not.
        let number = inotify::add_watch(&self.inotify, path, what)?;
        if let Some(old) = self.by_path.insert(path.to_owned(), number)
            && old != number
        {
            self.by_number.remove(&old);
        }
        self.by_number.insert(number, (path.to_owned(), kind));
        Ok(())
    }

    /// What was noticed and not read yet; empty when there is nothing more.
    pub(super) fn read(&mut self) -> Vec<Notice<K>> {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let (mut notices, mut over) = (Vec::new(), Vec::new());
        loop {
            match reader.next() {
                Ok(event) => {
                    let (number, flags) = (event.wd(), event.events());
                    let name = event.file_name().map(CStr::to_string_lossy);
                    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                        notices.push(Notice::Overflow);
                    } else if flags.contains(ReadFlags::IGNORED) {
                        over.push(number);
                    } else if let (Some((folder, kind)), Some(name), true) =
                        (self.by_number.get(&number), name, flags.contains(ReadFlags::ISDIR))
                    {
                        if flags.contains(ReadFlags::CREATE) {
                            let (folder, kind) = (folder.clone(), kind.clone());
                            notices.push(Notice::Made { folder, kind, name: name.into_owned() });
                        } else if flags.contains(ReadFlags::DELETE) {
                            notices.push(Notice::Removed { path: folder.join(&*name) });
                        }
                    }
                }
                Err(Errno::INTR) => {}
                // EAGAIN, or a descriptor that does not work any more: the next look shows what there is.
                Err(_) => break,
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
        over.into_iter().for_each(|number| self.forget(number));
        notices
    }

    /// Ends the watches of all other folders.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Path) -> bool) {
        let ended: Vec<i32> =
            self.by_number.iter().filter(|(_, (path, _))| !keep(path)).map(|(number, _)| *number).collect();
        for number in ended {
            // Fails where the folder is gone, and the watch with it.
            let _gone = inotify::remove_watch(&self.inotify, number);
            self.forget(number);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    fn forget(&mut self, number: i32) {
        if let Some((path, _)) = self.by_number.remove(&number)
            && self.by_path.get(&path) == Some(&number)
        {
            self.by_path.remove(&path);
        }
    }
}

impl<K> AsFd for Watches<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
