//! A certificate chain with its private key, as PEM files hold them. It refuses to know where the files are.

use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Error;

/// Somebody's certificate and key: of a server that we are, or of a client.
#[derive(Debug, Clone)]
pub struct Pair(Arc<CertifiedKey>);

impl Pair {
    /// `chain`: the certificate first, then what leads from it to its root. `key`: PKCS#8, PKCS#1 or SEC1, not encrypted.
    ///
    /// # Errors
    /// When one of them is no PEM, cannot be read, or they do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(Error::Key)?;
        CertifiedKey::from_der(chain, key, &provider()).map(|pair| Self(Arc::new(pair))).map_err(Error::Pair)
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

/// At least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(Error::Certificate)?;
    if chain.is_empty() { Err(Error::NoCertificate) } else { Ok(chain) }
}

/// TLS 1.2 and 1.3 with AEAD and forward secrecy only; post-quantum key exchange preferred. AES-128 comes first, as with
/// browsers and Go: a handshake with SHA-384, which few processors compute by themselves, takes a tenth longer.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| !with_aes_128(suite.suite()));
        Arc::new(provider)
    }))
}

fn with_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}
