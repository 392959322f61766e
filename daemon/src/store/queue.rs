//! The way from the traffic to the recorder's thread: bounded in records and in bytes, never waiting. What does not
//! fit is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};

use nodetap_core::exchange::{Event, Loss};

use super::losses::{Losses, Missed, weight};

/// What a record costs beside its heads and bodies, in bytes; an estimate.
const OVERHEAD: usize = 1 << 10;

/// What both ends share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: String,
    bytes_allowed: usize,
    bytes_queued: AtomicUsize,
    pub(super) accepted: AtomicU64,
    pub(super) closing: AtomicBool,
    full: Missed,
    closed: Missed,
    /// Losses that must keep their reason also when the queue is full; no traffic thread adds any.
    told: Mutex<Losses>,
}

impl Shared {
    /// Losses counted here since the last call.
    pub(super) fn take_losses(&self) -> Vec<Loss> {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        [self.full.take(&self.target), self.closed.take(&self.target)].into_iter().chain(told).collect()
    }

    pub(super) fn tell(&self, loss: Loss) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).add(loss);
    }

    /// The events have left the queue.
    pub(super) fn release(&self, events: &[Event]) {
        let bytes = events.iter().map(cost).sum();
        self.bytes_queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes of memory that an event is charged with.
pub(super) fn cost(event: &Event) -> usize {
    OVERHEAD + weight(event)
}

/// The sending end.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) shared: Arc<Shared>,
    sender: SyncSender<Option<Event>>,
}

/// A queue of at most so many records and bytes.
pub(super) fn queue(target: &str, records: usize, bytes: usize) -> (Queue, Receiver<Option<Event>>) {
    let (sender, receiver) = sync_channel(records);
    let shared = Shared {
        target: target.to_owned(),
        bytes_allowed: bytes,
        bytes_queued: AtomicUsize::new(0),
        accepted: AtomicU64::new(0),
        closing: AtomicBool::new(false),
        full: Missed::new("queue_full"),
        closed: Missed::new("closed"),
        told: Mutex::default(),
    };
    (Queue { shared: Arc::new(shared), sender }, receiver)
}

impl Queue {
    /// Whether it was taken; if not, it was counted.
    pub(super) fn offer(&self, event: Event) -> bool {
        let shared = &*self.shared;
        if shared.closing.load(Ordering::Relaxed) {
            shared.closed.add(&event);
            return false;
        }
        let cost = cost(&event);
        let queued = shared.bytes_queued.fetch_add(cost, Ordering::Relaxed);
        // One record always fits, however large: it could never be written otherwise.
        let result = if queued > 0 && queued + cost > shared.bytes_allowed {
            Err(TrySendError::Full(Some(event)))
        } else {
            // Counted before it is sent, so that the receiver never knows of more than were accepted.
            shared.accepted.fetch_add(1, Ordering::Relaxed);
            self.sender.try_send(Some(event)).inspect_err(|_| {
                shared.accepted.fetch_sub(1, Ordering::Relaxed);
            })
        };
        let (event, missed) = match result {
            Ok(()) => return true,
            Err(TrySendError::Full(event)) => (event, &shared.full),
            Err(TrySendError::Disconnected(event)) => (event, &shared.closed),
        };
        shared.bytes_queued.fetch_sub(cost, Ordering::Relaxed);
        event.iter().for_each(|event| missed.add(event));
        false
    }

    /// Tells the receiver to take what is there and end. It sees the flag when the queue is too full for the message.
    pub(super) fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        let _ = self.sender.try_send(None);
    }
}
