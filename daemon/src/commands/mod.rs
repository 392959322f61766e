//! The commands that read recordings, here or in a cluster, the ones that pause and resume capture in a cluster, the
//! one that says what manifests ask for, and the one that keeps our certificate authority. Each is a struct of arguments and a function that gives the exit code.

pub mod ca;
pub mod export;
pub mod lint;
pub mod ls;
mod names;
pub(crate) mod output;
pub mod pause;
pub(crate) mod remote;
mod select;
pub mod show;
pub mod tail;

pub use output::{Failure, report};
