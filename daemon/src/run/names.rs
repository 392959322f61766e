//! Keeps up with the addresses of names that are left alone, for as long as the command runs.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nodetap_core::exchange::Direction;

use crate::capture::ignored::IgnoredHosts;
use crate::capture::{Ignore, Ignoring};

/// How often names are looked up again.
const RESOLVE: Duration = Duration::from_secs(30);

/// The thread ends some time after this is dropped: a resolver may take its time, and nobody waits for it.
#[derive(Debug)]
pub(super) struct Following(Arc<AtomicBool>);

impl Following {
    /// `None`: there is no name.
    pub(super) fn start(
        hosts: IgnoredHosts,
        ports: BTreeSet<u16>,
        ignoring: Arc<Ignoring>,
    ) -> io::Result<Option<Self>> {
        if !hosts.has_names() {
            return Ok(None);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let follow = {
            let stop = Arc::clone(&stop);
            move || follow(hosts, &ports, &ignoring, &stop)
        };
        std::thread::Builder::new().name("nodetap-names".into()).spawn(follow)?;
        Ok(Some(Self(stop)))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn follow(mut hosts: IgnoredHosts, ports: &BTreeSet<u16>, ignoring: &Ignoring, stop: &AtomicBool) {
    loop {
        std::thread::sleep(RESOLVE);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        hosts.refresh();
        let now = Ignore { prefixes: hosts.prefixes(), ports: ports.clone() };
        for direction in [Direction::Inbound, Direction::Outbound] {
            if let Err(error) = ignoring.set(direction, &now) {
                tracing::warn!(%error, "--ignore-host: the kernel's list does not take all addresses");
            }
        }
    }
}
