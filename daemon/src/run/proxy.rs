//! `nodetap proxy`: the same data plane and recording by hand, without kernel programs and without root.

use std::io::Write as _;
use std::sync::Arc;

use nodetap_proxy::engine::{Engine, Settings};
use nodetap_proxy::sink::{NoSink, Sink};
use nodetap_proxy::steering::Reverse;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::options::Proxy;
use super::recording::{self, Recording};
use super::{Failure, GRACE, listen, new_id, random, workers};

/// Serves until a signal says to end.
///
/// # Errors
/// When an address is taken, or the recording cannot begin.
pub fn proxy(options: &Proxy) -> Result<u8, Failure> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(Failure::internal("handle signals"))?;
    listen::raise_file_limit();
    let mut listeners = Vec::new();
    for reverse in &options.reverse {
        let address = reverse.listen;
        listeners.push(listen::bind(address).map_err(|source| Failure::Listen { address, source })?);
    }
    let (recording, sink): (Option<Recording>, Arc<dyn Sink>) = if options.no_record {
        (None, Arc::new(NoSink))
    } else {
        let (recording, sink) = Recording::start(&options.recording, "proxy", new_id(), None)?;
        (Some(recording), Arc::new(sink))
    };
    let upstreams = options.reverse.iter().map(|reverse| reverse.upstream).collect();
    let settings = Settings {
        workers: workers(options.recording.workers),
        limits: recording::limits(&options.recording),
        steering: Arc::new(Reverse { upstreams, target: "proxy".into() }),
        sink,
    };
    for (listener, reverse) in listeners.iter().zip(&options.reverse) {
        if let Ok(address) = listener.local_addr() {
            let _ = writeln!(
                std::io::stderr(),
                "nodetap proxy: listening on {address}, passing on to {}",
                reverse.upstream
            );
        }
    }
    let engine = Engine::start(listeners, settings, random).map_err(Failure::internal("start the data plane"))?;
    signals.forever().next();
    // A second signal means now.
    let drained = engine.drain(GRACE, || signals.pending().next().is_some());
    if let Some(recording) = recording {
        recording.end(&recording::Aftermath { others: 0, cut: drained.cut, strays: drained.strays, counts: None });
    }
    Ok(0)
}
