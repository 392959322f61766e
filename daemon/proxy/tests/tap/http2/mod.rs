//! What the tap makes of HTTP/2.

#![allow(clippy::unwrap_used, reason = "a helper of tests panics like the tests themselves")]

#[path = "../../corpus/http2/mod.rs"]
mod corpus;
mod every_case;
mod limits;
mod mutations;
mod records;
