//! The recorder: a handle that takes events and never waits, and one plain thread behind it that redacts, encodes and
//! writes them. Under load the thread sleeps between batches instead of being woken for every record.
//!
//! Whatever the disk or an observer does, traffic sees the same: [`Recorder::record`] returns at once. A blocked disk
//! fills the queue, and what no longer fits is counted as `queue_full`.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nodetap_core::exchange::{Event, Loss, Target};
use nodetap_core::redact::redact;

use super::losses::Losses;
use super::medium::{Disk, Medium, Owner};
use super::observe::{Observer, Observers, Unseen};
use super::queue::{Queue, Queued, Shared, Taken, cost, queue};
use super::recover::recover;
use super::writer::{Now, Progress, Writer};

/// Records and bytes of one batch; one record may be larger.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;
/// How long the thread sleeps between batches while there is work. Longer sleeps cost less (each wake-up takes a core from
/// the traffic); the queue holds many times what comes in meanwhile.
const REST: Duration = Duration::from_millis(10);
/// How long it waits for work before it looks at what is due by time.
const IDLE: Duration = Duration::from_secs(1);

/// How a recorder works. `new` gives what `nodetap run` uses.
#[derive(Debug, Clone)]
pub struct Settings {
    pub folder: PathBuf,
    /// Whose losses are counted, unless they are another's ([`Recorder::of`]).
    pub target: Arc<Target>,
    /// A segment is sealed when it has so many bytes.
    pub segment_bytes: u64,
    /// A segment is sealed when it is so old.
    pub segment_age: Option<Duration>,
    /// Bytes of all segments together; the oldest goes first, and is counted as lost.
    pub max_store: u64,
    /// Who owns folders and files that are made (the user who called sudo).
    pub owner: Option<Owner>,
    /// Records that wait to be written, at most.
    pub queue_records: usize,
    /// Bytes that wait to be written, at most.
    pub queue_bytes: usize,
    /// How long `close` waits for a disk that does not move, and then for all observers together.
    pub grace: Duration,
}

impl Settings {
    pub fn new(folder: PathBuf, target: Arc<Target>) -> Self {
        Self {
            folder,
            target,
            segment_bytes: 16 << 20,
            segment_age: None,
            max_store: 1 << 30,
            owner: None,
            queue_records: 8192,
            queue_bytes: 64 << 20,
            grace: Duration::from_secs(2),
        }
    }
}

/// What a recording came to. A record that was written and later made room for others is in both sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub inbound_exchanges: u64,
    pub outbound_exchanges: u64,
    pub inbound_connections: u64,
    pub outbound_connections: u64,
    /// Messages of WebSockets and gRPC calls, and pieces of endless bodies.
    pub messages: u64,
    /// Bytes of segments.
    pub bytes: u64,
    /// One for each target and reason.
    pub lost: Vec<Loss>,
    /// What observers did not show, one for each and reason.
    pub unseen: Vec<Unseen>,
    /// What went wrong beside lost records, in words.
    pub errors: Vec<String>,
}

/// Takes events; clones go to whoever has some.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: Queue,
}

impl Recorder {
    /// Makes the folder and starts the thread.
    pub fn start(settings: Settings, observers: Vec<Observer>) -> io::Result<(Self, Recording)> {
        let disk = Disk { owner: settings.owner };
        disk.create_folder(&settings.folder)?;
        Self::start_on(Box::new(disk), settings, observers)
    }

    /// As `start`, in a folder that exists, on another medium than the file system.
    pub fn start_on(
        medium: Box<dyn Medium>,
        settings: Settings,
        observers: Vec<Observer>,
    ) -> io::Result<(Self, Recording)> {
        let sealed = recover(&settings.folder)?;
        let (queue, receiver) = queue(&settings.target, settings.queue_records, settings.queue_bytes);
        let observers = Observers::start(observers)?;
        let (done, totals) = sync_channel(1);
        let progress = Arc::new(Progress::default());
        let mut thread = Thread {
            writer: Writer::new(&settings, medium, sealed, Arc::clone(&progress), random(), now()),
            receiver,
            shared: Arc::clone(&queue.shared),
            taken: Taken::default(),
            observers,
            progress: Arc::clone(&progress),
            target: Arc::clone(&settings.target),
        };
        std::thread::Builder::new().name("nodetap-record".into()).spawn(move || {
            thread.run();
            let _ = done.send(thread.finish());
        })?;
        let recording = Recording { queue: queue.clone(), totals, progress, settings, started: now().unix };
        Ok((Self { queue }, recording))
    }

    /// The same recorder, for another target: it has a share of the queue, and what is lost of its records is counted as
    /// its own.
    pub fn of(&self, target: Arc<Target>) -> Self {
        Self { queue: self.queue.of(target) }
    }

    /// Takes an event, or counts it as lost: `false`. Never waits.
    pub fn record(&self, event: Event) -> bool {
        self.queue.offer(event)
    }

    /// Counts records that were lost before they could be handed over. Never waits.
    pub fn lost(&self, reason: &'static str, exchanges: u64, bytes: u64) {
        let (time, target) = (now().unix, Arc::clone(&self.queue.account.target));
        self.record(Event::Loss(Loss { time, until: time, target, reason: reason.into(), exchanges, bytes }));
    }
}

/// A recording in progress: whoever holds it ends it.
#[derive(Debug)]
pub struct Recording {
    queue: Queue,
    totals: Receiver<(Totals, Observers)>,
    progress: Arc<Progress>,
    settings: Settings,
    /// Microseconds since 1970.
    started: u64,
}

/// Shows what a recording came to so far, to whoever asks meanwhile.
#[derive(Debug, Clone)]
pub struct SoFar {
    progress: Arc<Progress>,
}

impl SoFar {
    /// As of the last batch that was written.
    pub fn totals(&self) -> Totals {
        self.progress.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Recording {
    /// To ask while it goes on, from elsewhere.
    pub fn so_far(&self) -> SoFar {
        SoFar { progress: Arc::clone(&self.progress) }
    }

    /// Counts what was lost at some time of the recording, whatever is in the queue.
    pub fn lost(&self, reason: &'static str, exchanges: u64) {
        let (time, until, target) = (self.started, now().unix, Arc::clone(&self.settings.target));
        self.queue.shared.tell(Loss { time, until, target, reason: reason.into(), exchanges, bytes: 0 });
    }

    /// Writes what is waiting, seals the segments and says what it came to. Events that come later are lost. If the
    /// disk does not move for [`Settings::grace`], what is waiting is counted as lost (`disk_blocked`).
    pub fn close(self) -> Totals {
        self.queue.close();
        let patience = self.settings.grace + IDLE;
        let state = || (self.progress.events.load(Ordering::Relaxed), self.progress.moves.load(Ordering::Relaxed));
        let mut last = (state(), Instant::now());
        loop {
            match self.totals.recv_timeout(Duration::from_millis(50)) {
                // They are waited for here, when what the disk took is known: a slow one takes nothing from that.
                Ok((totals, observers)) => return Totals { unseen: observers.close(self.settings.grace), ..totals },
                Err(RecvTimeoutError::Disconnected) => return self.abandoned("recorder_died"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let state = state();
            if state != last.0 {
                last = (state, Instant::now());
            } else if last.1.elapsed() >= patience {
                return self.abandoned("disk_blocked");
            }
        }
    }

    fn abandoned(&self, reason: &'static str) -> Totals {
        // What it came to so far and how far that is go together.
        let (mut totals, done) = {
            let totals = self.progress.totals.lock().unwrap_or_else(PoisonError::into_inner);
            (totals.clone(), self.progress.events.load(Ordering::Acquire))
        };
        let waiting = self.queue.shared.accepted.load(Ordering::Acquire).saturating_sub(done);
        let (time, target) = (now().unix, Arc::clone(&self.settings.target));
        let loss = Loss { time, until: time, target, reason: reason.into(), exchanges: waiting, bytes: 0 };
        let mut lost = Losses::default();
        let known = std::mem::take(&mut totals.lost).into_iter();
        known.chain(self.queue.shared.take_losses()).chain([loss]).for_each(|loss| lost.add(loss));
        totals.lost = lost.iter().cloned().collect();
        totals.errors.push(format!("{} did not take the records: {reason}", self.settings.folder.display()));
        totals
    }
}

/// What the recorder's thread owns.
struct Thread {
    writer: Writer,
    receiver: Receiver<Option<Queued>>,
    shared: Arc<Shared>,
    taken: Taken,
    observers: Observers,
    progress: Arc<Progress>,
    target: Arc<Target>,
}

impl Thread {
    fn run(&mut self) {
        let mut batch = Vec::new();
        loop {
            match self.receiver.recv_timeout(IDLE) {
                Ok(Some(queued)) => batch.push(self.taken.add(queued)),
                Ok(None) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // As long as there is work nobody has to wake us.
            while self.gather(&mut batch) {
                self.work(&mut batch);
                if !self.shared.closing.load(Ordering::Acquire) {
                    std::thread::sleep(REST);
                }
            }
            self.writer.tick(now());
            if self.shared.closing.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn gather(&mut self, batch: &mut Vec<Event>) -> bool {
        let mut bytes: usize = batch.iter().map(cost).sum();
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            match self.receiver.try_recv() {
                Ok(Some(queued)) => {
                    let event = self.taken.add(queued);
                    bytes += cost(&event);
                    batch.push(event);
                }
                Ok(None) => {}
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        !batch.is_empty()
    }

    fn work(&mut self, batch: &mut Vec<Event>) {
        let now = now();
        self.shared.release(&mut self.taken);
        batch.iter_mut().for_each(redact);
        self.shared.take_losses().into_iter().for_each(|loss| self.writer.lose(loss));
        self.writer.write(batch, now);
        self.writer.tick(now);
        self.observers.show(std::mem::take(batch));
    }

    fn finish(mut self) -> (Totals, Observers) {
        let mut batch = Vec::new();
        while self.gather(&mut batch) {
            self.work(&mut batch);
        }
        let Self { mut writer, receiver, shared, observers, progress, target, .. } = self;
        // Whatever slipped in behind the last look is in nobody's hands once the queue is gone.
        drop(receiver);
        let late = shared.accepted.load(Ordering::Acquire).saturating_sub(progress.events.load(Ordering::Acquire));
        let (Now { unix, .. }, reason) = (now(), "closed".into());
        writer.lose(Loss { time: unix, until: unix, target, reason, exchanges: late, bytes: 0 });
        shared.take_losses().into_iter().for_each(|loss| writer.lose(loss));
        writer.close(now());
        (std::mem::take(&mut writer.totals), observers)
    }
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    Now { instant: Instant::now(), unix: u64::try_from(unix).unwrap_or(u64::MAX) }
}

/// The standard library's only random source: the keys of its hash maps.
fn random() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let word = || u128::from(RandomState::new().hash_one(now().unix));
    word() << 64 | word()
}
