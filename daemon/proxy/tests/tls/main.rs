//! TLS that is opened, passed through or ended by a running engine, with peers on loopback: rustls on blocking sockets,
//! and openssl where an older TLS is wanted. It refuses to look inside the engine: only bytes and records count.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod ends;
mod flights;
mod harness;
mod opened;
mod passed;
mod terminated;
