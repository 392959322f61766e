//! Records on disk: [`Recorder`] writes them and is never in the way, [`read`] reads a folder of them in time order,
//! [`follow`] reads what is added to it. What a record is and how it is encoded is `nodetap_core`'s business.
//!
//! A folder holds segments (`<ULID>.open` while it is written, `.seg` when sealed) and, when something was lost, one
//! ledger of losses a run (`<ULID>-losses.open` or `.seg`), which is a segment too. A writer holds a lock (`flock`) on
//! its open files as long as it lives.

pub mod folder;
pub mod follow;
mod ledger;
pub mod lines;
mod losses;
mod medium;
mod observe;
mod queue;
pub mod read;
mod recorder;
mod recover;
#[cfg(test)]
mod tests;
mod writer;

pub use medium::{Disk, Medium, Owner, Sink, create_private};
pub use observe::{Observer, Unseen};
pub use recorder::{Recorder, Recording, Settings, SoFar, Totals};

/// Extension of a segment that is being written.
pub(crate) const OPEN: &str = "open";
/// Extension of a sealed segment.
pub(crate) const SEALED: &str = "seg";
/// What the name of a ledger of losses ends with, before its extension.
pub(crate) const LEDGER: &str = "-losses";
