//! The Kubernetes API server, as far as the agent and the controller speak to it: what is watched comes in as plain
//! values ([`pods`], [`namespaces`], [`pause`]), what is said goes out through one queue that never makes anybody wait
//! ([`report`]: conditions and events; [`lease`]: a sign of life).
//!
//! The API server may be away for as long as it likes: what was watched last stays what is known. Every failure is
//! counted and named by [`health`]. It refuses to know what is done with any of it.

pub mod backoff;
pub mod client;
pub mod condition;
pub mod events;
pub mod follow;
pub mod health;
pub mod lease;
pub mod namespaces;
pub mod pause;
pub mod pods;
pub mod report;
pub mod secrets;
pub mod services;

pub use client::{Connection, connect};
pub use follow::Change;
pub use health::Health;
