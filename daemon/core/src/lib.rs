//! What nodetap knows and decides, without doing anything: no I/O, no clock, no threads, no randomness of its own
//! (its `Cargo.toml` is the proof). Everything here can be tested with values alone.
//!
//! Reading order: [`ulid`] names things, [`exchange`] is what the data plane produces, [`head`] and [`url`] read what
//! is in it, [`redact`] takes secrets out, [`segment`] is how it lies on disk, [`record`] how it is shown as JSON.
//! [`pod`] stands apart: what becomes of a pod that asks to be captured; and [`mesh`]: what that takes beside Istio;
//! [`checkup`] says of both what there is to say to whoever asks.

pub mod checkup;
pub mod curl;
pub mod decode;
pub mod excerpt;
pub mod exchange;
pub mod filter;
pub mod grpc;
pub mod har;
pub mod head;
pub mod json;
pub mod line;
pub mod mesh;
pub mod page;
pub mod pod;
pub mod protobuf;
pub mod record;
pub mod redact;
pub mod row;
#[cfg(test)]
mod samples;
pub mod segment;
pub mod selector;
pub mod size;
pub mod style;
pub mod table;
pub mod target;
pub mod text;
pub mod time;
pub mod ulid;
pub mod url;
