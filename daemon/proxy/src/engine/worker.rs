//! A worker: one thread, one runtime, one read buffer, and the connections that were dealt to it, by group.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use nodetap_core::ulid::UlidSource;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet, spawn_local};

use super::connection::serve;
use super::desk::{Desk, Job};
use super::group::State;
use super::{PULSE, Shared};
use crate::tunnel::Scratch;

pub(super) fn spawn(
    index: usize,
    shared: Arc<Shared>,
    ids: UlidSource,
) -> io::Result<(mpsc::UnboundedSender<Job>, JoinHandle<()>)> {
    // acceptor --accepted connections, of each group as many as may wait--> worker
    let (job_tx, job_rx) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("nodetap-data-{index}")).spawn(move || {
        let desks = Desks {
            shared: Arc::clone(&shared),
            scratch: Rc::default(),
            ids: Rc::new(RefCell::new(ids)),
            open: Rc::default(),
        };
        let local = LocalSet::new();
        local.spawn_local(pulse(index, shared));
        local.block_on(&runtime, run(desks, job_rx));
    })?;
    Ok((job_tx, thread))
}

/// Ends when the acceptor is gone and no connection is left.
async fn run(desks: Desks, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Cancel-safe per docs on `recv` and `join_next`.
            job = jobs.recv() => match job {
                Some(job) => _ = connections.spawn_local(begin(desks.of(&job.seat.group), job)),
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn begin(desk: Rc<Desk>, Job { stream, route, accepted, mut seat }: Job) {
    seat.begin();
    serve(&desk, stream, route, accepted).await;
    // Its last record has been written: only now it is no longer counted as open.
    drop(seat);
}

/// The desks of a worker.
struct Desks {
    shared: Arc<Shared>,
    scratch: Rc<Scratch>,
    ids: Rc<RefCell<UlidSource>>,
    open: Rc<RefCell<HashMap<u64, Rc<Desk>>>>,
}

impl Desks {
    /// The desk of a group, which stands until the group ends.
    fn of(&self, group: &Arc<State>) -> Rc<Desk> {
        if let Some(desk) = self.open.borrow().get(&group.id) {
            return Rc::clone(desk);
        }
        let (scratch, ids) = (Rc::clone(&self.scratch), Rc::clone(&self.ids));
        let desk = Rc::new(Desk::new(Arc::clone(&self.shared), Arc::clone(group), scratch, ids));
        self.open.borrow_mut().insert(group.id, Rc::clone(&desk));
        let (watched, open) = (Rc::clone(&desk), Rc::clone(&self.open));
        spawn_local(async move {
            watched.watch_for_cut().await;
            watched.cut_all();
            open.borrow_mut().remove(&watched.group.id);
        });
        desk
    }
}

async fn pulse(index: usize, shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(PULSE);
    loop {
        interval.tick().await;
        shared.pulse(index);
    }
}
