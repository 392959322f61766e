//! Those who want to see what is recorded while it happens (the line on stderr, a file of JSON lines) have a thread
//! each behind a bounded queue: one that is slow or blocked costs what it would have shown, never a record, nor what
//! another one shows. What was not shown is counted, for each by its name.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nodetap_core::exchange::Event;

use super::queue::cost;

/// Batches that wait for one observer, at most.
const BATCHES: usize = 1024;
/// Bytes that wait for one observer, at most.
const BYTES: usize = 32 << 20;
/// How long one that was told to stop may take for the line it is at.
const LAST_LINE: Duration = Duration::from_millis(100);

type Show = Box<dyn FnMut(&Event) -> io::Result<()> + Send>;

/// Sees every record after it was redacted and given to the disk (also when the disk did not take it).
pub struct Observer {
    name: &'static str,
    show: Show,
}

impl Observer {
    /// `show` gives an error when an event could not be shown; the next one is tried all the same.
    pub fn new(name: &'static str, show: impl FnMut(&Event) -> io::Result<()> + Send + 'static) -> Self {
        Self { name, show: Box::new(show) }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.name).finish()
    }
}

/// Records that an observer did not show (they are on disk all the same).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// The observer's name.
    pub observer: &'static str,
    pub records: u64,
    /// The first error, or that it was too slow.
    pub reason: String,
}

#[derive(Default)]
struct Progress {
    bytes: AtomicUsize,
    /// Events that were dealt with, whether they could be shown or not.
    seen: AtomicU64,
    failed: AtomicU64,
    error: OnceLock<String>,
    /// Nobody waits any longer.
    abandoned: AtomicBool,
}

/// The recorder's end of one observer.
struct Watch {
    name: &'static str,
    sender: SyncSender<Arc<Vec<Event>>>,
    done: Receiver<()>,
    progress: Arc<Progress>,
    sent: u64,
    unseen: u64,
}

pub(super) struct Observers(Vec<Watch>);

impl Observers {
    pub(super) fn start(observers: Vec<Observer>) -> io::Result<Self> {
        observers.into_iter().map(Watch::start).collect::<io::Result<_>>().map(Self)
    }

    pub(super) fn show(&mut self, events: Vec<Event>) {
        if self.0.is_empty() {
            return;
        }
        let bytes = events.iter().map(cost).sum();
        let events = Arc::new(events);
        self.0.iter_mut().for_each(|watch| watch.show(Arc::clone(&events), bytes));
    }

    /// Waits until all is shown, for `grace` at most however lively they are. Returns what was not shown.
    pub(super) fn close(self, grace: Duration) -> Vec<Unseen> {
        let deadline = Instant::now() + grace;
        // All of them learn that there is no more before one is waited for.
        let ending: Vec<_> = self.0.into_iter().map(Watch::end).collect();
        ending.into_iter().flat_map(|ending| ending.wait(deadline)).collect()
    }
}

impl Watch {
    fn start(observer: Observer) -> io::Result<Self> {
        let Observer { name, show } = observer;
        let (sender, receiver) = sync_channel(BATCHES);
        let (ended, done) = sync_channel(1);
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        std::thread::Builder::new().name(format!("nodetap-lines-{name}")).spawn(move || {
            show_all(show, &receiver, &shared);
            let _ = ended.send(());
        })?;
        Ok(Self { name, sender, done, progress, sent: 0, unseen: 0 })
    }

    fn show(&mut self, events: Arc<Vec<Event>>, bytes: usize) {
        let count = events.len() as u64;
        let waiting = self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting > 0 && waiting + bytes > BYTES || self.sender.try_send(events).is_err() {
            self.progress.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.unseen += count;
        } else {
            self.sent += count;
        }
    }

    fn end(self) -> Ending {
        let Self { name, sender, done, progress, sent, unseen } = self;
        drop(sender);
        Ending { name, done, progress, sent, unseen }
    }
}

/// An observer that gets no more.
struct Ending {
    name: &'static str,
    done: Receiver<()>,
    progress: Arc<Progress>,
    sent: u64,
    unseen: u64,
}

impl Ending {
    /// At most one for each reason.
    fn wait(self, deadline: Instant) -> Vec<Unseen> {
        let Self { name, done, progress, sent, unseen } = self;
        let left = deadline.saturating_duration_since(Instant::now());
        if done.recv_timeout(left).is_err() {
            progress.abandoned.store(true, Ordering::Relaxed);
            // So that a program that ends does not cut a line in two.
            let _ = done.recv_timeout(LAST_LINE);
        }
        let late = unseen + sent.saturating_sub(progress.seen.load(Ordering::Acquire));
        let failed = progress.failed.load(Ordering::Relaxed);
        let error = progress.error.get().cloned().unwrap_or_default();
        [(late, "it was too slow".to_owned()), (failed, error)]
            .into_iter()
            .filter(|(records, _)| *records > 0)
            .map(|(records, reason)| Unseen { observer: name, records, reason })
            .collect()
    }
}

fn show_all(mut show: impl FnMut(&Event) -> io::Result<()>, receiver: &Receiver<Arc<Vec<Event>>>, progress: &Progress) {
    while let Ok(events) = receiver.recv() {
        for event in events.iter() {
            if progress.abandoned.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = show(event) {
                progress.failed.fetch_add(1, Ordering::Relaxed);
                progress.error.get_or_init(|| error.to_string());
            }
            progress.seen.fetch_add(1, Ordering::Release);
        }
        progress.bytes.fetch_sub(events.iter().map(cost).sum(), Ordering::Relaxed);
    }
}
