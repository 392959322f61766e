//! TLS opened: a handshake with the server first, then one with the client that offers what the server chose, and a
//! tunnel of plaintext between them. What cannot be opened safely is passed through untouched, and [`Reason`] says why
//! (law 7: TLS fails open). It refuses to know where certificates come from, and what is spoken inside.
//!
//! Reading order: [`Policy`] is what steering says of a connection, [`Outbound`] and [`Inbound`] are what it is said
//! with, [`authority`] makes certificates, [`leg`] is a socket with or without TLS on it, [`pump`] the tunnel of two.

mod authority;
pub(crate) mod handshake;
pub(crate) mod hello;
mod inbound;
pub(crate) mod leg;
mod outbound;
mod pair;
pub(crate) mod pump;
mod recent;
mod server;
pub(crate) mod session;
mod tickets;
mod unverified;
mod verdicts;

use std::sync::Arc;

pub use authority::Authority;
pub use inbound::{Inbound, Upstream};
pub use outbound::Outbound;
pub use pair::Pair;
pub(crate) use pump::Pump;

/// Why TLS was not opened: taps tell it, and so it is one of their words.
pub use crate::tap::Reason;

/// Reads the beginning of a client's bytes as the interception does; `false`: its ClientHello is longer than they are.
/// Nothing but a fuzz target calls it.
#[doc(hidden)]
pub fn reads_within(bytes: &[u8]) -> bool {
    hello::length(bytes).is_none_or(|length| length <= bytes.len())
}

/// What is done with TLS on a connection.
#[derive(Debug, Clone, Default)]
pub enum Policy {
    /// It is passed through.
    #[default]
    Untouched,
    /// It is opened with a certificate of our own authority, where nothing breaks by that. What is not TLS is tunnelled
    /// as ever.
    Open(Arc<Outbound>),
    /// It ends here, with the user's own certificate. What is not TLS is closed.
    Terminate(Arc<Inbound>),
}

/// Why certificates, keys or settings cannot be used. Nothing here names a key's bytes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no certificate in it")]
    NoCertificate,
    #[error("the certificates cannot be read: {0}")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    #[error("the private key cannot be read (it must be PEM, and not encrypted): {0}")]
    Key(#[source] rustls::pki_types::pem::Error),
    #[error("certificate and key cannot be used together: {0}")]
    Pair(#[source] rustls::Error),
    #[error("the authority cannot sign: {0}")]
    Authority(#[source] rcgen::Error),
    #[error("what the authority signs would not verify: {0}")]
    Unfit(#[source] rustls::Error),
    #[error("the certificate may not sign others (RFC 5280 §4.2.1.9): it is no authority's")]
    NoAuthority,
    #[error("the authority has expired")]
    Expired,
    #[error("no certificate can be made for such a name")]
    Name,
    #[error("the kernel gives no random bytes")]
    Random,
    #[error("no server can be verified: {0}")]
    Roots(#[source] rustls::client::VerifierBuilderError),
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}
