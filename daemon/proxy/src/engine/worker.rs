//! A worker: one thread, one runtime, one read buffer, and the connections that were dealt to it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use nodetap_core::ulid::UlidSource;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinSet, LocalSet};

use super::connection::serve;
use super::{PULSE, QUEUE, Shared};
use crate::steering::Destination;
use crate::tunnel::Scratch;

/// A connection on its way from the acceptor to a worker.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) stream: std::net::TcpStream,
    pub(super) destination: Destination,
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
    /// Returns when open connections have to be reset.
    pub(super) async fn cut(&self) {
        while !self.cutting.get() {
            // Both are of this thread: nothing can come between the look and the wait.
            self.cut.notified().await;
        }
    }
}

pub(super) fn spawn(
    index: usize,
    shared: Arc<Shared>,
    ids: UlidSource,
) -> io::Result<(mpsc::Sender<Job>, JoinHandle<()>)> {
    // acceptor --accepted connections--> worker
    let (job_tx, job_rx) = mpsc::channel(QUEUE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("nodetap-data-{index}")).spawn(move || {
        let desk = Rc::new(Desk {
            shared,
            scratch: Scratch::default(),
            ids: RefCell::new(ids),
            cut: Notify::new(),
            cutting: Cell::new(false),
        });
        let local = LocalSet::new();
        local.spawn_local(pulse(index, Arc::clone(&desk.shared)));
        local.block_on(&runtime, run(desk, job_rx));
    })?;
    Ok((job_tx, thread))
}

/// Ends when the acceptor is gone and no connection is left.
async fn run(desk: Rc<Desk>, mut jobs: mpsc::Receiver<Job>) {
    let mut connections = JoinSet::new();
    let mut cut = desk.shared.cut.subscribe();
    loop {
        tokio::select! {
            // Cancel-safe per docs on `recv`, `join_next` and `wait_for`.
            job = jobs.recv() => match job {
                Some(job) => {
                    let desk = Rc::clone(&desk);
                    connections.spawn_local(async move {
                        serve(&desk, job).await;
                        desk.shared.open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    loop {
        tokio::select! {
            ended = connections.join_next() => if ended.is_none() { break },
            _ = cut.wait_for(|cut| *cut), if !desk.cutting.get() => {
                desk.cutting.set(true);
                desk.cut.notify_waiters();
            }
        }
    }
}

async fn pulse(index: usize, shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(PULSE);
    loop {
        interval.tick().await;
        shared.pulse(index);
    }
}
