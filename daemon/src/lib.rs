//! The daemon and the command line.
pub mod netlink;
pub mod probes;
pub mod cgroup;
pub mod child;
pub mod signals;
