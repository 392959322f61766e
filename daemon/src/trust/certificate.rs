//! What has to be known about one certificate (RFC 5280): its names and times, its fingerprints, and whether it may sign
//! others. It judges no chain: that is whoever verifies.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

/// Why it cannot be told what a certificate says.
#[derive(Debug, thiserror::Error)]
#[error("not a certificate: {0}")]
pub struct Error(String);

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub subject: String,
    /// Not before and not after (RFC 5280 §4.1.2.5), in seconds since 1970-01-01 UTC.
    pub validity: (i64, i64),
    /// SHA-256 of the whole certificate.
    pub fingerprint: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo in base64, as `curl --pinnedpubkey` and RFC 7469 §2.4 have it.
    pub pin: String,
    /// The public key's bits, without its algorithm.
    pub public_key: Vec<u8>,
    /// Both names as they are encoded, to compare.
    pub subject_der: Vec<u8>,
    pub issuer_der: Vec<u8>,
    /// Basic constraints say CA, and key usage, if there is one, allows to sign certificates (RFC 5280 §4.2.1.3, §4.2.1.9).
    pub may_sign: bool,
    /// What OpenSSL calls its file in a directory of certificates, without the `.0` (openssl-rehash(1)).
    pub openssl_hash: String,
}

impl Facts {
    /// Reads one certificate in DER.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(der: &[u8]) -> Result<Self, Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| Error(error.to_string()))?;
        let usage = certificate.key_usage().map_err(|error| Error(error.to_string()))?;
        Ok(Self {
            subject: certificate.subject().to_string(),
            validity: (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp()),
            fingerprint: sha256(der),
            pin: STANDARD.encode(sha256(certificate.public_key().raw)),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            subject_der: certificate.subject().as_raw().to_vec(),
            issuer_der: certificate.issuer().as_raw().to_vec(),
            may_sign: certificate.is_ca() && usage.is_none_or(|usage| usage.value.key_cert_sign()),
            openssl_hash: openssl_hash(certificate.subject()),
        })
    }
}

/// A fingerprint as OpenSSL prints it: `AB:CD:…`.
pub fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// OpenSSL's `X509_NAME_hash`: the first four bytes, the least significant first, of the SHA-1 of the name in canonical
/// form: text as UTF-8 in lower case, blanks at its ends cut off and runs of them made one, without the outer SEQUENCE.
fn openssl_hash(name: &X509Name<'_>) -> String {
    let mut canonical = Vec::new();
    for set in name.iter_rdn() {
        canonical.extend(yasna::construct_der(|writer| {
            writer.write_set_of(|writer| {
                for attribute in set.iter() {
                    writer.next().write_sequence(|writer| {
                        let oid: Vec<u64> = attribute.attr_type().iter().into_iter().flatten().collect();
                        writer.next().write_oid(&yasna::models::ObjectIdentifier::from_slice(&oid));
                        match attribute.as_str() {
                            Ok(text) => writer.next().write_utf8_string(&folded(text)),
                            // Of a type that is no text, or that nobody uses for names: as it is.
                            Err(_) => writer.next().write_bytes(attribute.as_slice()),
                        }
                    });
                }
            });
        }));
    }
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &canonical);
    digest.as_ref().iter().take(4).rev().map(|byte| format!("{byte:02x}")).collect()
}

fn folded(text: &str) -> String {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    words.join(" ").to_ascii_lowercase()
}
