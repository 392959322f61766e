//! Finds a folder's state at the start: what a dead writer left open is cut behind its last whole record and sealed.
//! Files of a living writer are left alone.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nodetap_core::segment::{DamageKind, Item, Scanner, key};

use super::{OPEN, SEALED};

/// A sealed segment as the writer's cap sees it.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// `None`: sealed by an earlier run, counted when it is needed.
    pub(super) contents: Option<Contents>,
}

/// What lies in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) records: u64,
    pub(super) time: u64,
    pub(super) until: u64,
}

impl Default for Contents {
    fn default() -> Self {
        Self { records: 0, time: u64::MAX, until: 0 }
    }
}

impl Contents {
    pub(super) fn add(&mut self, time: u64, until: u64) {
        self.records += 1;
        self.time = self.time.min(time);
        self.until = self.until.max(until);
    }
}

/// Seals what dead writers left, then lists the sealed segments, oldest first.
pub(super) fn recover(folder: &Path) -> io::Result<VecDeque<Sealed>> {
    let mut sealed = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let path = match path.extension().and_then(|extension| extension.to_str()) {
            Some(OPEN) => match seal(&path) {
                Ok(Some(path)) => path,
                // Gone, alive, or not ours to judge: `ls` will say what is wrong with it.
                Ok(None) | Err(_) => continue,
            },
            Some(SEALED) => path,
            _ => continue,
        };
        let bytes = std::fs::metadata(&path)?.len();
        sealed.push(Sealed { path, bytes, contents: None });
    }
    sealed.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sealed.into())
}

/// Where it lies now, `None` when its writer lives or nothing was in it.
fn seal(path: &Path) -> io::Result<Option<PathBuf>> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.try_lock().is_err() {
        return Ok(None);
    }
    let mut scanner = Scanner::open(&file).map_err(io::Error::other)?;
    let (mut records, mut end) = (0u64, None);
    while let Some(item) = scanner.next_item().map_err(io::Error::other)? {
        match item {
            Item::Frame(_) => records += 1,
            Item::Damage(damage) => end = Some(damage),
        }
    }
    if records == 0 {
        std::fs::remove_file(path)?;
        return Ok(None);
    }
    // What is damaged but may be more than a torn tail is kept for whoever wants to look at it.
    if let Some(damage) = end
        && matches!(damage.kind, DamageKind::TornTail | DamageKind::ZeroTail)
    {
        file.set_len(damage.offset)?;
    }
    let to = path.with_extension(SEALED);
    std::fs::rename(path, &to)?;
    Ok(Some(to))
}

/// Counts what lies in a segment; what cannot be read does not count.
pub(super) fn contents(path: &Path) -> Contents {
    let mut contents = Contents::default();
    let Ok(mut scanner) = File::open(path).map_err(Into::into).and_then(Scanner::open) else { return contents };
    while let Ok(Some(item)) = scanner.next_item() {
        if let Item::Frame(frame) = item
            && let Ok(Some(key)) = key(frame.kind, frame.payload)
        {
            contents.add(key.time, key.time);
        }
    }
    contents
}
