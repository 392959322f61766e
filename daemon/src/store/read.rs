//! Reads a folder of segments in time order. All frames are looked at once for their key; what is kept of each is a
//! few words, and the record itself is read again when its turn comes: memory grows with the number of records, not
//! with their size. Segments of a writer that still lives are read as far as they are whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nodetap_core::exchange::{Event, UnixMicros};
use nodetap_core::segment::{self, Damage, DamageKind, FRAME, Item, Key, Scanner, What};
use nodetap_core::ulid::Ulid;

use super::{LEDGER, OPEN, SEALED};

/// Segments that are kept open between two reads; more are opened anew.
const OPEN_FILES: usize = 128;
/// A file may be younger than its last record by this much: clocks are set.
const LATE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} cannot be read: {1}; name another folder with --from DIR, or run as the user who recorded it")]
    Unreadable(PathBuf, io::Error),
    #[error("{0} cannot be read: {1}")]
    NotASegment(PathBuf, segment::Error),
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    offset: u64,
    segment: u32,
    bytes: u32,
}

/// What kind of record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Exchange,
    Connection,
    Message,
    Loss,
}

/// A record's key and place: 48 bytes each. They sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    time: u64,
    id: Halves,
    kind: Kind,
    place: Place,
}

impl Entry {
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn time(&self) -> UnixMicros {
        self.time
    }

    /// `None`: a loss.
    pub fn id(&self) -> Option<Ulid> {
        (self.kind != Kind::Loss).then(|| self.id.into())
    }
}

impl From<Entry> for Place {
    fn from(entry: Entry) -> Self {
        entry.place
    }
}

/// An id in a form that is aligned to eight bytes; it sorts as the id does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Halves([u64; 2]);

impl From<Ulid> for Halves {
    fn from(id: Ulid) -> Self {
        let id = u128::from(id);
        #[allow(clippy::cast_possible_truncation, reason = "the value is cut into its two halves")]
        Self([(id >> 64) as u64, id as u64])
    }
}

impl From<Halves> for Ulid {
    fn from(halves: Halves) -> Self {
        let [upper, lower] = halves.0.map(u128::from);
        Self::from(upper << 64 | lower)
    }
}

/// A message as a part of its exchange: 40 bytes each. They sort by exchange, and by their order in there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    exchange: Halves,
    seq: u64,
    place: Place,
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
    parts: Vec<Part>,
    /// The exchanges that have messages, by id.
    whole: Vec<(Halves, Place)>,
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

/// A sealed segment that was written to its end before `since`, and so are its records; nothing is read of it.
fn passed_over(path: &Path, since: UnixMicros) -> Option<Segment> {
    let metadata = std::fs::metadata(path).ok().filter(|_| path.extension().is_some_and(|last| last == SEALED))?;
    let written = metadata.modified().ok()?;
    let since = UNIX_EPOCH.checked_add(Duration::from_micros(since))?;
    let old = written.checked_add(LATE).is_some_and(|written: SystemTime| written < since);
    // Nobody resumes in a sealed segment: where it ends is all that has to be known.
    old.then(|| Segment { path: path.to_owned(), salt: 0, position: metadata.len() })
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
        Self::read_since(folder, None)
    }

    /// The same, but for whole segments of which every record is older.
    pub fn read_since(folder: &Path, since: Option<UnixMicros>) -> Result<Self, Error> {
        let mut index = Self {
            entries: Vec::new(),
            warnings: Vec::new(),
            segments: Vec::new(),
            parts: Vec::new(),
            whole: Vec::new(),
            files: Vec::new(),
        };
        for path in segments(folder)? {
            match since.map(|since| passed_over(&path, since)) {
                Some(Some(segment)) => index.segments.push(segment),
                _ => index.add(path)?,
            }
        }
        index.entries.sort_unstable();
        index.parts.sort_unstable();
        let has_messages = |entry: &&Entry| {
            entry.kind == Kind::Exchange && index.parts.binary_search_by_key(&entry.id, |part| part.exchange).is_ok()
        };
        let whole = index.entries.iter().filter(has_messages).map(|entry| (entry.id, entry.place));
        index.whole = whole.collect();
        index.whole.sort_unstable();
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
                        self.note(key, Place { offset: frame.offset, segment: number, bytes });
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

    fn note(&mut self, key: Key, place: Place) {
        let (kind, id) = match key.what {
            What::Loss => (Kind::Loss, Ulid::from(0)),
            What::Exchange(id) => (Kind::Exchange, id),
            What::Connection(id) => (Kind::Connection, id),
            What::Message { id, exchange, seq } => {
                self.parts.push(Part { exchange: exchange.into(), seq, place });
                (Kind::Message, id)
            }
        };
        self.entries.push(Entry { time: key.time, id: id.into(), kind, place });
    }

    /// The messages of an exchange, in order, whether it was written already or not.
    pub fn messages_of(&self, exchange: Ulid) -> Vec<Place> {
        let exchange = Halves::from(exchange);
        let start = self.parts.partition_point(|part| part.exchange < exchange);
        let of_it = self.parts.iter().skip(start).take_while(|part| part.exchange == exchange);
        of_it.map(|part| part.place).collect()
    }

    /// An exchange that has messages; `None`: it has none, or is not written yet.
    pub fn exchange(&self, id: Ulid) -> Option<Place> {
        let at = self.whole.binary_search_by_key(&Halves::from(id), |(id, _)| *id).ok()?;
        self.whole.get(at).map(|(_, place)| *place)
    }

    /// The exchanges of which only messages are written so far, and whose id fits `text` as in [`Index::find`].
    pub fn find_open(&self, text: &str) -> Vec<Ulid> {
        let mut open: Vec<Halves> = self.parts.iter().map(|part| part.exchange).collect();
        open.dedup();
        open.retain(|id| self.whole.binary_search_by_key(id, |(id, _)| *id).is_err());
        fitting(text, open.into_iter().map(|id| (id.into(), id.into())))
    }

    /// Reads a record. `None`: its segment is gone since, or it cannot be decoded: then there is one warning more.
    pub fn event(&mut self, place: impl Into<Place>) -> Result<Option<Event>, Error> {
        let entry = place.into();
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
        match segment::decode(kind, frame.get(FRAME..).unwrap_or_default()) {
            Ok(event) => Ok(event),
            Err(error) => {
                let path = self.segments.get(entry.segment as usize).map(|segment| segment.path.clone());
                let damage = format!("the record at offset {} cannot be decoded: {error}", entry.offset);
                self.warnings.push(Warning { path: path.unwrap_or_default(), damage });
                Ok(None)
            }
        }
    }

    /// The records whose id is `text`, begins with it or, when none does, ends with it (tables show ends).
    pub fn find(&self, text: &str) -> Vec<Entry> {
        fitting(text, self.entries.iter().filter_map(|entry| Some((entry.id()?, *entry))))
    }

    /// How many of their last characters tell the ids of this folder apart; 6 at least.
    pub fn id_width(&self) -> usize {
        // A character is five bits, and in this order those that end alike are neighbours.
        let written = self.entries.iter().filter_map(Entry::id);
        let open = self.parts.iter().map(|part| part.exchange.into());
        let mut ids: Vec<u128> = written.chain(open).map(u128::from).collect();
        ids.sort_unstable_by_key(|id| id.reverse_bits());
        ids.dedup();
        let alike = ids.windows(2).filter_map(|pair| match pair {
            [a, b] => Some((a ^ b).trailing_zeros() as usize / 5 + 1),
            _ => None,
        });
        alike.max().unwrap_or(0).max(6)
    }
}

/// What belongs to the ids that begin with `text`; if there are none, to those that end with it.
fn fitting<T>(text: &str, all: impl Iterator<Item = (Ulid, T)>) -> Vec<T> {
    let text = text.to_ascii_uppercase();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (id, one) in all {
        let id = id.to_string();
        if id.starts_with(&text) {
            first.push(one);
        } else if id.ends_with(&text) {
            last.push(one);
        }
    }
    if first.is_empty() { last } else { first }
}
