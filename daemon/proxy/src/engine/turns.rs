//! The connections of one group on one worker, as one future: each runs when it was woken, and all of them together for
//! no longer than a turn before the other groups get theirs. Without it a group with a thousand busy connections would
//! have a thousand turns where another has one.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::task::{coop, yield_now};

/// How long the connections of a group may run before the others'; one that is running is not interrupted.
pub(super) const TURN: Duration = Duration::from_micros(500);

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Futures that share a turn.
#[derive(Default)]
pub(super) struct Turns {
    tasks: HashMap<u64, (Task, Arc<Bell>)>,
    next: u64,
    woken: Arc<Woken>,
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// Those that were woken, in their order, and who is to be told. Wakers may be used from any thread.
#[derive(Debug, Default)]
struct Woken {
    queue: Mutex<VecDeque<u64>>,
    waker: Mutex<Option<Waker>>,
}

impl Woken {
    fn queue(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes one of them.
#[derive(Debug)]
struct Bell {
    number: u64,
    /// It is in the queue.
    rung: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        self.woken.queue().push_back(self.number);
        let waker = self.woken.waker().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Turns {
    /// One more; it runs in the next turn.
    pub(super) fn add(&mut self, task: impl Future<Output = ()> + 'static) {
        let number = self.next;
        self.next += 1;
        let bell = Arc::new(Bell { number, rung: AtomicBool::new(false), woken: Arc::clone(&self.woken) });
        self.tasks.insert(number, (Box::pin(task), Arc::clone(&bell)));
        bell.wake();
    }

    /// A turn. `Ready`: nothing is left.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Who is woken meanwhile, by itself mostly, is in the queue: woken at once, all of them would have dozens of turns
        // before the runtime looks at any socket.
        *self.woken.waker() = None;
        let began = Instant::now();
        loop {
            let Some(number) = self.woken.queue().pop_front() else { break };
            let Some((task, bell)) = self.tasks.get_mut(&number) else { continue };
            // A swap: what was done before the bell was rung is seen by the task.
            bell.rung.swap(false, Ordering::AcqRel);
            let waker = Waker::from(Arc::clone(bell));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.tasks.remove(&number);
            }
            // The runtime's own measure of what a task may do is spent, or time is up.
            if !coop::has_budget_remaining() || began.elapsed() >= TURN {
                break;
            }
        }
        // Before the queue is looked at: whoever is woken later finds it.
        *self.woken.waker() = Some(cx.waker().clone());
        if !self.woken.queue().is_empty() {
            // Goes on after the runtime has looked at all sockets: others may have become ready. Until then nobody has to
            // tell it.
            *self.woken.waker() = None;
            let _ = std::pin::pin!(yield_now()).poll(cx);
        }
        if self.tasks.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;

    use super::*;

    /// Busy for so long each time it is polled, and never at its end.
    fn busy(count: Rc<Cell<u64>>, each: Duration) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            count.set(count.get() + 1);
            let since = Instant::now();
            while since.elapsed() < each {}
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    struct Count(AtomicBool);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_turn_ends_although_there_is_more_to_do_and_goes_on_where_it_was() {
        let (woken, mut turns) = (Arc::new(Count(AtomicBool::new(false))), Turns::default());
        let waker = Waker::from(Arc::clone(&woken));
        let counts: Vec<_> = (0..100).map(|_| Rc::new(Cell::new(0))).collect();
        counts.iter().for_each(|count| turns.add(busy(Rc::clone(count), TURN / 10)));
        let began = Instant::now();
        assert!(turns.poll(&mut Context::from_waker(&waker)).is_pending());
        // With leave for a machine that has other things to do.
        assert!(began.elapsed() < TURN * 100, "{:?}", began.elapsed());
        assert!(woken.0.swap(false, Ordering::Relaxed), "it wants to go on");
        let ran = |counts: &[Rc<Cell<u64>>]| counts.iter().filter(|count| count.get() > 0).count();
        let first = ran(&counts);
        assert!((1..100).contains(&first), "{first}");
        while ran(&counts) < 100 {
            assert!(turns.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert!(counts.iter().all(|count| count.get() <= 2), "nobody runs again before all have run");
    }

    #[test]
    fn between_two_looks_at_the_sockets_one_that_is_always_busy_has_one_turn() {
        const LOOKS: usize = 20;
        let (taken, mut turns) = (Rc::new(Cell::new(0)), Turns::default());
        turns.add(busy(Rc::default(), TURN));
        turns.add(busy(Rc::default(), TURN));
        let count = Rc::clone(&taken);
        let group = poll_fn(move |cx| {
            count.set(count.get() + 1);
            turns.poll(cx)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.spawn_local(group);
        local.block_on(&runtime, async {
            for _ in 0..LOOKS {
                // It goes on when the runtime has looked.
                yield_now().await;
            }
        });
        assert!((1..=2 * LOOKS).contains(&taken.get()), "{} turns", taken.get());
    }

    #[test]
    fn it_sleeps_when_nobody_is_woken_and_is_over_when_all_are() {
        let (woken, mut turns) = (Arc::new(Count(AtomicBool::new(false))), Turns::default());
        let waker = Waker::from(Arc::clone(&woken));
        let (send, receive) = tokio::sync::oneshot::channel::<()>();
        turns.add(async move { drop(receive.await) });
        turns.add(async {});
        assert!(turns.poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(!woken.0.swap(false, Ordering::Relaxed));
        assert!(turns.poll(&mut Context::from_waker(&waker)).is_pending());
        std::thread::spawn(move || send.send(())).join().unwrap().unwrap();
        assert!(woken.0.swap(false, Ordering::Relaxed));
        assert!(turns.poll(&mut Context::from_waker(&waker)).is_ready());
        assert!(turns.tasks.is_empty());
        turns.add(async {});
        assert!(woken.0.swap(false, Ordering::Relaxed), "one more wakes whoever waits");
    }
}
