//! What the connections of one group share on one worker, and how a connection comes there. It refuses to know what
//! they do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use nodetap_core::ulid::UlidSource;
use tokio::sync::Notify;

use super::Shared;
use super::group::{Seat, State};
use super::turns::Turns;
use crate::scratch::Scratch;
use crate::steering::Route;

/// A connection on its way from the acceptor to a worker.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) stream: std::net::TcpStream,
    pub(super) route: Route,
    /// When it was accepted.
    pub(super) accepted: Instant,
    pub(super) seat: Seat,
}

/// What the connections of one group share on one worker.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) group: Arc<State>,
    /// All connections of the worker share it.
    pub(super) scratch: Rc<Scratch>,
    pub(super) ids: Rc<RefCell<UlidSource>>,
    /// Its connections. Nothing that runs in a turn touches it.
    pub(super) turns: RefCell<Turns>,
    /// desk --reset what is open--> its connections
    cut: Notify,
    cutting: Cell<bool>,
}

impl Desk {
    pub(super) fn new(
        shared: Arc<Shared>,
        group: Arc<State>,
        scratch: Rc<Scratch>,
        ids: Rc<RefCell<UlidSource>>,
    ) -> Self {
        let turns = RefCell::default();
        Self { shared, group, scratch, ids, turns, cut: Notify::new(), cutting: Cell::new(false) }
    }

    /// Returns when its connections have to be reset: the group or the whole engine ends.
    pub(super) async fn watch_for_cut(&self) {
        let (mut group, mut engine) = (self.group.cut.subscribe(), self.shared.cut.subscribe());
        // A sender that is gone means the same.
        tokio::select! {
            _ = group.wait_for(|cut| *cut) => {}
            _ = engine.wait_for(|cut| *cut) => {}
        }
    }

    /// Tells all connections that they have to be reset.
    pub(super) fn cut_all(&self) {
        self.cutting.set(true);
        self.cut.notify_waiters();
    }

    /// Were they told?
    pub(super) fn is_cutting(&self) -> bool {
        self.cutting.get()
    }

    /// Returns when open connections have to be reset.
    pub(super) async fn cut(&self) {
        while !self.cutting.get() {
            // Both are of this thread: nothing can come between the look and the wait.
            self.cut.notified().await;
        }
    }
}
