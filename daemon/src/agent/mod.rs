//! `nodetap agent`: captures the pods of one node that asked for it.
//!
//! It is two processes. The keeper ([`keeper`]) holds what must not be lost and does nothing else; the worker
//! ([`worker`]) does everything. They speak over a socket ([`wire`]). In the worker one thread decides and acts
//! ([`supervisor`]); others tell it what happens; [`view`] is what they may see of it.

mod admin;
mod explicit;
mod failure;
mod held;
mod keeper;
mod left_alone;
mod link;
mod metrics;
pub mod options;
mod privileges;
mod remembered;
mod secrets;
mod serve;
mod stats;
mod steered;
mod supervisor;
mod view;
mod wire;
mod worker;

use std::os::fd::AsFd as _;
use std::time::{SystemTime, UNIX_EPOCH};

pub use failure::Failure;
pub use options::Agent;

use self::wire::Channel;
use crate::capture::Pins;

/// Captures until it is told to end.
///
/// # Errors
/// When it cannot begin.
pub fn agent(options: &Agent) -> Result<u8, Failure> {
    if options.unpin {
        return unpin(options);
    }
    let node = options.node().map_err(Failure::Usage)?;
    match options.worker {
        true => worker::work(options, node, Some(channel()?)),
        // Nothing is done, so nothing has to be kept.
        false if options.dry_run => worker::work(options, node, None),
        false => {
            let settings = keeper::Settings {
                directory: options.run.clone(),
                grace: options.grace,
                worker_option: options::WORKER,
            };
            keeper::keep(&settings).map(|()| 0).map_err(Failure::internal("keep the agent's listeners"))
        }
    }
}

/// Nobody of us is to come back to this node.
fn unpin(options: &Agent) -> Result<u8, Failure> {
    if options.pins.exists() {
        let pins = Pins::open(&options.pins).map_err(Failure::internal("use the folder of --pins"))?;
        pins.pods().iter().for_each(|uid| drop(pins.replace(uid, None)));
        std::fs::remove_dir(&options.pins).map_err(Failure::internal("remove the folder of --pins"))?;
    }
    Ok(0)
}

/// The keeper's channel is our standard input.
fn channel() -> Result<Channel, Failure> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    socket.map(Channel::over).map_err(Failure::internal("use the keeper's channel"))
}

/// Microseconds since 1970.
fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
