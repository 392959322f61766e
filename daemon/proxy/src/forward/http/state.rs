//! What the parts of one client's HTTP connection tell each other: the wire, the bodies and the exchange in progress.
//! All on one thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use hyper::upgrade::OnUpgrade;

/// Of the connection.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Requests that have come.
    pub(super) begun: Cell<u64>,
    /// The last one's response is not over.
    pub(super) running: Cell<bool>,
    /// The body of the last request was read to its end.
    pub(super) asked: Cell<bool>,
    /// The body of the last request was wrong, or was cut.
    pub(super) asked_badly: Cell<bool>,
    /// The response could not be brought to its end: what the client has of it must not look whole.
    pub(super) cut: Cell<bool>,
    /// The server closed a connection that had served before, instead of answering.
    pub(super) stale: Cell<bool>,
    /// The client did not send a head in time.
    pub(super) late: Cell<bool>,
    /// The head that is being read began with a URL without a path.
    pub(super) bare: Cell<bool>,
    /// A CONNECT lies on the wire, untouched.
    pub(super) connect: Cell<bool>,
    /// The server's side of a connection that has switched protocols.
    pub(super) upgrade: RefCell<Option<OnUpgrade>>,
    flushes: Cell<u64>,
    flushed: RefCell<Option<Waker>>,
}

impl State {
    /// A request has come; it is over when what this gives is dropped.
    pub(super) fn begin(self: &Rc<Self>, asked: bool) -> Running {
        self.begun.set(self.begun.get().wrapping_add(1));
        self.running.set(true);
        self.asked.set(asked);
        self.asked_badly.set(false);
        Running(Rc::clone(self))
    }

    /// Everything that was written so far has left.
    pub(super) fn note_flush(&self) {
        self.flushes.set(self.flushes.get().wrapping_add(1));
        if let Some(waker) = self.flushed.take() {
            waker.wake();
        }
    }

    /// How often everything had left.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.get()
    }

    /// Returns when everything has left once more since [`State::flushes`] said `mark`.
    pub(super) async fn flushed_since(&self, mark: u64) {
        poll_fn(|cx| {
            if self.flushes.get() != mark {
                return Poll::Ready(());
            }
            self.flushed.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// An exchange is going on.
#[derive(Debug)]
pub(super) struct Running(Rc<State>);

impl Running {
    pub(super) fn state(&self) -> &State {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(false);
    }
}

/// Holds a request's body back until its server wants it. It is told so on the task of the server's connection.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Mutex<(bool, Option<Waker>)>>);

impl Gate {
    pub(super) fn new(open: bool) -> Self {
        Self(Arc::new(Mutex::new((open, None))))
    }

    pub(super) fn open(&self) {
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gate.0 = true;
        if let Some(waker) = gate.1.take() {
            waker.wake();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.0 {
            return Poll::Ready(());
        }
        gate.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}
