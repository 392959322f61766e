//! A worker: one thread, one runtime, one read buffer, and the connections that were dealt to it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use nodetap_core::ulid::UlidSource;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::connection::serve;
use super::{PULSE, QUEUE, Shared};
use crate::steering::Destination;
use crate::tunnel::Scratch;

/// A connection on its way from the acceptor to a worker.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) stream: std::net::TcpStream,
    pub(super) destination: Destination,
}

/// What the connections of one worker share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) scratch: Scratch,
    pub(super) ids: RefCell<UlidSource>,
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
        let desk = Rc::new(Desk { shared, scratch: Scratch::default(), ids: RefCell::new(ids) });
        let local = LocalSet::new();
        local.spawn_local(pulse(index, Arc::clone(&desk.shared)));
        local.block_on(&runtime, run(desk, job_rx));
    })?;
    Ok((job_tx, thread))
}

/// Ends when the acceptor is gone and no connection is left.
async fn run(desk: Rc<Desk>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.recv().await {
        let desk = Rc::clone(&desk);
        tokio::task::spawn_local(async move {
            serve(&desk, job).await;
            desk.shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    let mut cut = desk.shared.cut.subscribe();
    let _ = cut.wait_for(|cut| *cut).await;
    // The connections were told the same; each of them needs one more turn to write its record.
    while Rc::strong_count(&desk) > 1 {
        tokio::task::yield_now().await;
    }
}

async fn pulse(index: usize, shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(PULSE);
    loop {
        interval.tick().await;
        if let Some(pulse) = shared.pulses.get(index) {
            pulse.store(shared.elapsed_ms(), Ordering::Relaxed);
        }
    }
}
