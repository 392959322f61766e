//! A worker: one thread, one runtime, one read buffer, and the connections that were dealt to it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use nodetap_core::ulid::UlidSource;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

use super::connection::serve;
use super::desk::{Desk, Job};
use super::{PULSE, QUEUE, Shared};

pub(super) fn spawn(
    index: usize,
    shared: Arc<Shared>,
    ids: UlidSource,
) -> io::Result<(mpsc::Sender<Job>, JoinHandle<()>)> {
    // acceptor --accepted connections--> worker
    let (job_tx, job_rx) = mpsc::channel(QUEUE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("nodetap-data-{index}")).spawn(move || {
        let desk = Rc::new(Desk::new(shared, ids));
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
            _ = cut.wait_for(|cut| *cut), if !desk.is_cutting() => desk.cut_all(),
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
