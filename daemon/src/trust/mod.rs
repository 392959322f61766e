//! Whom we trust, and how the target comes to trust us: our certificate authority's files ([`ca`]) or, in a
//! cluster, its Secret ([`authority`]), the roots that this machine and this user trust ([`roots`]), trust stores in the forms that programs read ([`pem`], [`jks`], [`pkcs12`]),
//! and the environment of a command that is to trust our authority besides all that it trusts already
//! ([`environment`], [`folder`]). [`options`] is what the command line says about all this.
//!
//! It refuses to know how TLS is opened: that is the data plane's.

pub mod authority;
pub mod ca;
pub mod certificate;
pub mod environment;
pub mod folder;
pub mod java;
pub mod jks;
pub mod options;
pub mod pem;
pub mod pkcs12;
pub mod roots;

#[cfg(test)]
mod tests;

pub use ca::Ca;
pub use java::JAVA_PASSWORD;
pub use options::{InboundOptions, Options, Renewing, Served};
pub use roots::Roots;
