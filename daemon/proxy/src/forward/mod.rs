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

/// Reads a client's first bytes in every way that there is; `false`: a reader took more bytes than there were. Nothing
/// but a fuzz target calls it.
#[doc(hidden)]
pub fn reads_within(bytes: &[u8]) -> bool {
    let _ = sniff::tell(bytes);
    let asked = [socks::request4(bytes), socks::request5(bytes)].map(|read| read.ok().flatten().map(|(_, used)| used));
    let others = [
        socks::greeting(bytes).ok().flatten().map(|(_, used)| used),
        socks::credentials(bytes).ok().flatten().map(|(_, used)| used),
        connect::parse(bytes).ok().flatten().map(|connect| connect.length),
    ];
    asked.into_iter().chain(others).flatten().all(|used| used <= bytes.len())
}
