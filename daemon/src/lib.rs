//! The daemon and the command line.

pub mod commands;
pub mod store;
