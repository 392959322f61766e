//! What needs a kubelet: containers from images, Deployments and DaemonSets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

mod capabilities;
mod deployed;
mod harness;
mod published;
mod rollout;
mod shipped;
mod uninstalled;
