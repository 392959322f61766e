//! The way from the traffic to the recorder's thread: bounded in records and in bytes, never waiting. What does not
//! fit is counted.
//!
//! Targets share it as buffers of a switch are shared (Choudhury and Hahne's dynamic thresholds): each may have as much
//! waiting as there is room left. One that floods takes half of it at most, two a third each, and whoever has little to
//! send always finds room.

use std::collections::BTreeMap;
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
    records_allowed: usize,
    bytes_allowed: usize,
    waiting: Waiting,
    pub(super) accepted: AtomicU64,
    pub(super) closing: AtomicBool,
    /// Number of the next account.
    next: AtomicU64,
    /// Of all who send, by number.
    accounts: Mutex<Vec<Arc<Account>>>,
    /// Losses that must keep their reason also when the queue is full; no traffic thread adds any.
    told: Mutex<Losses>,
}

/// How much is in the queue.
#[derive(Debug, Default)]
struct Waiting {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// One more; gives what there was before.
    fn add(&self, cost: usize) -> (usize, usize) {
        (self.records.fetch_add(1, Ordering::Relaxed), self.bytes.fetch_add(cost, Ordering::Relaxed))
    }

    fn take(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one target has in the queue, and what its records were lost for on the way there.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) target: Arc<Target>,
    number: u64,
    /// The recorder's own target: it may take whatever is left.
    first: bool,
    waiting: Waiting,
    full: Missed,
    closed: Missed,
}

/// An event on its way, and the number of the account that is charged with it.
#[derive(Debug)]
pub(super) struct Queued {
    event: Event,
    account: u64,
}

/// What was taken out of the queue and is not counted off yet: records and bytes by account. Counted off once for a whole
/// batch, because whoever sends counts in the same places, on another processor.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<u64, (usize, usize)>);

impl Taken {
    pub(super) fn add(&mut self, Queued { event, account }: Queued) -> Event {
        let (records, bytes) = self.0.entry(account).or_default();
        (*records, *bytes) = (*records + 1, *bytes + cost(&event));
        event
    }
}

impl Account {
    fn of(target: Arc<Target>, number: u64, first: bool) -> Arc<Self> {
        let (full, closed) = (Missed::new("queue_full"), Missed::new("closed"));
        Arc::new(Self { target, number, first, waiting: Waiting::default(), full, closed })
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

    /// Makes room for as much as has left the queue.
    pub(super) fn release(&self, taken: &mut Taken) {
        let accounts = self.accounts();
        for (number, (records, bytes)) in std::mem::take(&mut taken.0) {
            self.waiting.take(records, bytes);
            // Who has gone needs none.
            if let Ok(at) = accounts.binary_search_by_key(&number, |account| account.number) {
                accounts[at].waiting.take(records, bytes);
            }
        }
    }

    fn forget(&self, account: &Account, cost: usize) {
        self.waiting.take(1, cost);
        account.waiting.take(1, cost);
    }

    /// Counts one more of an account's as waiting. Is there room for it?
    fn admit(&self, account: &Account, cost: usize) -> bool {
        let ((records, bytes), own) = (self.waiting.add(cost), account.waiting.add(cost));
        // One record always fits, however large: it could never be written otherwise.
        if records == 0 {
            return true;
        }
        let left = (self.records_allowed.saturating_sub(records), self.bytes_allowed.saturating_sub(bytes));
        let wanted = if account.first { (1, cost) } else { (own.0 + 1, own.1 + cost) };
        wanted.0 <= left.0 && wanted.1 <= left.1
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
    sender: SyncSender<Option<Queued>>,
}

/// A queue of at most so many records and bytes, for a target to send into.
pub(super) fn queue(target: &Arc<Target>, records: usize, bytes: usize) -> (Queue, Receiver<Option<Queued>>) {
    let (sender, receiver) = sync_channel(records);
    let account = Account::of(Arc::clone(target), 0, true);
    let shared = Shared {
        records_allowed: records,
        bytes_allowed: bytes,
        waiting: Waiting::default(),
        accepted: AtomicU64::new(0),
        closing: AtomicBool::new(false),
        next: AtomicU64::new(1),
        accounts: Mutex::new(vec![Arc::clone(&account)]),
        told: Mutex::default(),
    };
    (Queue { shared: Arc::new(shared), account, sender }, receiver)
}

impl Queue {
    /// The same queue, for another target to send into: it has a share of it, and what it loses is counted as its own.
    pub(super) fn of(&self, target: Arc<Target>) -> Self {
        let mut accounts = self.shared.accounts();
        // Under the lock, so that they stand in order.
        let account = Account::of(target, self.shared.next.fetch_add(1, Ordering::Relaxed), false);
        accounts.push(Arc::clone(&account));
        drop(accounts);
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
        let queued = Queued { event, account: self.account.number };
        let result = if shared.admit(&self.account, cost) {
            // Counted before it is sent, so that the receiver never knows of more than were accepted.
            shared.accepted.fetch_add(1, Ordering::Relaxed);
            self.sender.try_send(Some(queued)).inspect_err(|_| {
                shared.accepted.fetch_sub(1, Ordering::Relaxed);
            })
        } else {
            Err(TrySendError::Full(Some(queued)))
        };
        let (queued, missed) = match result {
            Ok(()) => return true,
            Err(TrySendError::Full(queued)) => (queued, &self.account.full),
            Err(TrySendError::Disconnected(queued)) => (queued, &self.account.closed),
        };
        shared.forget(&self.account, cost);
        queued.iter().for_each(|queued| missed.add(&queued.event));
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

    fn event() -> Event {
        let (target, reason) = (Target::command("x"), "any".into());
        Event::Loss(Loss { time: 1, until: 2, target, reason, exchanges: 1, bytes: 0 })
    }

    fn accepted(queue: &Queue, offers: usize) -> usize {
        (0..offers).filter(|_| queue.offer(event())).count()
    }

    fn leave(queue: &Queue, receiver: &Receiver<Option<Queued>>, count: usize) {
        let mut taken = Taken::default();
        (0..count).for_each(|_| drop(taken.add(receiver.try_recv().unwrap().unwrap())));
        queue.shared.release(&mut taken);
    }

    #[test]
    fn each_targets_losses_are_its_own_also_when_it_has_gone() {
        let (node, receiver) = queue(&Target::command("node"), 1, 1 << 20);
        let pod = node.of(Target::command("pod"));
        assert!(pod.offer(event()));
        assert!(!pod.offer(event()) && !pod.offer(event()) && !node.offer(event()));
        drop(pod);
        leave(&node, &receiver, 1);
        let taken = node.shared.take_losses();
        let lost = |name: &str| taken.iter().filter(|loss| loss.target.name == name).map(|loss| loss.exchanges).sum();
        assert_eq!((lost("pod"), lost("node")), (2, 1));
        assert_eq!(node.shared.accounts().len(), 1, "who has gone is forgotten once its losses are taken");
        drop(receiver);
    }

    #[test]
    fn one_target_cannot_take_the_whole_queue_and_the_others_find_room() {
        for (records, bytes) in [(100, usize::MAX), (1000, 100 * cost(&event()))] {
            let (node, receiver) = queue(&Target::command("node"), records, bytes);
            let pods = ["one", "other", "quiet"].map(|name| node.of(Target::command(name)));
            assert_eq!(accepted(&pods[0], 1000), 50);
            assert_eq!(accepted(&pods[1], 1000), 25, "as much as is left");
            assert_eq!(accepted(&pods[2], 5), 5);
            assert_eq!(accepted(&pods[0], 1000), 0, "and nothing more for who has half of it");
            // What has left the queue makes room for the same one again.
            leave(&node, &receiver, 50);
            assert_eq!(accepted(&pods[0], 1000), 35);
            assert_eq!(accepted(&node, 1000), 35, "who records for itself alone may take it all");
        }
    }

    #[test]
    fn one_record_always_fits() {
        let (node, _receiver) = queue(&Target::command("node"), 8, 1);
        assert_eq!(accepted(&node.of(Target::command("pod")), 2), 1);
    }
}
