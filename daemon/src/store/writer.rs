//! Writes batches of events into segments, within the store's cap, whatever the disk says. It has no thread and no
//! clock: it is told when things happen. What it cannot write it counts.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nodetap_core::exchange::{Direction, Event, Loss, Target};
use nodetap_core::segment;
use nodetap_core::ulid::UlidSource;

use super::ledger::Ledger;
use super::losses::{Losses, loss_of, span};
use super::medium::{Medium, Sink, write_all_at};
use super::recorder::{Settings, Totals};
use super::recover::{Contents, Sealed, contents};
use super::{LEDGER, OPEN, SEALED};

/// Encoded bytes that are gathered before they are written, and what is handed to the disk at once.
const CHUNK: usize = 256 << 10;
/// After a failure of the disk it is left in peace for so long.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often changed losses are written down.
const LEDGER_EVERY: Duration = Duration::from_secs(1);

/// The moment something happens, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    /// Microseconds since 1970.
    pub(super) unix: u64,
}

/// How far a writer is, for whoever waits for it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Events that were dealt with.
    pub(super) events: AtomicU64,
    /// Times that the disk has taken something: it moves, however slowly.
    pub(super) moves: AtomicU64,
    /// What it came to with these events.
    pub(super) totals: Mutex<Totals>,
}

struct Current {
    sink: Box<dyn Sink>,
    path: PathBuf,
    length: u64,
    opened: Instant,
    contents: Contents,
    /// Its end is not where it should be: nothing more is added to it.
    broken: bool,
}

/// Encoded, not yet written.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    records: Vec<Encoded>,
}

#[derive(Clone, Copy)]
struct Encoded {
    /// Where it ends in the chunk.
    end: usize,
    /// Its place in the batch.
    event: usize,
}

impl Chunk {
    /// Where the first `records` of it end.
    fn end_of(&self, records: usize) -> usize {
        records.checked_sub(1).and_then(|last| self.records.get(last)).map_or(0, |record| record.end)
    }
}

pub(super) struct Writer {
    medium: Box<dyn Medium>,
    folder: PathBuf,
    segment_bytes: u64,
    segment_age: Option<Duration>,
    max_store: u64,
    target: Arc<Target>,
    salt: u32,
    names: UlidSource,
    current: Option<Current>,
    sealed: VecDeque<Sealed>,
    sealed_bytes: u64,
    chunk: Chunk,
    pub(super) losses: Losses,
    losses_changed: bool,
    ledger: Option<Ledger>,
    ledger_written: Option<Instant>,
    blocked_until: Option<(Instant, &'static str)>,
    pub(super) totals: Totals,
    progress: Arc<Progress>,
}

impl Writer {
    /// `random` seeds names and the segments' salt.
    pub(super) fn new(
        settings: &Settings,
        medium: Box<dyn Medium>,
        sealed: VecDeque<Sealed>,
        progress: Arc<Progress>,
        random: u128,
        now: Now,
    ) -> Self {
        let mut writer = Self {
            medium,
            folder: settings.folder.clone(),
            segment_bytes: settings.segment_bytes.min(settings.max_store / 8).max(1),
            segment_age: settings.segment_age,
            max_store: settings.max_store,
            target: Arc::clone(&settings.target),
            salt: (random >> 96) as u32,
            names: UlidSource::new(random),
            current: None,
            sealed_bytes: sealed.iter().map(|segment| segment.bytes).sum(),
            sealed: sealed.into_iter().filter(|segment| !is_ledger(&segment.path)).collect(),
            chunk: Chunk::default(),
            losses: Losses::default(),
            losses_changed: false,
            ledger: None,
            ledger_written: None,
            blocked_until: None,
            totals: Totals::default(),
            progress,
        };
        writer.open_ledger(now);
        writer
    }

    pub(super) fn lose(&mut self, loss: Loss) {
        self.losses_changed |= loss.exchanges > 0 || loss.is_of_time();
        self.losses.add(loss);
    }

    /// Writes what can be written; the rest is counted.
    pub(super) fn write(&mut self, events: &[Event], now: Now) {
        // What was lost before is known also when the disk hangs from now on.
        self.tell(0);
        let mut told = 0;
        for (number, event) in events.iter().enumerate() {
            self.encode(event, number);
            if self.chunk.bytes.len() as u64 >= self.segment_bytes.min(CHUNK as u64) {
                self.flush(events, now);
                self.turn_over(now);
                self.tell(number + 1 - told);
                told = number + 1;
            }
        }
        self.flush(events, now);
        self.turn_over(now);
        self.tell(events.len() - told);
    }

    /// So many more events are dealt with.
    fn tell(&mut self, events: usize) {
        let mut totals = self.progress.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.clone_from(&self.totals);
        totals.lost = self.losses.iter().cloned().collect();
        self.progress.events.fetch_add(events as u64, Ordering::Release);
    }

    /// What is due by time alone.
    pub(super) fn tick(&mut self, now: Now) {
        self.turn_over(now);
        let due = self.ledger_written.is_none_or(|at| now.instant.duration_since(at) >= LEDGER_EVERY);
        if self.losses_changed && due {
            self.write_ledger(now);
        }
    }

    /// Seals everything.
    pub(super) fn close(&mut self, now: Now) {
        self.tell(0);
        self.seal();
        if self.losses_changed {
            self.write_ledger(now);
        }
        if let Some(ledger) = self.ledger.take()
            && let Err(error) = ledger.close(&mut *self.medium)
        {
            self.totals.errors.push(format!("the ledger of losses: {error}"));
        }
        self.totals.lost = self.losses.iter().cloned().collect();
    }

    fn encode(&mut self, event: &Event, number: usize) {
        if let Event::Loss(loss) = event {
            return self.lose(loss.clone());
        }
        match segment::encode(event, self.salt, &mut self.chunk.bytes) {
            Ok(()) => self.chunk.records.push(Encoded { end: self.chunk.bytes.len(), event: number }),
            Err(_) => self.lose(loss_of(event, "too_large")),
        }
    }

    fn flush(&mut self, events: &[Event], now: Now) {
        if self.chunk.records.is_empty() {
            return;
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        if let Err((written, reason)) = self.put(&chunk, events, now) {
            if reason != "store_full" {
                self.blocked_until.get_or_insert((now.instant + BACK_OFF, reason));
            }
            for event in chunk.records.iter().skip(written).filter_map(|record| events.get(record.event)) {
                self.lose(loss_of(event, reason));
            }
        }
        // The buffer is kept for the next time, unless a large record has blown it up.
        chunk.records.clear();
        chunk.bytes.clear();
        chunk.bytes.shrink_to(2 * CHUNK);
        self.chunk = chunk;
    }

    /// On an error: how many records were written all the same, and the reason for the rest.
    fn put(&mut self, chunk: &Chunk, events: &[Event], now: Now) -> Result<(), (usize, &'static str)> {
        if let Some((until, reason)) = self.blocked_until {
            if now.instant < until {
                return Err((0, reason));
            }
            self.blocked_until = None;
        }
        if !self.reserve(chunk.bytes.len() as u64) {
            return Err((0, "store_full"));
        }
        let mut records = 0;
        let mut retried = false;
        loop {
            let start = chunk.end_of(records);
            let rest = chunk.bytes.get(start..).unwrap_or_default();
            let (written, error) = match self.append(rest, now) {
                Ok(()) => (rest.len(), None),
                Err((written, error)) => (written, Some(error)),
            };
            let whole = chunk.records.iter().skip(records).take_while(|record| record.end <= start + written);
            for event in whole.filter_map(|record| events.get(record.event)) {
                self.count(event);
                records += 1;
            }
            let kept = chunk.end_of(records) - start;
            self.settle(kept as u64, written > kept);
            let Some(error) = error else { return Ok(()) };
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if !full || retried || !self.free((rest.len() - kept) as u64) {
                return Err((records, if full { "disk_full" } else { "write_error" }));
            }
            retried = true;
        }
    }

    /// A record that was written.
    fn count(&mut self, event: &Event) {
        let (time, until) = span(event);
        if let Some(current) = &mut self.current {
            current.contents.add(time, until);
        }
        let totals = &mut self.totals;
        let counter = match event {
            Event::Exchange(exchange) => match exchange.connection.direction {
                Direction::Inbound => &mut totals.inbound_exchanges,
                Direction::Outbound => &mut totals.outbound_exchanges,
            },
            Event::Connection(summary) => match summary.connection.direction {
                Direction::Inbound => &mut totals.inbound_connections,
                Direction::Outbound => &mut totals.outbound_connections,
            },
            Event::Message(_) => &mut totals.messages,
            Event::Loss(_) => return,
        };
        *counter += 1;
    }

    /// Appends to the current segment, opening one if need be; on an error: how many bytes were written.
    fn append(&mut self, bytes: &[u8], now: Now) -> Result<(), (usize, io::Error)> {
        if self.current.as_ref().is_some_and(|current| current.broken) {
            self.seal();
        }
        if self.current.is_none() {
            self.current = Some(self.open(now).map_err(|error| (0, error))?);
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        let mut written = 0;
        for piece in bytes.chunks(CHUNK) {
            write_all_at(&mut *current.sink, piece, current.length + written as u64)
                .map_err(|(count, error)| (written + count, error))?;
            written += piece.len();
            self.progress.moves.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes `bytes` of whole records into the current segment; if it is `torn`, what follows them is cut off.
    fn settle(&mut self, bytes: u64, torn: bool) {
        let Some(current) = &mut self.current else { return };
        current.length += bytes;
        self.totals.bytes += bytes;
        current.broken = torn && current.sink.cut(current.length).is_err();
    }

    fn open(&mut self, now: Now) -> io::Result<Current> {
        let path = self.folder.join(format!("{}.{OPEN}", self.names.next(now.unix)));
        let mut sink = self.medium.create(&path)?;
        let header = segment::header(now.unix, self.salt);
        if let Err((_, error)) = write_all_at(&mut *sink, &header, 0) {
            self.medium.remove(&path)?;
            return Err(error);
        }
        let length = header.len() as u64;
        Ok(Current { sink, path, length, opened: now.instant, contents: Contents::default(), broken: false })
    }

    /// Makes room under the store's cap, oldest segments first.
    fn reserve(&mut self, bytes: u64) -> bool {
        loop {
            let current = self.current.as_ref().map_or(0, |current| current.length);
            if self.sealed_bytes + current + bytes + segment::HEADER as u64 <= self.max_store {
                return true;
            }
            if self.sealed.is_empty() {
                if self.current.is_none() {
                    return false;
                }
                self.seal();
            }
            if self.drop_oldest("store_full").is_none() {
                return false;
            }
        }
    }

    /// Makes room on the disk; whether as much as asked for was found.
    fn free(&mut self, bytes: u64) -> bool {
        let mut freed = 0;
        while freed < bytes {
            match self.drop_oldest("disk_full") {
                Some(more) => freed += more,
                None => return false,
            }
        }
        true
    }

    fn drop_oldest(&mut self, reason: &'static str) -> Option<u64> {
        let oldest = self.sealed.pop_front()?;
        self.sealed_bytes = self.sealed_bytes.saturating_sub(oldest.bytes);
        let Contents { records, time, until } = oldest.contents.unwrap_or_else(|| contents(&oldest.path));
        match self.medium.remove(&oldest.path) {
            Ok(()) => {
                let (target, bytes) = (Arc::clone(&self.target), oldest.bytes);
                self.lose(Loss { time, until, target, reason: reason.into(), exchanges: records, bytes });
                Some(oldest.bytes)
            }
            // Somebody else took it away: nothing is freed by us, and nothing lost by us.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(0),
            Err(error) => {
                self.totals.errors.push(format!("{} cannot be removed: {error}", oldest.path.display()));
                Some(0)
            }
        }
    }

    fn turn_over(&mut self, now: Now) {
        let due = self.current.as_ref().is_some_and(|current| {
            let old = self.segment_age.is_some_and(|age| now.instant.duration_since(current.opened) >= age);
            current.length >= self.segment_bytes || old || current.broken
        });
        if due {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let Some(current) = self.current.take() else { return };
        if current.contents.records == 0 {
            // Nothing is in it; if it cannot be removed now, the next start will.
            let _ = self.medium.remove(&current.path);
            return;
        }
        let mut path = current.path.with_extension(SEALED);
        if let Err(error) = self.medium.rename(&current.path, &path) {
            self.totals.errors.push(format!("{} cannot be sealed: {error}", current.path.display()));
            path = current.path;
        }
        self.sealed_bytes += current.length;
        self.sealed.push_back(Sealed { path, bytes: current.length, contents: Some(current.contents) });
    }

    fn open_ledger(&mut self, now: Now) {
        let name = self.names.next(now.unix).to_string();
        self.ledger = Ledger::create(&mut *self.medium, &self.folder, &name, now.unix, self.salt).ok();
    }

    fn write_ledger(&mut self, now: Now) {
        if self.ledger.is_none() {
            self.open_ledger(now);
        }
        self.ledger_written = Some(now.instant);
        if let Some(ledger) = &mut self.ledger {
            self.losses_changed = ledger.write(&self.losses).is_err();
        }
    }
}

fn is_ledger(path: &Path) -> bool {
    path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.ends_with(LEDGER))
}
