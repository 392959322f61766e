//! How many files this process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a tunnel for each of the command's own files takes, and more.
const FILES: u64 = 1 << 20;

/// Lets this process open many files: a tunnel takes two, whatever the command's own limit is. Returns the limits as
/// they were, for the command.
pub(crate) fn raise_limit() -> Option<(u64, u64)> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let higher = maximum.map_or(FILES, |maximum| maximum.max(FILES));
    // A higher hard limit is root's to take; everybody may go up to the one that is set.
    for limit in [Some(higher), maximum] {
        if setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).is_ok() {
            return current.zip(maximum);
        }
    }
    None
}
