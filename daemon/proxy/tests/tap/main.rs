//! What the tap makes of bytes, through its public face only.

#[path = "../corpus/http1/mod.rs"]
mod corpus;
mod drive;
mod every_case;
mod http2;
mod interleaved;
mod limits;
mod messages;
mod mutations;
mod peers;
mod records;
mod tls;
