//! Trust stores as PKCS #12 (RFC 7292) with the attribute by which Java knows a trusted certificate. It refuses to know
//! about keys.

use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use rustls::pki_types::CertificateDer;

/// Iterations of the key derivations. What they protect is public, and the password is known to everybody; it is Java's
/// own number for the MAC of stores with certificates only.
const ITERATIONS: u32 = 2048;

/// Why there is no such store.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(#[from] p12_keystore::error::Error);

/// Writes a store of trusted certificates with their aliases.
///
/// # Errors
/// When one of them is no certificate.
pub fn encode(entries: &[(String, CertificateDer<'static>)], password: &str) -> Result<Vec<u8>, Error> {
    let mut store = KeyStore::new();
    for (alias, certificate) in entries {
        store.add_entry(alias, KeyStoreEntry::Certificate(Certificate::from_der(certificate)?));
    }
    Ok(store.writer(password).encryption_iterations(ITERATIONS).mac_iterations(ITERATIONS).write()?)
}

/// Reads the certificates that Java trusts in it.
///
/// # Errors
/// When it is no such store, or the password is another one.
pub fn decode(bytes: &[u8], password: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let store = KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Strict)?;
    let certificates = store.entries().filter_map(|(_, entry)| match entry {
        KeyStoreEntry::Certificate(certificate) => Some(CertificateDer::from(certificate.as_der().to_vec())),
        KeyStoreEntry::PrivateKeyChain(_) | KeyStoreEntry::Secret(_) => None,
    });
    Ok(certificates.collect())
}
