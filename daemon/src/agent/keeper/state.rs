//! What the keeper decides: one event in, orders out. It knows no process, no socket and no clock, so that a test can
//! lead it through every order of events. `F` is a descriptor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::agent::wire::{Gap, Message};

/// A worker that has not shown for so long that it runs is replaced.
const SILENCE: Duration = Duration::from_secs(1);
/// The same before it could begin: it loads the kernel programs and reads lists.
const PREPARING: Duration = Duration::from_secs(60);
/// A worker that does not let go in this time is made to.
const YIELDING: Duration = Duration::from_secs(5);
/// Whoever asks for the node waits so long between two tries.
const ASKING: Duration = Duration::from_millis(200);
/// A worker that ended sooner than this is not replaced at once.
const SHORT_LIFE: Duration = Duration::from_secs(5);
/// The longest wait before another one is started.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// What the worker gets for writing down what it has, after the time for what is open.
const WRITING: Duration = Duration::from_secs(5);
/// Descriptors that are kept, at most.
pub(super) const HELD: usize = 16_384;

/// What happened.
#[derive(Debug)]
pub(super) enum Event<F> {
    /// The lock of the node is ours, if it says so.
    Locked(bool),
    /// The worker said something.
    Worker(Message, Option<F>),
    /// The worker is no more.
    WorkerGone,
    /// A successor asks for the node.
    Successor,
    /// It is no more.
    SuccessorGone,
    /// The one before us said something.
    Predecessor(Message, Option<F>),
    /// It is no more, or was not there.
    PredecessorGone,
    /// We are to end.
    Terminate,
    /// Some time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order<F> {
    /// Start a worker.
    Spawn,
    /// Kill the worker; that it is gone is told by an event.
    Kill(&'static str),
    ToWorker(Message),
    /// Hand the worker a copy of what goes by this name.
    Lend(String),
    /// Give to the successor, for good.
    Give(String, F),
    ToSuccessor(Message),
    /// Give the lock to the successor.
    GiveLock,
    /// Turn the successor away: there is nothing to hand over.
    Refuse,
    /// Take this as the lock.
    TakeLock(F),
    /// Try to get the lock.
    TryLock,
    /// Ask whoever has the node for it.
    Ask,
    /// Note when the node was last captured, for whoever comes after an end that nobody saw coming.
    Note(Option<Gap>),
    Exit,
}

/// Who has the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    /// Somebody else, as far as we know.
    Others,
    /// We asked for it.
    Asked {
        since: Instant,
    },
    Ours,
    /// The worker lets go of it, for a successor.
    Leaving {
        since: Instant,
    },
    /// It was handed over.
    Left,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    since: Instant,
    beat: Instant,
    prepared: bool,
    begun: bool,
}

/// Everything that the keeper knows.
#[derive(Debug)]
pub(super) struct State<F> {
    held: BTreeMap<String, F>,
    node: Node,
    worker: Option<Life>,
    spawn_at: Option<Instant>,
    short_lives: u32,
    /// When somebody of us last captured, if that ended.
    gap: Option<Gap>,
    open: u64,
    grace: Duration,
    ending: Option<Instant>,
    asked: Option<Instant>,
    /// We handed the node over once: it is taken back if nobody has it, and not asked for.
    retired: bool,
}

impl<F> State<F> {
    /// `gap`: what was noted by somebody who is no more. `grace`: for what is open at the end.
    pub(super) fn new(gap: Option<Gap>, grace: Duration) -> Self {
        Self {
            held: BTreeMap::new(),
            node: Node::Others,
            worker: None,
            spawn_at: None,
            short_lives: 0,
            gap,
            open: 0,
            grace,
            ending: None,
            asked: None,
            retired: false,
        }
    }

    /// What goes by this name.
    pub(super) fn held(&self, name: &str) -> Option<&F> {
        self.held.get(name)
    }

    /// `unix`: microseconds since 1970.
    pub(super) fn step(&mut self, event: Event<F>, now: Instant, unix: u64) -> Vec<Order<F>> {
        match event {
            Event::Locked(true) => {
                self.node = Node::Ours;
                self.begin()
            }
            Event::Locked(false) => Vec::new(),
            Event::Worker(message, fd) => self.worker_said(message, fd, now, unix),
            Event::WorkerGone => self.worker_gone(now, unix),
            Event::Successor => self.successor(now, unix),
            // It had taken over and is gone: the node is nobody's.
            Event::SuccessorGone if self.node == Node::Left => {
                self.node = Node::Others;
                let gap = Gap { since: unix, cut: 0, planned: false };
                self.gap = Some(gap);
                // What still drains there ends: this worker let go of everything that steers.
                if self.worker.is_some() { vec![Order::Kill("its successor is gone")] } else { Vec::new() }
            }
            Event::SuccessorGone => Vec::new(),
            Event::Predecessor(message, fd) => self.predecessor_said(message, fd),
            Event::PredecessorGone => {
                if matches!(self.node, Node::Asked { .. }) {
                    self.node = Node::Others;
                }
                vec![Order::TryLock]
            }
            Event::Terminate => {
                self.ending.get_or_insert(now);
                match self.worker {
                    Some(_) => vec![Order::ToWorker(Message::Drain(self.grace.as_secs()))],
                    None => vec![Order::Note(None), Order::Exit],
                }
            }
            Event::Tick => self.tick(now, unix),
        }
    }

    fn worker_said(&mut self, message: Message, fd: Option<F>, now: Instant, unix: u64) -> Vec<Order<F>> {
        let Some(life) = &mut self.worker else { return Vec::new() };
        life.beat = now;
        match message {
            Message::Hold(name) => {
                if let Some(fd) = fd
                    && self.held.len() < HELD
                {
                    self.held.insert(name, fd);
                }
                Vec::new()
            }
            Message::Release(name) => {
                self.held.remove(&name);
                Vec::new()
            }
            Message::Prepared => {
                life.prepared = true;
                match self.node {
                    Node::Ours => self.begin(),
                    Node::Others => self.ask(now),
                    _ => Vec::new(),
                }
            }
            Message::Beat(open) => {
                self.open = open;
                Vec::new()
            }
            Message::Yielded => match self.node {
                Node::Leaving { .. } => self.hand_over(unix, true),
                _ => Vec::new(),
            },
            Message::Drained => {
                // It ends by itself, and everything is counted.
                self.gap = None;
                if self.ending.is_some() { self.exit(unix, true) } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    /// The node is ours; it is the worker's once that is prepared.
    fn begin(&mut self) -> Vec<Order<F>> {
        let Some(life) = self.worker.as_mut().filter(|life| life.prepared && !life.begun) else { return Vec::new() };
        life.begun = true;
        let lend = self.held.keys().cloned().map(Order::Lend);
        lend.chain([Order::ToWorker(Message::Begin(self.gap.take()))]).collect()
    }

    fn ask(&mut self, now: Instant) -> Vec<Order<F>> {
        self.asked = Some(now);
        if self.retired { vec![Order::TryLock] } else { vec![Order::TryLock, Order::Ask] }
    }

    /// We asked, and somebody is there.
    pub(super) fn asked(&mut self, now: Instant) {
        if self.node == Node::Others {
            self.node = Node::Asked { since: now };
        }
    }

    fn predecessor_said(&mut self, message: Message, fd: Option<F>) -> Vec<Order<F>> {
        if self.node == Node::Ours {
            return Vec::new();
        }
        match (message, fd) {
            (Message::Hold(name), Some(fd)) if self.held.len() < HELD => {
                self.held.insert(name, fd);
                Vec::new()
            }
            (Message::Lock, Some(fd)) => vec![Order::TakeLock(fd)],
            (Message::Handed(gap), _) => {
                self.node = Node::Ours;
                self.gap = Some(gap);
                self.begin()
            }
            _ => Vec::new(),
        }
    }

    fn worker_gone(&mut self, now: Instant, unix: u64) -> Vec<Order<F>> {
        let Some(life) = self.worker.take() else { return Vec::new() };
        let steered = life.begun && matches!(self.node, Node::Ours | Node::Leaving { .. });
        if steered && self.ending.is_none() {
            self.gap.get_or_insert(Gap { since: unix, cut: self.open, planned: false });
        }
        self.open = 0;
        if self.ending.is_some() {
            return self.exit(unix, false);
        }
        match self.node {
            Node::Leaving { .. } => return self.hand_over(unix, false),
            Node::Left => return Vec::new(),
            _ => {}
        }
        if now.duration_since(life.since) < SHORT_LIFE {
            self.short_lives += 1;
        } else {
            self.short_lives = 0;
        }
        // The first one that is lost is replaced at once; one that cannot live is not tried without end.
        let wait = match self.short_lives {
            0 | 1 => Duration::ZERO,
            many => Duration::from_millis(250).saturating_mul(1 << many.min(8)).min(LONGEST_WAIT),
        };
        self.spawn_at = Some(now + wait);
        if wait.is_zero() { self.spawn(now) } else { Vec::new() }
    }

    fn spawn(&mut self, now: Instant) -> Vec<Order<F>> {
        self.spawn_at = None;
        self.worker = Some(Life { since: now, beat: now, prepared: false, begun: false });
        vec![Order::Spawn]
    }

    fn successor(&mut self, now: Instant, unix: u64) -> Vec<Order<F>> {
        match self.node {
            Node::Ours if self.worker.is_some_and(|life| life.begun) => {
                self.node = Node::Leaving { since: now };
                vec![Order::ToWorker(Message::Yield)]
            }
            // Nobody steers just now: it can have what is kept at once.
            Node::Ours => {
                let mut orders = self.hand_over(unix, false);
                if self.worker.is_some() {
                    orders.push(Order::Kill("a successor took over before it began"));
                }
                orders
            }
            _ => vec![Order::Refuse],
        }
    }

    fn hand_over(&mut self, unix: u64, planned: bool) -> Vec<Order<F>> {
        self.node = Node::Left;
        self.retired = true;
        let gap = self.gap.take().unwrap_or(Gap { since: unix, cut: 0, planned });
        let held = std::mem::take(&mut self.held).into_iter().map(|(name, fd)| Order::Give(name, fd));
        let end = [Order::GiveLock, Order::ToSuccessor(Message::Handed(gap)), Order::Note(None)];
        held.chain(end).collect()
    }

    /// We end. A successor that came when the worker was about to end gets what is kept all the same.
    fn exit(&mut self, unix: u64, planned: bool) -> Vec<Order<F>> {
        let mut orders = match self.node {
            Node::Leaving { .. } => self.hand_over(unix, planned),
            _ => vec![Order::Note(None)],
        };
        orders.push(Order::Exit);
        orders
    }

    fn tick(&mut self, now: Instant, unix: u64) -> Vec<Order<F>> {
        if let Some(since) = self.ending
            && now.duration_since(since) > self.grace + WRITING
        {
            return vec![Order::Kill("it does not end"), Order::Note(None), Order::Exit];
        }
        if let Node::Leaving { since } = self.node
            && now.duration_since(since) > YIELDING
            && self.worker.is_some()
        {
            return vec![Order::Kill("it does not let go")];
        }
        if let Node::Asked { since } = self.node
            && now.duration_since(since) > YIELDING * 2
        {
            self.node = Node::Others;
        }
        match self.worker {
            Some(life) => {
                let patience = if life.begun { SILENCE } else { PREPARING };
                if now.duration_since(life.beat) > patience {
                    return vec![Order::Kill("it gives no sign of life")];
                }
                let may_ask = self.asked.is_none_or(|asked| now.duration_since(asked) >= ASKING);
                if life.prepared && self.node == Node::Others && self.ending.is_none() && may_ask {
                    return self.ask(now);
                }
                if life.begun && self.node == Node::Ours {
                    return vec![Order::Note(Some(Gap { since: unix, cut: self.open, planned: false }))];
                }
                Vec::new()
            }
            None if self.ending.is_none() && self.node != Node::Left => match self.spawn_at {
                Some(at) if now < at => Vec::new(),
                _ => self.spawn(now),
            },
            None => Vec::new(),
        }
    }
}
