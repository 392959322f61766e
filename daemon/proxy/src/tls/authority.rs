//! The certificate authority whose leaves stand in for servers that are opened. Its key signs leaves and nothing else;
//! all leaves share one key of their own, made when the authority is loaded. It refuses to know where its files are and
//! what time it is.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};

use x509_parser::certificate::X509Certificate;

use super::Error;
use super::pair::{certificates, provider};
use super::recent::Recent;

/// A leaf is valid from so long ago: clocks of clients may be slow, and in other time zones.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);
/// To so far ahead, but never longer than the authority.
const VALID: Duration = Duration::from_secs(24 * 3600);
/// A cached leaf with less than this ahead of it is made anew.
const FRESH: Duration = Duration::from_secs(12 * 3600);
/// Leaves that are kept; one is about 1 KiB.
const LEAVES: usize = 1024;
/// Bytes of a serial number; RFC 5280 §4.1.2.2 allows 20.
const SERIAL: usize = 16;

/// Signs leaves.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What is sent after a leaf: the authority's certificate and what leads to its root.
    chain: Vec<CertificateDer<'static>>,
    /// Of the authority's own certificate.
    not_after: UnixTime,
    leaf_key: KeyPair,
    signer: Arc<dyn SigningKey>,
    leaves: Mutex<Recent<ServerName<'static>, Leaf>>,
}

#[derive(Debug)]
struct Leaf {
    pair: Arc<CertifiedKey>,
    not_after: UnixTime,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Authority {
    /// `chain`: PEM, the signing certificate first, then what leads from it to its root (the root itself may be left
    /// out). `key`: PEM of its private key, PKCS#8, PKCS#1 or SEC1, not encrypted.
    ///
    /// # Errors
    /// When one of them cannot be read, or when a leaf that it signs would not verify at `now`: it is no authority,
    /// has expired, is constrained to other names, or the key is not its own.
    pub fn from_pem(chain: &[u8], key: &[u8], now: UnixTime) -> Result<Self, Error> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(Error::Key)?;
        let key = KeyPair::try_from(key.secret_der()).map_err(Error::Authority)?;
        let own = chain.first().ok_or(Error::NoCertificate)?;
        let not_after = inspect(own)?;
        let issuer = Issuer::from_ca_cert_der(own, key).map_err(Error::Authority)?;
        let leaf_key = KeyPair::generate().map_err(Error::Authority)?;
        let der = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
        let signer = provider().key_provider.load_private_key(der).map_err(Error::Pair)?;
        let leaves = Mutex::new(Recent::new(LEAVES));
        let authority = Self { issuer, chain, not_after, leaf_key, signer, leaves };
        authority.prove(now)?;
        Ok(authority)
    }

    /// A certificate for `name` that is valid at `now`, with the key that all of them share.
    ///
    /// # Errors
    /// When the authority has expired, or cannot sign.
    pub fn leaf(&self, name: &ServerName<'static>, now: UnixTime) -> Result<Arc<CertifiedKey>, Error> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(name) {
            let until = leaf.not_after.as_secs().min(self.not_after.as_secs());
            if until > now.as_secs() + FRESH.as_secs() || (until == self.not_after.as_secs() && until > now.as_secs()) {
                return Ok(Arc::clone(&leaf.pair));
            }
        }
        let leaf = self.mint(name, now)?;
        let pair = Arc::clone(&leaf.pair);
        leaves.insert(name.clone(), leaf);
        Ok(pair)
    }

    fn mint(&self, name: &ServerName<'_>, now: UnixTime) -> Result<Leaf, Error> {
        if self.not_after.as_secs() <= now.as_secs() {
            return Err(Error::Expired);
        }
        let until = (now.as_secs() + VALID.as_secs()).min(self.not_after.as_secs());
        let mut params = CertificateParams::default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(now.as_secs().saturating_sub(BACKDATED.as_secs()));
        params.not_after = epoch + Duration::from_secs(until);
        params.serial_number = Some(serial()?);
        params.subject_alt_names = vec![alternative(name)?];
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer).map_err(Error::Authority)?;
        let chain = std::iter::once(leaf.der().clone()).chain(self.chain.iter().cloned()).collect();
        let pair = Arc::new(CertifiedKey::new(chain, Arc::clone(&self.signer)));
        Ok(Leaf { pair, not_after: UnixTime::since_unix_epoch(Duration::from_secs(until)) })
    }

    /// A leaf of it verifies against itself.
    fn prove(&self, now: UnixTime) -> Result<(), Error> {
        // Constraints are mostly to DNS names; the address of this host passes them.
        let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        let leaf = self.mint(&name, now)?;
        let [own, rest @ ..] = &leaf.pair.cert[..] else { return Err(Error::NoCertificate) };
        let mut roots = RootCertStore::empty();
        for certificate in &self.chain {
            roots.add(certificate.clone()).map_err(Error::Unfit)?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::Unfit(rustls::Error::General(error.to_string())))?;
        verifier.verify_server_cert(own, rest, &name, &[], now).map(drop).map_err(Error::Unfit)
    }
}

/// When it ends.
fn inspect(authority: &CertificateDer<'_>) -> Result<UnixTime, Error> {
    let (_, parsed) = x509_parser::parse_x509_certificate(authority)
        .map_err(|_| Error::Authority(rcgen::Error::CouldNotParseCertificate))?;
    // RFC 5280 §4.2.1.3, §4.2.1.9. Our own proof does not look at these, because it trusts the authority by definition.
    let may_sign = parsed.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
    if !parsed.is_ca() || !may_sign {
        return Err(Error::NoAuthority);
    }
    Ok(not_after(&parsed))
}

fn not_after(certificate: &X509Certificate<'_>) -> UnixTime {
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; SERIAL];
    provider().secure_random.fill(&mut bytes).map_err(|_| Error::Random)?;
    // A positive number without a leading zero (RFC 5280 §4.1.2.2).
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn alternative(name: &ServerName<'_>) -> Result<SanType, Error> {
    match name {
        ServerName::IpAddress(address) => Ok(SanType::IpAddress(IpAddr::from(*address))),
        ServerName::DnsName(name) => Ok(SanType::DnsName(DnsName::as_ref(name).try_into().map_err(Error::Authority)?)),
        _ => Err(Error::Name),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rcgen::{BasicConstraints, DnType};
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    use x509_parser::prelude::FromDer;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 24 * 3600;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn name(text: &str) -> ServerName<'static> {
        ServerName::try_from(text.to_owned()).unwrap()
    }

    /// Certificate and key of an authority that ends `days` after `NOW`.
    fn authority(days: u64, is_ca: IsCa) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = is_ca;
        params.distinguished_name.push(DnType::OrganizationName, "Älter & Söhne");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(NOW + days * DAY);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn load(days: u64) -> (Authority, String) {
        let (pem, key) = authority(days, IsCa::Ca(BasicConstraints::Unconstrained));
        (Authority::from_pem(pem.as_bytes(), key.as_bytes(), at(NOW)).unwrap(), pem)
    }

    #[test]
    fn a_leaf_is_what_clients_expect_of_one() {
        let (authority, pem) = load(1000);
        let own = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let own = X509Certificate::from_der(&own).unwrap().1;
        let leaf = authority.leaf(&name("a.test"), at(NOW)).unwrap();
        let leaf = X509Certificate::from_der(&leaf.cert[0]).unwrap().1;
        let (from, to) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        assert_eq!((from, to), ((NOW - DAY) as i64, (NOW + DAY) as i64));
        assert!(!leaf.is_ca() && leaf.subject().iter().next().is_none());
        assert_ne!(leaf.public_key().raw, own.public_key().raw);
        assert!(leaf.raw_serial()[0] & 0x80 == 0 && leaf.raw_serial().len() == SERIAL);
        let key_id = own.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        });
        let issuer_id = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
            _ => None,
        });
        assert!(key_id.is_some() && key_id == issuer_id);
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::DNSName("a.test")]);
    }

    #[test]
    fn a_leaf_is_kept_while_it_is_fresh_and_never_outlives_its_authority() {
        let (authority, _) = load(2);
        let first = authority.leaf(&name("a.test"), at(NOW)).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.leaf(&name("a.test"), at(NOW + DAY / 3)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &authority.leaf(&name("127.0.0.1"), at(NOW)).unwrap()));
        let second = authority.leaf(&name("a.test"), at(NOW + DAY)).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        let third = authority.leaf(&name("b.test"), at(NOW + 2 * DAY - 10)).unwrap();
        assert_eq!(not_after(&X509Certificate::from_der(&third.cert[0]).unwrap().1), at(NOW + 2 * DAY));
        assert!(Arc::ptr_eq(&third, &authority.leaf(&name("b.test"), at(NOW + 2 * DAY - 5)).unwrap()));
        assert!(matches!(authority.leaf(&name("b.test"), at(NOW + 2 * DAY)), Err(Error::Expired)));
    }

    #[test]
    fn no_two_leaves_have_one_serial_number() {
        let (authority, _) = load(2);
        let serials: HashSet<_> = (0..200)
            .map(|index| authority.leaf(&name(&format!("{index}.test")), at(NOW)).unwrap())
            .map(|leaf| X509Certificate::from_der(&leaf.cert[0]).unwrap().1.raw_serial().to_vec())
            .collect();
        assert_eq!(serials.len(), 200);
    }

    #[test]
    fn what_could_not_sign_for_anybody_is_refused() {
        let now = at(NOW);
        let ca = || IsCa::Ca(BasicConstraints::Unconstrained);
        let ((pem, key), (other, _)) = (authority(9, ca()), authority(9, ca()));
        assert!(Authority::from_pem(other.as_bytes(), key.as_bytes(), now).is_err());
        assert!(matches!(Authority::from_pem(b"", key.as_bytes(), now), Err(Error::NoCertificate)));
        assert!(matches!(Authority::from_pem(pem.as_bytes(), pem.as_bytes(), now), Err(Error::Key(_))));
        assert!(matches!(Authority::from_pem(pem.as_bytes(), key.as_bytes(), at(NOW + 9 * DAY)), Err(Error::Expired)));
        let (pem, key) = authority(9, IsCa::ExplicitNoCa);
        assert!(matches!(Authority::from_pem(pem.as_bytes(), key.as_bytes(), now), Err(Error::NoAuthority)));
    }
}
