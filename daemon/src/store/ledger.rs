//! The losses of a run, in a file of their own whose space is set aside at the start: so that they can be written down
//! when the disk is full. It is rewritten in place whenever the counts have changed.

use std::io;
use std::path::{Path, PathBuf};

use nodetap_core::exchange::Event;
use nodetap_core::segment;

use super::losses::Losses;
use super::medium::{Medium, Sink, write_all_at};
use super::{LEDGER, OPEN, SEALED};

/// Space set aside, in bytes.
const RESERVED: usize = 8 << 10;

pub(super) struct Ledger {
    sink: Box<dyn Sink>,
    path: PathBuf,
    header: Vec<u8>,
    salt: u32,
    written: u64,
}

impl Ledger {
    pub(super) fn create(
        medium: &mut dyn Medium,
        folder: &Path,
        name: &str,
        created: u64,
        salt: u32,
    ) -> io::Result<Self> {
        let path = folder.join(format!("{name}{LEDGER}.{OPEN}"));
        let mut sink = medium.create(&path)?;
        let header = segment::header(created, salt).to_vec();
        let mut reserved = header.clone();
        reserved.resize(RESERVED, 0);
        if let Err((_, error)) = write_all_at(&mut *sink, &reserved, 0) {
            medium.remove(&path)?;
            return Err(error);
        }
        Ok(Self { sink, path, header, salt, written: 0 })
    }

    pub(super) fn write(&mut self, losses: &Losses) -> io::Result<()> {
        let mut bytes = self.header.clone();
        for loss in losses.iter() {
            segment::encode(&Event::Loss(loss.clone()), self.salt, &mut bytes).map_err(io::Error::other)?;
        }
        write_all_at(&mut *self.sink, &bytes, 0).map_err(|(_, error)| error)?;
        self.written = bytes.len() as u64;
        Ok(())
    }

    /// Seals it; a ledger without losses goes.
    pub(super) fn close(mut self, medium: &mut dyn Medium) -> io::Result<()> {
        if self.written <= self.header.len() as u64 {
            return medium.remove(&self.path);
        }
        self.sink.cut(self.written)?;
        medium.rename(&self.path, &self.path.with_extension(SEALED))
    }
}
