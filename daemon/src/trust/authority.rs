//! The authority that opens TLS in a cluster, as the values of the Secret that it stands in: made once, by whoever needs
//! it first, and never replaced by us, because pods trust it. It refuses to know how Secrets are read and written.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::{Ca, ca, pem};

/// The Secret, in our own namespace.
pub const SECRET: &str = "nodetap-ca";
/// Keys of the Secret: the certificate, which may be followed by those above it, and its key.
pub const CERTIFICATE: &str = "tls.crt";
pub const KEY: &str = "tls.key";
/// Whom it names.
const NAME: &str = "nodetap";
/// How long it is valid.
const DAYS: u32 = 3650;

/// Makes one. `random` makes its serial number.
///
/// # Errors
/// When the machine gives no randomness.
pub fn make(now: SystemTime, random: u128) -> Result<BTreeMap<String, Vec<u8>>, ca::Error> {
    let ca = Ca::generate(NAME, DAYS, now, random)?;
    let certificate = (CERTIFICATE.to_owned(), pem::encode(&ca.chain).into_bytes());
    Ok(BTreeMap::from([certificate, (KEY.to_owned(), ca.key.serialize_pem().into_bytes())]))
}

/// The certificates in the Secret: what may be published.
pub fn certificates(secret: &BTreeMap<String, Vec<u8>>) -> Vec<CertificateDer<'static>> {
    secret.get(CERTIFICATE).map(|text| pem::decode(text)).unwrap_or_default()
}
