//! The daemon and the command line.
//!
//! Imports run downwards: what this machine offers ([`netlink`], [`netns`], [`cgroup`], [`child`], [`signals`], and upon
//! them [`kubepods`]) and what it is told of us ([`telemetry`]), then adapters ([`probes`]: the kernel programs,
//! [`store`]: records on disk, [`trust`]: certificates, [`cluster`]: the API server, [`query`]: records that are asked for
//! from afar), then what is built of them ([`capture`]: targets under the kernel programs, [`run`] on it, [`proxy`]: the
//! same without the kernel's part, [`agent`]: the pods of a node, [`controller`]: the cluster's API and what workloads
//! say, [`commands`], [`doctor`]), then [`app`], the only one that knows everyone.

pub mod agent;
pub mod app;
pub mod capture;
pub mod cgroup;
pub mod child;
pub mod cluster;
pub mod commands;
pub mod controller;
pub mod doctor;
pub mod kubepods;
pub mod netlink;
pub mod netns;
pub mod probes;
pub mod proxy;
pub mod query;
pub mod run;
pub mod signals;
pub mod store;
pub mod telemetry;
pub mod trust;
