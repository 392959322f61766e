//! Our side towards clients: one set of settings, so that tickets are good for all connections of a daemon. It refuses
//! to know whose certificate it shows. A session is resumed for the server name it was made for and no other (rustls
//! compares them, as RFC 6066 §3 demands), and 0-RTT is not accepted.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Error;
use super::pair::provider;
use super::session::Session;

/// Makes server sessions.
#[derive(Debug)]
pub(crate) struct Acceptor(ServerConfig);

impl Acceptor {
    pub(super) fn new() -> Result<Self, Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::Setup)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Nothing));
        // Most clients name AES-256 first without a need for it.
        config.ignore_client_order = true;
        config.ticketer = Ticketer::new().map_err(Error::Setup)?;
        Ok(Self(config))
    }

    /// Shows `pair` and agrees to `alpn`, or to no protocol.
    pub(crate) fn accept(&self, pair: Arc<CertifiedKey>, alpn: Option<&[u8]>) -> Result<Session, Error> {
        // A copy is cheap: what matters in it is behind pointers.
        let mut config = self.0.clone();
        config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
        config.cert_resolver = Arc::new(One(pair));
        Session::server(config).map_err(Error::Setup)
    }
}

#[derive(Debug)]
struct Nothing;

impl ResolvesServerCert for Nothing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
