//! What nodetap knows and decides, without doing anything: no I/O, no clock, no threads, no randomness of its own
//! (its `Cargo.toml` is the proof). Everything here can be tested with values alone.
//!
//! Reading order: [`ulid`] names things, [`exchange`] is what the data plane produces, [`head`] reads the
//! raw heads in it.

pub mod exchange;
pub mod head;
pub mod ulid;
