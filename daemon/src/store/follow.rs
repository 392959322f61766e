//! Reads what is added to a folder while it is written.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use nodetap_core::exchange::Event;
use nodetap_core::segment::{self, Item, Scanner};

use super::read::{Error, Index, Segment, is_ledger, open, segments};

/// Where each segment was read to.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    /// By the segment's path without extension: sealing changes nothing but that.
    known: HashMap<PathBuf, Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    salt: u32,
    position: u64,
}

impl Follower {
    /// Goes on where an index ended.
    pub fn after(index: &Index, folder: &Path) -> Self {
        let known = index.segments.iter().map(|Segment { path, salt, position }| {
            (path.with_extension(""), Place { salt: *salt, position: *position })
        });
        Self { folder: folder.to_owned(), known: known.collect() }
    }

    /// What was added since the last call, in time order; losses are not followed.
    pub fn poll(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        for path in segments(&self.folder)?.into_iter().filter(|path| !is_ledger(path)) {
            let Some(file) = open(&path)? else { continue };
            let length = file.metadata().map_err(|error| Error::Unreadable(path.clone(), error))?.len();
            let place = self.known.get(&path.with_extension("")).copied();
            if place.is_none_or(|place| length > place.position) {
                let place = self.read(file, &path, place, &mut events)?;
                if let Some(place) = place {
                    self.known.insert(path.with_extension(""), place);
                }
            }
        }
        events.sort_by_key(|event| match event {
            Event::Exchange(exchange) => exchange.time,
            Event::Connection(summary) => summary.connection.accepted,
            Event::Message(message) => message.time,
            Event::Loss(loss) => loss.time,
        });
        Ok(events)
    }

    /// Where it ended; `None` when there is no whole header yet.
    fn read(
        &self,
        mut file: File,
        path: &Path,
        place: Option<Place>,
        events: &mut Vec<Event>,
    ) -> Result<Option<Place>, Error> {
        let failed = |error| match error {
            segment::Error::Read(error) => Error::Unreadable(path.to_owned(), error),
            error => Error::NotASegment(path.to_owned(), error),
        };
        let mut scanner = match place {
            Some(Place { salt, position }) => {
                file.seek(SeekFrom::Start(position)).map_err(|error| failed(error.into()))?;
                Scanner::resume(file, salt, position)
            }
            None => Scanner::open(file).map_err(failed)?,
        };
        while let Some(item) = scanner.next_item().map_err(failed)? {
            if let Item::Frame(frame) = item
                && let Ok(Some(event)) = segment::decode(frame.kind, frame.payload)
            {
                events.push(event);
            }
        }
        let place = Place { salt: scanner.salt(), position: scanner.position() };
        Ok((place.position > 0).then_some(place))
    }
}
