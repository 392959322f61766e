//! What nodetap knows and decides, without doing anything: no I/O, no clock, no threads, no randomness of its own
//! (its `Cargo.toml` is the proof). Everything here can be tested with values alone.
//!
//! Reading order: [`ulid`] names things, [`exchange`] is what the data plane produces, [`head`] reads the heads in it,
//! [`redact`] takes secrets out, [`segment`] is how it lies on disk.

pub mod exchange;
pub mod head;
pub mod redact;
pub mod segment;
pub mod ulid;
