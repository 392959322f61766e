//! The explicit forward proxy: what a client asks of it before its bytes are a tunnel's or an HTTP request's. One port
//! serves HTTP, CONNECT (over HTTP/1 and HTTP/2) and SOCKS 4, 4a and 5, told apart by their first bytes. It refuses to
//! know how a tunnel pumps and who records.
//!
//! Reading order: [`ask`] negotiates and leaves the socket as if it had not been read beyond that, [`names`] resolves as
//! the target would, [`reach`] connects, and [`http`] is the one true proxy, for requests in absolute form.

pub mod ask;
pub mod authority;
pub mod http;
pub mod names;
pub mod reach;

mod connect;
mod peek;
mod sniff;
mod socks;
