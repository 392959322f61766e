//! What needs the kernel: `nodetap run` on real programs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

mod aborts;
mod choices;
mod clients;
mod endings;
mod inbound;
mod lifecycle;
mod listening;
mod outage;
mod outbound;
mod passed;
mod protocols;
mod refusal;
mod routes;
mod storage;
mod streams;
mod support;
mod tls;
mod urgent;
