//! Those who want to see what is recorded while it happens (the line on stderr, a file of JSON lines) have a thread of
//! their own behind a bounded queue: one that is blocked costs what it would have shown, never a record. What was not
//! shown is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use nodetap_core::exchange::Event;

use super::queue::cost;

/// Batches that wait to be shown, at most.
const BATCHES: usize = 1024;
/// Bytes that wait to be shown, at most.
const BYTES: usize = 32 << 20;

/// Sees every record after it was redacted and given to the disk (also when the disk did not take it).
pub trait Observer: Send {
    fn observe(&mut self, event: &Event);

    /// Nothing more is waiting: the moment to flush.
    fn pause(&mut self) {}
}

impl<F: FnMut(&Event) + Send> Observer for F {
    fn observe(&mut self, event: &Event) {
        self(event);
    }
}

#[derive(Default)]
struct Progress {
    bytes: AtomicUsize,
    seen: AtomicU64,
}

pub(super) struct Observers {
    sender: SyncSender<Vec<Event>>,
    done: Receiver<()>,
    progress: Arc<Progress>,
    sent: u64,
    unseen: u64,
}

impl Observers {
    pub(super) fn start(observers: Vec<Box<dyn Observer>>) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(BATCHES);
        let (ended, done) = sync_channel(1);
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        std::thread::Builder::new().name("nodetap-observe".into()).spawn(move || {
            show(observers, &receiver, &shared);
            let _ = ended.send(());
        })?;
        Ok(Self { sender, done, progress, sent: 0, unseen: 0 })
    }

    pub(super) fn show(&mut self, events: Vec<Event>) {
        let (count, bytes) = (events.len() as u64, events.iter().map(cost).sum::<usize>());
        let waiting = self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting > 0 && waiting + bytes > BYTES || self.sender.try_send(events).is_err() {
            self.progress.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.unseen += count;
        } else {
            self.sent += count;
        }
    }

    /// Waits until all is shown, or nothing was shown for `grace`. Returns how many records were not shown.
    pub(super) fn close(self, grace: Duration) -> u64 {
        let Self { sender, done, progress, sent, unseen } = self;
        drop(sender);
        let mut last = (progress.seen.load(Ordering::Relaxed), Instant::now());
        loop {
            if !matches!(done.recv_timeout(Duration::from_millis(20)), Err(std::sync::mpsc::RecvTimeoutError::Timeout))
            {
                return unseen;
            }
            let seen = progress.seen.load(Ordering::Relaxed);
            if seen != last.0 {
                last = (seen, Instant::now());
            } else if last.1.elapsed() >= grace {
                return unseen + (sent - seen);
            }
        }
    }
}

fn show(mut observers: Vec<Box<dyn Observer>>, receiver: &Receiver<Vec<Event>>, progress: &Progress) {
    loop {
        let events = match receiver.try_recv() {
            Ok(events) => events,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                observers.iter_mut().for_each(|observer| observer.pause());
                let Ok(events) = receiver.recv() else { break };
                events
            }
        };
        for event in &events {
            observers.iter_mut().for_each(|observer| observer.observe(event));
            progress.seen.fetch_add(1, Ordering::Relaxed);
        }
        progress.bytes.fetch_sub(events.iter().map(cost).sum(), Ordering::Relaxed);
    }
    observers.iter_mut().for_each(|observer| observer.pause());
}
