//! The pods of this node without the help of a network plugin or a container runtime: their control groups, their
//! processes, their network namespaces. It refuses to know which pods are wanted, and never asks an API server.

mod container;
mod find;
mod mounts;
mod names;
mod process;
mod processes;
mod tree;
mod watches;

#[cfg(test)]
mod tests;

pub use container::Container;
pub use find::{Finder, Found, Verdict, Why};
pub use names::{CONFIG_HASH, ContainerId, Place, PodUid};
pub use process::Proc;
pub use processes::{Process, Processes};
pub use tree::{Counts, Error, Event, Limits, Tree};
