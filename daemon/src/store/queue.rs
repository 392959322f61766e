//! The way from the traffic to the recorder's thread: bounded in records and in bytes, never waiting. What does not
//! fit is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nodetap_core::exchange::{Event, Loss, Target};

use super::losses::{Losses, Missed, weight};

/// What a record costs beside its heads and bodies, in bytes; an estimate.
const OVERHEAD: usize = 1 << 10;

/// What both ends share.
#[derive(Debug)]
pub(super) struct Shared {
    bytes_allowed: usize,
    bytes_queued: AtomicUsize,
    pub(super) accepted: AtomicU64,
    pub(super) closing: AtomicBool,
    /// Of all who send.
    accounts: Mutex<Vec<Arc<Account>>>,
    /// Losses that must keep their reason also when the queue is full; no traffic thread adds any.
    told: Mutex<Losses>,
}

/// What one target's records were lost for on the way.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) target: Arc<Target>,
    full: Missed,
    closed: Missed,
}

impl Account {
    fn of(target: Arc<Target>) -> Arc<Self> {
        Arc::new(Self { target, full: Missed::new("queue_full"), closed: Missed::new("closed") })
    }

    fn take(&self) -> [Loss; 2] {
        [self.full.take(&self.target), self.closed.take(&self.target)]
    }
}

impl Shared {
    /// Losses counted here since the last call.
    pub(super) fn take_losses(&self) -> Vec<Loss> {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        let mut accounts = self.accounts();
        // Nobody sends for it any more when it is only here: what is taken now is the last of it.
        let gone: Vec<_> = accounts.extract_if(.., |account| Arc::strong_count(account) == 1).collect();
        gone.iter().chain(accounts.iter()).flat_map(|account| account.take()).chain(told).collect()
    }

    fn accounts(&self) -> MutexGuard<'_, Vec<Arc<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(super) account: Arc<Account>,
    sender: SyncSender<Option<Event>>,
}

/// A queue of at most so many records and bytes, for a target to send into.
pub(super) fn queue(target: &Arc<Target>, records: usize, bytes: usize) -> (Queue, Receiver<Option<Event>>) {
    let (sender, receiver) = sync_channel(records);
    let account = Account::of(Arc::clone(target));
    let shared = Shared {
        bytes_allowed: bytes,
        bytes_queued: AtomicUsize::new(0),
        accepted: AtomicU64::new(0),
        closing: AtomicBool::new(false),
        accounts: Mutex::new(vec![Arc::clone(&account)]),
        told: Mutex::default(),
    };
    (Queue { shared: Arc::new(shared), account, sender }, receiver)
}

impl Queue {
    /// The same queue, for another target to send into: what it loses is counted as that one's.
    pub(super) fn of(&self, target: Arc<Target>) -> Self {
        let account = Account::of(target);
        self.shared.accounts().push(Arc::clone(&account));
        Self { shared: Arc::clone(&self.shared), account, sender: self.sender.clone() }
    }

    /// Whether it was taken; if not, it was counted.
    pub(super) fn offer(&self, event: Event) -> bool {
        let shared = &*self.shared;
        if shared.closing.load(Ordering::Relaxed) {
            self.account.closed.add(&event);
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
            Err(TrySendError::Full(event)) => (event, &self.account.full),
            Err(TrySendError::Disconnected(event)) => (event, &self.account.closed),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_targets_losses_are_its_own_also_when_it_has_gone() {
        let event = || {
            let (target, reason) = (Target::command("x"), "any".into());
            Event::Loss(Loss { time: 1, until: 2, target, reason, exchanges: 1, bytes: 0 })
        };
        let (node, receiver) = queue(&Target::command("node"), 1, 1 << 20);
        let pod = node.of(Target::command("pod"));
        assert!(pod.offer(event()));
        assert!(!pod.offer(event()) && !pod.offer(event()) && !node.offer(event()));
        drop(pod);
        let taken = node.shared.take_losses();
        let lost = |name: &str| taken.iter().filter(|loss| loss.target.name == name).map(|loss| loss.exchanges).sum();
        assert_eq!((lost("pod"), lost("node")), (2, 1));
        assert_eq!(node.shared.accounts().len(), 1, "who has gone is forgotten once its losses are taken");
        drop(receiver);
    }
}
