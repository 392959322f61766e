//! What TLS of a target's own calls is opened with: our authority towards the client, roots and perhaps a certificate
//! towards the server. Shared by all connections, because sessions are resumed across them. It refuses to know sockets.

use std::cell::Cell;
use std::sync::Arc;

use nodetap_core::filter::Glob;
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use super::pair::provider;
use super::server::Acceptor;
use super::session::Session;
use super::tickets::Tickets;
use super::verdicts::Verdicts;
use super::{Authority, Error, Pair};

/// How outbound TLS is opened. One of it for all targets that share authority, roots and client certificate.
#[derive(Debug)]
pub struct Outbound {
    pub(crate) authority: Authority,
    pub(crate) verdicts: Verdicts,
    pub(crate) acceptor: Acceptor,
    connector: Connector,
    left_alone: Vec<Glob>,
}

impl Outbound {
    /// `roots`: whom servers are verified against. `identity`: shown to servers that ask for a client certificate;
    /// without one, what they serve is passed through.
    ///
    /// # Errors
    /// When there are no roots, or no random bytes.
    pub fn new(authority: Authority, roots: RootCertStore, identity: Option<Pair>) -> Result<Self, Error> {
        let connector = Connector::new(Verification::Roots(roots), identity)?;
        Ok(Self {
            authority,
            verdicts: Verdicts::default(),
            acceptor: Acceptor::new()?,
            connector,
            left_alone: Vec::new(),
        })
    }

    /// Passes these through: names as clients ask for them, or addresses where they ask for none.
    #[must_use]
    pub fn leaving(mut self, hosts: Vec<Glob>) -> Self {
        self.left_alone = hosts;
        self
    }

    pub(crate) fn leaves(&self, host: &str) -> bool {
        self.left_alone.iter().any(|pattern| pattern.matches(host))
    }

    pub(crate) fn connect(&self, name: ServerName<'static>, sni: bool, alpn: &[Vec<u8>]) -> Result<Session, Error> {
        self.connector.connect(name, sni, alpn)
    }
}

/// Against what a server is verified.
#[derive(Debug)]
pub(super) enum Verification {
    Roots(RootCertStore),
    /// It is the application itself that we stand in front of.
    None,
}

/// Makes client sessions that share what can be resumed.
#[derive(Debug)]
pub(super) struct Connector(ClientConfig);

impl Connector {
    pub(super) fn new(verification: Verification, identity: Option<Pair>) -> Result<Self, Error> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::Setup)?;
        let builder = match verification {
            Verification::Roots(roots) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
                builder.with_webpki_verifier(verifier.build().map_err(Error::Roots)?)
            }
            Verification::None => builder.dangerous().with_custom_certificate_verifier(super::unverified::any()),
        };
        let identity = Identity(identity.map(|pair| pair.certified()));
        let mut config = builder.with_client_cert_resolver(Arc::new(identity));
        config.resumption = Resumption::store(Arc::new(Tickets::default()));
        Ok(Self(config))
    }

    /// Offers exactly this; what the sessions share is behind pointers, so that a copy of the settings is cheap.
    pub(super) fn connect(&self, name: ServerName<'static>, sni: bool, alpn: &[Vec<u8>]) -> Result<Session, Error> {
        let mut config = self.0.clone();
        config.alpn_protocols = alpn.to_vec();
        config.enable_sni = sni;
        Session::client(config, name).map_err(Error::Setup)
    }
}

thread_local! {
    /// A server asked for a client certificate that we have not got. It is asked for in the middle of a call into
    /// rustls, which is made and returns on one thread; a resolver for each connection would keep sessions from being
    /// resumed (rustls compares it by its address).
    static WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs one call into a client session, and tells whether a client certificate was missing in it.
pub(super) fn watching_for_certificate<T>(call: impl FnOnce() -> T) -> (T, bool) {
    WANTED.set(false);
    let result = call();
    (result, WANTED.get())
}

#[derive(Debug)]
struct Identity(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let fitting = self.0.as_ref().filter(|pair| pair.key.choose_scheme(schemes).is_some());
        WANTED.set(fitting.is_none());
        fitting.cloned()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}
