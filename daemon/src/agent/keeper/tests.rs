//! The keeper's decisions, event by event.

use std::time::{Duration, Instant};

use super::state::{Event, Order, State};
use crate::agent::wire::{Gap, Message};

const GRACE: Duration = Duration::from_secs(30);

struct Told {
    state: State<u32>,
    now: Instant,
    unix: u64,
}

impl Told {
    fn new(gap: Option<Gap>) -> Self {
        Self { state: State::new(gap, GRACE), now: Instant::now(), unix: 1_000_000 }
    }

    fn step(&mut self, event: Event<u32>) -> Vec<Order<u32>> {
        self.state.step(event, self.now, self.unix)
    }

    fn after(&mut self, wait: Duration) -> Vec<Order<u32>> {
        self.now += wait;
        self.unix += u64::try_from(wait.as_micros()).unwrap();
        self.step(Event::Tick)
    }

    fn says(&mut self, message: Message) -> Vec<Order<u32>> {
        self.step(Event::Worker(message, None))
    }

    /// A worker that has begun.
    fn steering() -> Self {
        let mut told = Self::new(None);
        assert_eq!(told.step(Event::Tick), [Order::Spawn]);
        assert_eq!(told.step(Event::Locked(true)), []);
        assert_eq!(told.says(Message::Prepared), [Order::ToWorker(Message::Begin(None))]);
        told
    }
}

#[test]
fn a_worker_that_is_lost_is_replaced_at_once_and_gets_what_it_had() {
    let mut told = Told::steering();
    told.step(Event::Worker(Message::Hold("a".into()), Some(1)));
    told.step(Event::Worker(Message::Hold("b".into()), Some(2)));
    told.says(Message::Release("a".into()));
    told.says(Message::Beat(17));
    assert_eq!(told.step(Event::WorkerGone), [Order::Spawn]);
    let gap = Gap { since: told.unix, cut: 17, planned: false };
    let expected = [Order::Lend("b".into()), Order::ToWorker(Message::Begin(Some(gap)))];
    assert_eq!(told.says(Message::Prepared), expected);
    assert_eq!(told.state.held("b"), Some(&2));
}

#[test]
fn a_worker_that_hangs_is_killed_within_a_second() {
    let mut told = Told::steering();
    told.says(Message::Beat(0));
    assert!(matches!(told.after(Duration::from_millis(900))[..], [Order::Note(Some(_))]));
    assert!(matches!(told.after(Duration::from_millis(200))[..], [Order::Kill(_)]));
}

#[test]
fn a_worker_that_cannot_live_is_tried_less_and_less_often() {
    let mut told = Told::steering();
    assert_eq!(told.step(Event::WorkerGone), [Order::Spawn]);
    assert_eq!(told.step(Event::WorkerGone), []);
    assert_eq!(told.after(Duration::from_millis(500)), []);
    assert_eq!(told.after(Duration::from_millis(600)), [Order::Spawn]);
}

#[test]
fn a_successor_gets_everything_once_the_worker_has_let_go() {
    let mut told = Told::steering();
    told.step(Event::Worker(Message::Hold("a".into()), Some(1)));
    assert_eq!(told.step(Event::Successor), [Order::ToWorker(Message::Yield)]);
    let handed = Gap { since: told.unix, cut: 0, planned: true };
    let expected =
        [Order::Give("a".into(), 1), Order::GiveLock, Order::ToSuccessor(Message::Handed(handed)), Order::Note(None)];
    assert_eq!(told.says(Message::Yielded), expected);
    // What is open goes on, until somebody ends us.
    assert_eq!(told.step(Event::Terminate), [Order::ToWorker(Message::Drain(30))]);
    assert_eq!(told.says(Message::Drained), [Order::Note(None), Order::Exit]);
}

#[test]
fn a_successor_that_comes_when_the_worker_is_about_to_end_gets_everything_too() {
    for (end, planned) in [(Event::Worker(Message::Drained, None), true), (Event::WorkerGone, false)] {
        let mut told = Told::steering();
        told.step(Event::Worker(Message::Hold("a".into()), Some(1)));
        assert_eq!(told.step(Event::Terminate), [Order::ToWorker(Message::Drain(30))]);
        // It is not heard any more.
        assert_eq!(told.step(Event::Successor), [Order::ToWorker(Message::Yield)]);
        let handed = Gap { since: told.unix, cut: 0, planned };
        let given = [Order::Give("a".into(), 1), Order::GiveLock, Order::ToSuccessor(Message::Handed(handed))];
        let expected: Vec<_> = given.into_iter().chain([Order::Note(None), Order::Exit]).collect();
        assert_eq!(told.step(end), expected);
    }
}

#[test]
fn whoever_comes_second_prepares_first_and_asks_then() {
    let mut told = Told::new(None);
    assert_eq!(told.step(Event::Locked(false)), []);
    assert_eq!(told.step(Event::Tick), [Order::Spawn]);
    assert_eq!(told.says(Message::Prepared), [Order::TryLock, Order::Ask]);
    told.state.asked(told.now);
    told.step(Event::Predecessor(Message::Hold("a".into()), Some(5)));
    assert_eq!(told.step(Event::Predecessor(Message::Lock, Some(9))), [Order::TakeLock(9)]);
    let gap = Gap { since: 5, cut: 0, planned: true };
    let expected = [Order::Lend("a".into()), Order::ToWorker(Message::Begin(Some(gap)))];
    assert_eq!(told.step(Event::Predecessor(Message::Handed(gap), None)), expected);
    assert_eq!(told.step(Event::PredecessorGone), [Order::TryLock]);
}

#[test]
fn a_predecessor_that_dies_leaves_the_lock_to_us() {
    let mut told = Told::new(Some(Gap { since: 3, cut: 2, planned: false }));
    told.step(Event::Tick);
    told.says(Message::Prepared);
    told.state.asked(told.now);
    assert_eq!(told.step(Event::PredecessorGone), [Order::TryLock]);
    let begin = Message::Begin(Some(Gap { since: 3, cut: 2, planned: false }));
    assert_eq!(told.step(Event::Locked(true)), [Order::ToWorker(begin)]);
}

#[test]
fn a_worker_that_does_not_let_go_is_made_to_and_what_is_kept_is_handed_over_all_the_same() {
    let mut told = Told::steering();
    told.step(Event::Worker(Message::Hold("a".into()), Some(1)));
    told.step(Event::Successor);
    told.now += Duration::from_secs(6);
    assert!(matches!(told.step(Event::Tick)[..], [Order::Kill(_)]));
    let orders = told.step(Event::WorkerGone);
    assert!(matches!(&orders[..], [Order::Give(..), Order::GiveLock, Order::ToSuccessor(Message::Handed(gap)), _]
        if !gap.planned));
}

#[test]
fn a_successor_that_dies_gives_the_node_back() {
    let mut told = Told::steering();
    told.step(Event::Successor);
    told.says(Message::Yielded);
    assert!(matches!(told.step(Event::SuccessorGone)[..], [Order::Kill(_)]));
    assert_eq!(told.step(Event::WorkerGone), [Order::Spawn]);
    assert_eq!(told.says(Message::Prepared), [Order::TryLock]);
    assert!(matches!(told.step(Event::Locked(true))[..], [Order::ToWorker(Message::Begin(Some(_)))]));
}

#[test]
fn an_end_that_takes_too_long_is_made_one() {
    let mut told = Told::steering();
    told.step(Event::Terminate);
    assert!(matches!(told.after(Duration::from_millis(500))[..], [Order::Note(_)]));
    told.says(Message::Beat(1));
    told.now += GRACE + Duration::from_secs(6);
    assert!(matches!(told.step(Event::Tick)[..], [Order::Kill(_), Order::Note(None), Order::Exit]));
}
