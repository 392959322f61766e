//! The thread without whose sign of life the hooks step aside.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nodetap_proxy::engine::Liveness;

use crate::probes::Heartbeat;

/// Twice a second, as the hooks expect.
const BEAT: Duration = Duration::from_millis(500);
/// A data plane that has not moved for so long is not given connections.
const HUNG: Duration = Duration::from_millis(1500);

/// It ends when this is dropped; the hooks step aside two seconds later.
#[derive(Debug)]
pub(super) struct Beating {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beating {
    /// Gives the first heartbeat, and keeps it up for as long as the data plane runs.
    pub(super) fn start(heartbeat: Heartbeat, liveness: Liveness) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        heartbeat.beat().map_err(io::Error::other)?;
        let thread = {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new().name("nodetap-beat".into()).spawn(move || beat(&heartbeat, &liveness, &stop))?
        };
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn beat(heartbeat: &Heartbeat, liveness: &Liveness, stop: &AtomicBool) {
    let mut hung = false;
    while !stop.load(Ordering::Relaxed) {
        let now_hung = liveness.silence() >= HUNG;
        let told = if now_hung { heartbeat.stop() } else { heartbeat.beat() };
        if let Err(error) = told {
            tracing::error!(%error, "cannot write the heartbeat: the hooks will step aside");
        }
        if now_hung && !hung {
            tracing::error!("the data plane hangs: new connections go past it until it runs again");
        }
        hung = now_hung;
        std::thread::park_timeout(BEAT);
    }
}
