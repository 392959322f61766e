//! What the tap makes of HTTP/2.

#[path = "../../corpus/http2/mod.rs"]
mod corpus;
mod every_case;
mod limits;
mod mutations;
mod peers;
mod records;
