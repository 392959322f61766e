//! What anybody can test: the command line, and the data plane behind `nodetap proxy`, without privileges.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

mod autobahn;
mod ca;
mod clients;
mod command_line;
mod corpus;
mod forward_bad;
mod forward_http;
mod forward_programs;
mod forward_tunnels;
mod open_call;
mod peers;
mod recording;
mod streams;
mod testssl;
mod tls_options;
mod tunnel;
