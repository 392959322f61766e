//! Reads a folder of segments in time order. All frames are looked at once for their key; what is kept of each is a
//! few words, and the record itself is read again when its turn comes: memory grows with the number of records, not
//! with their size. Segments of a writer that still lives are read as far as they are whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nodetap_core::exchange::Event;
use nodetap_core::segment::{self, Damage, DamageKind, FRAME, Item, Key, Scanner};
use nodetap_core::ulid::Ulid;

use super::{LEDGER, OPEN, SEALED};

/// Segments that are kept open between two reads; more are opened anew.
const OPEN_FILES: usize = 128;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} cannot be read: {1}; name another folder with --from DIR, or run as the user who recorded it")]
    Unreadable(PathBuf, io::Error),
    #[error("{0} cannot be read: {1}")]
    NotASegment(PathBuf, segment::Error),
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub key: Key,
    segment: u32,
    offset: u64,
    bytes: u32,
}

/// Something in a segment that could not be read.
#[derive(Debug, Clone)]
pub struct Warning {
    pub path: PathBuf,
    pub damage: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.damage)
    }
}

/// One segment as far as it was read.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its name without extension: it stays when the segment is sealed.
    pub(super) path: PathBuf,
    pub(super) salt: u32,
    /// Behind its last whole record.
    pub(super) position: u64,
}

/// All records of a folder, in time order.
#[derive(Debug)]
pub struct Index {
    pub entries: Vec<Entry>,
    pub warnings: Vec<Warning>,
    pub(super) segments: Vec<Segment>,
    files: Vec<(u32, File)>,
}

/// The segments of a folder, by name. A path that is a file is the only segment.
pub(super) fn segments(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |error| Error::Unreadable(folder.to_owned(), error);
    if std::fs::metadata(folder).map_err(unreadable)?.is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == OPEN || extension == SEALED) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Opens a segment; when it was sealed since it was listed, under its new name. `None`: it made room for others.
pub(super) fn open(path: &Path) -> Result<Option<File>, Error> {
    for path in [path, &path.with_extension(SEALED)] {
        match File::open(path) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::Unreadable(path.to_owned(), error)),
        }
    }
    Ok(None)
}

/// Whether somebody is writing it: writers hold a lock.
fn is_live(file: &File, path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == OPEN) && file.try_lock_shared().is_err()
}

pub(super) fn is_ledger(path: &Path) -> bool {
    path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.ends_with(LEDGER))
}

impl Index {
    /// Looks at every record of a folder (or of one segment).
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let mut index = Self { entries: Vec::new(), warnings: Vec::new(), segments: Vec::new(), files: Vec::new() };
        for path in segments(folder)? {
            index.add(path)?;
        }
        index.entries.sort_unstable();
        Ok(index)
    }

    fn add(&mut self, path: PathBuf) -> Result<(), Error> {
        let Some(file) = open(&path)? else { return Ok(()) };
        let live = is_live(&file, &path);
        let number = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        let failed = |error| match error {
            segment::Error::Read(error) => Error::Unreadable(path.clone(), error),
            error => Error::NotASegment(path.clone(), error),
        };
        let mut scanner = Scanner::open(&file).map_err(failed)?;
        while let Some(item) = scanner.next_item().map_err(failed)? {
            let warning = match item {
                Item::Frame(frame) => match segment::key(frame.kind, frame.payload) {
                    Ok(Some(key)) => {
                        let bytes = u32::try_from(frame.bytes).unwrap_or(u32::MAX);
                        self.entries.push(Entry { key, segment: number, offset: frame.offset, bytes });
                        continue;
                    }
                    // A kind from the future.
                    Ok(None) => continue,
                    Err(error) => format!("the record at offset {} cannot be decoded: {error}", frame.offset),
                },
                Item::Damage(Damage { kind: DamageKind::TornTail | DamageKind::ZeroTail, .. }) if live => continue,
                // A ledger is rewritten in place: what is half written now will be whole the next time.
                Item::Damage(_) if live && is_ledger(&path) => continue,
                // Space that was set aside for losses and not needed.
                Item::Damage(Damage { kind: DamageKind::ZeroTail, .. }) if is_ledger(&path) => continue,
                Item::Damage(damage) => damage.to_string(),
            };
            self.warnings.push(Warning { path: path.clone(), damage: warning });
        }
        self.segments.push(Segment { salt: scanner.salt(), position: scanner.position(), path });
        Ok(())
    }

    /// Reads a record. `None`: its segment is gone since, or it is a kind that is not known.
    pub fn event(&mut self, entry: Entry) -> Result<Option<Event>, Error> {
        let place = match self.files.iter().position(|(segment, _)| *segment == entry.segment) {
            Some(place) => place,
            None => {
                let segment = self.segments.get(entry.segment as usize);
                let Some(file) = segment.map(|segment| open(&segment.path)).transpose()?.flatten() else {
                    return Ok(None);
                };
                if self.files.len() >= OPEN_FILES {
                    self.files.remove(0);
                }
                self.files.push((entry.segment, file));
                self.files.len() - 1
            }
        };
        let Some((_, file)) = self.files.get(place) else { return Ok(None) };
        let mut frame = vec![0; entry.bytes as usize];
        if file.read_exact_at(&mut frame, entry.offset).is_err() {
            return Ok(None);
        }
        let kind = frame.get(FRAME - 1).copied().unwrap_or_default();
        let decoded = segment::decode(kind, frame.get(FRAME..).unwrap_or_default());
        Ok(decoded.ok().flatten())
    }

    /// The records whose id is `text`, begins with it or, when none does, ends with it (tables show ends).
    pub fn find(&self, text: &str) -> Vec<Entry> {
        let text = text.to_ascii_uppercase();
        let matching = |test: &dyn Fn(&str) -> bool| -> Vec<Entry> {
            let wanted = |entry: &&Entry| entry.key.id.is_some_and(|id| test(&id.to_string()));
            self.entries.iter().filter(wanted).copied().collect()
        };
        let first = matching(&|id| id.starts_with(&text));
        if first.is_empty() { matching(&|id| id.ends_with(&text)) } else { first }
    }

    /// How many of their last characters tell the ids of this folder apart; 6 at least.
    pub fn id_width(&self) -> usize {
        let mut reversed: Vec<[u8; Ulid::LENGTH]> = (self.entries.iter().filter_map(|entry| entry.key.id))
            .filter_map(|id| {
                let mut text: [u8; Ulid::LENGTH] = id.to_string().into_bytes().try_into().ok()?;
                text.reverse();
                Some(text)
            })
            .collect();
        reversed.sort_unstable();
        reversed.dedup();
        let common = reversed.windows(2).filter_map(|pair| match pair {
            [a, b] => Some(a.iter().zip(b).take_while(|(a, b)| a == b).count() + 1),
            _ => None,
        });
        common.max().unwrap_or(0).max(6)
    }
}
