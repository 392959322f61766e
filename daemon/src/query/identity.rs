//! How the controller and the agents know each other: certificates of one authority, which the controller makes and
//! keeps in Secrets of our namespace. An agent's certificate serves only, so that no agent can pass for the controller;
//! and it carries one name for all of them, because pods have addresses, not names.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::trust::pem;

/// The Secret of the agents, of the type `kubernetes.io/tls`.
pub const AGENT_SECRET: &str = "nodetap-agent-tls";
/// The name in every agent's certificate.
pub const AGENT_NAME: &str = "agent.nodetap.internal";
/// Keys of the Secrets: our certificate, its key, and the authority's certificates.
pub const CERTIFICATE: &str = "tls.crt";
pub const KEY: &str = "tls.key";
pub const AUTHORITY: &str = "ca.crt";
/// The protocol of the agents' server.
const ALPN: &[u8] = b"http/1.1";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} holds no certificate in PEM")]
    NoCertificate(&'static str),
    #[error("{KEY} holds no private key in PEM")]
    NoKey,
    #[error("certificate and key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{AUTHORITY} cannot be trusted: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What a Secret of ours holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub authority: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// `get` gives the value of a key.
    ///
    /// # Errors
    /// When a part is missing or is not what it should be.
    pub fn read<'a>(get: impl Fn(&'static str) -> Option<&'a [u8]>) -> Result<Self, Error> {
        let certificates = |key| {
            let found = pem::decode(get(key).ok_or(Error::Missing(key))?);
            if found.is_empty() { Err(Error::NoCertificate(key)) } else { Ok(found) }
        };
        let key = get(KEY).ok_or(Error::Missing(KEY))?.to_vec();
        PrivateKeyDer::from_pem_slice(&key).map_err(|_| Error::NoKey)?;
        Ok(Self { chain: certificates(CERTIFICATE)?, authority: certificates(AUTHORITY)?, key })
    }

    /// For an agent: whoever connects has a certificate of the same authority that may be a client's.
    ///
    /// # Errors
    /// When the parts do not fit together.
    pub fn serving(&self) -> Result<ServerConfig, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider()).build()?;
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config =
            builder.with_client_cert_verifier(verifier).with_single_cert(self.chain.clone(), self.private_key()?)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A renewed authority counts from the next connection on.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// For the controller: the agents' certificates are of the same authority.
    ///
    /// # Errors
    /// When the parts do not fit together.
    pub fn asking(&self) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(self.roots());
        let mut config = builder.with_client_auth_cert(self.chain.clone(), self.private_key()?)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    /// The key, to serve with it.
    ///
    /// # Errors
    /// When it is none.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| Error::NoKey)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.authority.iter().cloned());
        roots
    }
}

/// The name that every agent's certificate is checked for.
pub fn agent_name() -> Result<ServerName<'static>, Error> {
    ServerName::try_from(AGENT_NAME).map_err(|_| Error::Missing(AGENT_NAME))
}

/// The cryptography of all our TLS.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
