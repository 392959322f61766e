//! What the tests of the whole stand on: nodetap as a process, real programs as its peers, raw servers that do what a
//! script says, and records read back through nodetap's own command line. It knows nodetap from outside only: its
//! arguments, exit codes, output and files.
//!
//! Everything that is started here is ended when its value is dropped, also when a test panics.

pub mod agent;
pub mod bars;
pub mod client;
pub mod clients;
pub mod cluster;
pub mod controller;
pub mod folder;
pub mod hearing;
pub mod http;
pub mod https;
pub mod installed;
pub mod leftovers;
pub mod load;
pub mod machine;
pub mod matrix;
pub mod memory;
pub mod mesh;
pub mod netns;
pub mod nodetap;
pub mod origin;
pub mod peers;
pub mod process;
pub mod proxy;
pub mod records;
pub mod run;
pub mod seen;
pub mod server;
pub mod streams;
pub mod wait;
