//! What the connections of one worker share, and how a connection comes to it. It refuses to know what they do.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use nodetap_core::ulid::UlidSource;
use tokio::sync::Notify;

use super::Shared;
use crate::steering::Route;
use crate::tunnel::Scratch;

/// A connection on its way from the acceptor to a worker.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) stream: std::net::TcpStream,
    pub(super) route: Route,
    /// When it was accepted.
    pub(super) accepted: Instant,
}

/// What the connections of one worker share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) scratch: Scratch,
    pub(super) ids: RefCell<UlidSource>,
    /// worker --reset what is open--> its connections
    cut: Notify,
    cutting: Cell<bool>,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, ids: UlidSource) -> Self {
        Self {
            shared,
            scratch: Scratch::default(),
            ids: RefCell::new(ids),
            cut: Notify::new(),
            cutting: Cell::new(false),
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
