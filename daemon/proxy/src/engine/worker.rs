//! A worker: one thread, one runtime, one read buffer, and the connections that were dealt to it, by group: the groups
//! take turns, and the connections of each share its turn.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;

use nodetap_core::ulid::UlidSource;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet, yield_now};

use super::accept::{Acceptor, News};
use super::connection::{caught, serve};
use super::desk::{Desk, Job};
use super::group::State;
use super::{PULSE, Shared};
use crate::scratch::Scratch;

/// A worker that has no thread yet.
pub(super) struct Worker {
    index: usize,
    runtime: Runtime,
    jobs: mpsc::UnboundedReceiver<Job>,
}

impl Worker {
    /// With the queue in which it finds its connections.
    pub(super) fn new(index: usize) -> io::Result<(mpsc::UnboundedSender<Job>, Self)> {
        // acceptor --accepted connections, of each group as many as may wait--> worker
        let (job_tx, jobs) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok((job_tx, Self { index, runtime, jobs }))
    }

    /// Gives it the acceptor.
    pub(super) fn acceptor(
        &self,
        queues: Vec<mpsc::UnboundedSender<Job>>,
        shared: &Arc<Shared>,
        ids: UlidSource,
    ) -> io::Result<Acceptor> {
        let _in_it = self.runtime.enter();
        Acceptor::new(queues, self.index, Arc::clone(shared), ids)
    }

    pub(super) fn spawn(
        self,
        acceptor: Option<Acceptor>,
        shared: Arc<Shared>,
        ids: UlidSource,
    ) -> io::Result<JoinHandle<()>> {
        let Self { index, runtime, jobs } = self;
        std::thread::Builder::new().name(format!("nodetap-data-{index}")).spawn(move || {
            let desks = Desks {
                shared: Arc::clone(&shared),
                scratch: Rc::default(),
                ids: Rc::new(RefCell::new(ids)),
                open: Rc::default(),
                groups: JoinSet::new(),
            };
            let local = LocalSet::new();
            local.spawn_local(pulse(index, shared));
            local.block_on(&runtime, run(desks, jobs, acceptor));
        })
    }
}

/// Ends when the acceptor is gone and no connection is left.
async fn run(mut desks: Desks, mut jobs: mpsc::UnboundedReceiver<Job>, mut acceptor: Option<Acceptor>) {
    loop {
        tokio::select! {
            // Cancel-safe per docs on `recv` and `join_next`.
            job = jobs.recv() => match job {
                Some(job) => desks.begin(job),
                None => break,
            },
            Some(_) = desks.groups.join_next() => {}
            news = news(&mut acceptor) => match (news, &mut acceptor) {
                (Ok(News::Some), Some(acceptor)) => {
                    acceptor.step(|job| desks.begin(job));
                    // Whatever more has come: first the connections have their turns.
                    yield_now().await;
                }
                (Ok(_), _) => acceptor = None,
                (Err(error), _) => {
                    tracing::error!(%error, "cannot wait for connections");
                    acceptor = None;
                }
            },
        }
    }
    while desks.groups.join_next().await.is_some() {}
}

/// Where there is no acceptor there are none.
async fn news(acceptor: &mut Option<Acceptor>) -> io::Result<News> {
    match acceptor {
        Some(acceptor) => acceptor.news().await,
        None => pending().await,
    }
}

async fn begin(desk: Rc<Desk>, Job { stream, route, accepted, mut seat }: Job) {
    seat.begin();
    caught(&desk, serve(&desk, stream, route, accepted)).await;
    // Its last record has been written: only now it is no longer counted as open.
    drop(seat);
}

/// The desks of a worker.
struct Desks {
    shared: Arc<Shared>,
    scratch: Rc<Scratch>,
    ids: Rc<RefCell<UlidSource>>,
    open: Rc<RefCell<HashMap<u64, Rc<Desk>>>>,
    /// What runs them.
    groups: JoinSet<()>,
}

impl Desks {
    /// Takes a connection up, in the next turn of its group.
    fn begin(&mut self, job: Job) {
        let desk = self.of(&job.seat.group);
        desk.turns.borrow_mut().add(begin(Rc::clone(&desk), job));
    }

    /// The desk of a group, which stands until the group ends.
    fn of(&mut self, group: &Arc<State>) -> Rc<Desk> {
        if let Some(desk) = self.open.borrow().get(&group.id) {
            return Rc::clone(desk);
        }
        let (scratch, ids) = (Rc::clone(&self.scratch), Rc::clone(&self.ids));
        let desk = Rc::new(Desk::new(Arc::clone(&self.shared), Arc::clone(group), scratch, ids));
        self.open.borrow_mut().insert(group.id, Rc::clone(&desk));
        self.groups.spawn_local(attend(Rc::clone(&desk), Rc::clone(&self.open)));
        desk
    }
}

/// Gives the connections of a desk their turns, until the group has ended and none of them is left.
async fn attend(desk: Rc<Desk>, open: Rc<RefCell<HashMap<u64, Rc<Desk>>>>) {
    let standing = Standing { group: desk.group.id, open };
    // Beside the turns and not in one of them: they may be long in coming.
    tokio::select! {
        () = turns(&desk, false) => {}
        () = desk.watch_for_cut() => {}
    }
    desk.cut_all();
    drop(standing);
    turns(&desk, true).await;
}

/// While it stands, connections of its group come to a desk. What may still be on its way here afterwards gets another
/// one, which ends at once; or serves the group, when it was a panic that ended the first.
struct Standing {
    group: u64,
    open: Rc<RefCell<HashMap<u64, Rc<Desk>>>>,
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.open.borrow_mut().remove(&self.group);
    }
}

/// `last`: no connection will be added.
async fn turns(desk: &Desk, last: bool) {
    poll_fn(|cx| {
        // Connections are added between turns, by the same thread.
        let polled = desk.turns.borrow_mut().poll(cx);
        if last && polled.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn pulse(index: usize, shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(PULSE);
    loop {
        interval.tick().await;
        shared.pulse(index);
    }
}
