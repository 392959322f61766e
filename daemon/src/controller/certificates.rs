//! The certificates that the API server, the controller and the agents know each other by: one authority and two pairs
//! signed by it, each in a Secret of our namespace. Only the leader makes and renews them, and a Secret that is there
//! already is never replaced unseen. The authority's key is nobody's but the controller's.
//!
//! | Secret | who reads it | what it is |
//! |---|---|---|
//! | `nodetap-api-ca` | the controller | the authority, with its key |
//! | `nodetap-controller-tls` | the controller | serves the API server, asks the agents |
//! | `nodetap-agent-tls` | the agents | serves the controller, and can do nothing else |

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;

use crate::query::identity::{AGENT_NAME, AGENT_SECRET, AUTHORITY, CERTIFICATE, Identity, KEY};
use crate::trust::certificate::Facts;
use crate::trust::{Ca, ca, pem};

/// The Secret of the authority.
pub(super) const AUTHORITY_SECRET: &str = "nodetap-api-ca";
/// The Secret of the controller.
pub(super) const CONTROLLER_SECRET: &str = "nodetap-controller-tls";
/// The keys of every Secret of certificates, as kubectl names the type.
const TYPE: &str = "kubernetes.io/tls";
/// How long an authority is valid, and a pair.
const AUTHORITY_DAYS: u32 = 3650;
const PAIR_DAYS: u32 = 90;
/// What is left of either when it is renewed.
const AUTHORITY_LEFT: Duration = Duration::from_hours(24 * 365);
const PAIR_LEFT: Duration = Duration::from_hours(24 * 30);
/// Clocks differ.
const BACKDATED: Duration = Duration::from_hours(24);
const DAY: Duration = Duration::from_hours(24);
/// How often somebody else's write to the same Secret is made way for.
const TRIES: usize = 5;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("Secret {name}: {source}")]
    Secret { name: &'static str, source: Box<kube::Error> },
    #[error("Secret {0} is written by somebody else all the time")]
    Contended(&'static str),
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("cannot make a certificate authority: {0}")]
    Authority(#[from] ca::Error),
    #[error("the kernel gives no random bytes: {0}")]
    Random(#[from] rustix::io::Errno),
}

/// What a pair is for.
#[derive(Debug, Clone)]
struct Purpose {
    secret: &'static str,
    names: Vec<String>,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

/// Makes and renews them.
#[derive(Debug)]
pub(super) struct Certificates {
    secrets: Api<Secret>,
    purposes: [Purpose; 2],
}

impl Certificates {
    /// `service` is what the API server calls the controller: `nodetap-controller.nodetap.svc`.
    pub(super) fn new(secrets: Api<Secret>, service: String) -> Self {
        let controller = Purpose {
            secret: CONTROLLER_SECRET,
            names: vec![service],
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        let agent = Purpose {
            secret: AGENT_SECRET,
            names: vec![AGENT_NAME.to_owned()],
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        Self { secrets, purposes: [controller, agent] }
    }

    /// Sees to it that all are there and not about to end; gives the authority's certificates, in PEM.
    ///
    /// # Errors
    /// When a Secret can be neither read nor written.
    pub(super) async fn keep(&self, now: SystemTime) -> Result<String, Error> {
        let authority = self.authority(now).await?;
        for purpose in &self.purposes {
            self.pair(purpose, &authority, now).await?;
        }
        Ok(pem::encode(&authority.chain))
    }

    async fn authority(&self, now: SystemTime) -> Result<Ca, Error> {
        for _ in 0..TRIES {
            let secret = self.read(AUTHORITY_SECRET).await?;
            let held = secret.as_ref().and_then(read_authority);
            if let Some(held) =
                held.as_ref().filter(|held| held.chain.first().is_some_and(|own| left(own, now) > AUTHORITY_LEFT))
            {
                return Ok(Ca { chain: held.chain.clone(), key: KeyPair::from_pem(&held.key.serialize_pem())? });
            }
            let mut made = Ca::generate("nodetap API authority", AUTHORITY_DAYS, now, random()?)?;
            // Whoever holds a certificate of the old one is trusted until that ends.
            let old = held.into_iter().flat_map(|held| held.chain).filter(|old| left(old, now) > Duration::ZERO);
            made.chain.extend(old.take(1));
            let data = [(CERTIFICATE, pem::encode(&made.chain)), (KEY, made.key.serialize_pem())];
            if self.write(AUTHORITY_SECRET, secret, data).await? {
                tracing::info!(secret = AUTHORITY_SECRET, "a certificate authority was made");
                return Ok(made);
            }
        }
        Err(Error::Contended(AUTHORITY_SECRET))
    }

    async fn pair(&self, purpose: &Purpose, authority: &Ca, now: SystemTime) -> Result<(), Error> {
        for _ in 0..TRIES {
            let secret = self.read(purpose.secret).await?;
            if secret.as_ref().is_some_and(|secret| is_good(secret, purpose, authority, now)) {
                return Ok(());
            }
            let (certificate, key) = sign(purpose, authority, now)?;
            let bundle = pem::encode(&authority.chain);
            let data = [(CERTIFICATE, certificate), (KEY, key), (AUTHORITY, bundle)];
            if self.write(purpose.secret, secret, data).await? {
                tracing::info!(secret = purpose.secret, "a certificate was made");
                return Ok(());
            }
        }
        Err(Error::Contended(purpose.secret))
    }

    async fn read(&self, name: &'static str) -> Result<Option<Secret>, Error> {
        self.secrets.get_opt(name).await.map_err(|source| Error::Secret { name, source: Box::new(source) })
    }

    /// False when somebody else was faster.
    async fn write<const N: usize>(
        &self,
        name: &'static str,
        before: Option<Secret>,
        data: [(&str, String); N],
    ) -> Result<bool, Error> {
        let known = before.is_some();
        let mut secret = before.unwrap_or_default();
        secret.metadata.name = Some(name.to_owned());
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.insert("app.kubernetes.io/managed-by".to_owned(), "nodetap".to_owned());
        secret.type_.get_or_insert_with(|| TYPE.to_owned());
        let data = data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
        secret.data = Some(data.collect::<BTreeMap<_, _>>());
        let params = PostParams::default();
        let written = match known {
            // With the version that was read: the API server refuses it when there is a newer one.
            true => self.secrets.replace(name, &params, &secret).await,
            false => self.secrets.create(&params, &secret).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(source) => Err(Error::Secret { name, source: Box::new(source) }),
        }
    }
}

/// What a Secret of ours holds, for whoever serves or asks with it.
pub(super) fn identity(secret: &Secret) -> Result<Identity, crate::query::identity::Error> {
    Identity::read(|key| value(secret, key))
}

fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|value| value.0.as_slice())
}

/// `None`: there is none that can be used.
fn read_authority(secret: &Secret) -> Option<Ca> {
    let chain = pem::decode(value(secret, CERTIFICATE)?);
    let key = KeyPair::from_pem(std::str::from_utf8(value(secret, KEY)?).ok()?).ok()?;
    let facts = Facts::of(chain.first()?).ok()?;
    (facts.may_sign && facts.public_key == key.public_key_raw()).then_some(Ca { chain, key })
}

/// It is this authority's, for these names, and lasts for a while.
fn is_good(secret: &Secret, purpose: &Purpose, authority: &Ca, now: SystemTime) -> bool {
    let Ok(identity) = identity(secret) else { return false };
    let (Some(own), Some(issuer)) = (identity.chain.first(), authority.chain.first()) else { return false };
    let (Ok(facts), Ok(above)) = (Facts::of(own), Facts::of(issuer)) else { return false };
    let fits = identity
        .private_key()
        .is_ok_and(|key| KeyPair::try_from(&key).is_ok_and(|key| key.public_key_raw() == facts.public_key));
    fits && identity.authority == authority.chain
        && facts.issuer_der == above.subject_der
        && is_signed_by(own, issuer)
        && left(own, now) > PAIR_LEFT
        && names(own) == purpose.names
}

fn is_signed_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (Ok((_, certificate)), Ok((_, issuer))) =
        (X509Certificate::from_der(certificate), X509Certificate::from_der(issuer))
    else {
        return false;
    };
    // Of two authorities of one name, the key's identifier tells which.
    let key_id = |certificate: &X509Certificate<'_>| {
        certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        })
    };
    let own_id = issuer.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    key_id(&certificate).is_some_and(|id| Some(id) == own_id)
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| names.value.general_names.iter());
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    names.collect()
}

/// How long it is valid yet.
fn left(certificate: &CertificateDer<'_>, now: SystemTime) -> Duration {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let until = Facts::of(certificate).map_or(0, |facts| u64::try_from(facts.validity.1).unwrap_or(0));
    Duration::from_secs(until.saturating_sub(now))
}

/// Certificate and key, in PEM.
fn sign(purpose: &Purpose, authority: &Ca, now: SystemTime) -> Result<(String, String), Error> {
    let own = authority.chain.first().ok_or(rcgen::Error::CouldNotParseCertificate)?;
    let issuer_key = KeyPair::from_pem(&authority.key.serialize_pem())?;
    let issuer = Issuer::from_ca_cert_der(own, issuer_key)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(purpose.names.clone())?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, purpose.secret);
    params.distinguished_name = subject;
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + DAY * PAIR_DAYS).into();
    let serial = random()? & (u128::MAX >> 2) | 1 << 126;
    params.serial_number = Some(serial.to_be_bytes().to_vec().into());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purpose.usages.clone();
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((pem::encode([certificate.der()]), key.serialize_pem()))
}

/// 128 bits from the kernel.
fn random() -> Result<u128, Error> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u128::from_ne_bytes(bytes))
}

/// A pair that is in no Secret.
#[cfg(test)]
pub(super) fn unkept(authority: &Ca, name: &str, usages: Vec<ExtendedKeyUsagePurpose>) -> Identity {
    let purpose = Purpose { secret: CONTROLLER_SECRET, names: vec![name.to_owned()], usages };
    let (certificate, key) = sign(&purpose, authority, SystemTime::now()).unwrap();
    let bundle = pem::encode(&authority.chain);
    Identity::read(|part| match part {
        CERTIFICATE => Some(certificate.as_bytes()),
        KEY => Some(key.as_bytes()),
        _ => Some(bundle.as_bytes()),
    })
    .unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(purpose: &Purpose, authority: &Ca, now: SystemTime) -> Secret {
        let (certificate, key) = sign(purpose, authority, now).unwrap();
        let data = [(CERTIFICATE, certificate), (KEY, key), (AUTHORITY, pem::encode(&authority.chain))];
        let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
        Secret { data: Some(BTreeMap::from(data)), ..Secret::default() }
    }

    #[test]
    fn a_pair_is_made_anew_when_anything_about_it_is_not_what_it_should_be() {
        let now = SystemTime::now();
        let authority = |random| Ca::generate("a", 3650, now, random).unwrap();
        let (one, other) = (authority(1), authority(2));
        let purpose = |name: &str| Purpose {
            secret: AGENT_SECRET,
            names: vec![name.to_owned()],
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        let good = secret(&purpose("a.svc"), &one, now);
        assert!(is_good(&good, &purpose("a.svc"), &one, now));
        assert!(is_good(&good, &purpose("a.svc"), &one, now + DAY * 59));
        assert!(!is_good(&good, &purpose("a.svc"), &one, now + DAY * 61), "it ends soon");
        assert!(!is_good(&good, &purpose("b.svc"), &one, now), "another name");
        assert!(!is_good(&good, &purpose("a.svc"), &other, now), "another authority of the same name");
        let mut foreign = secret(&purpose("a.svc"), &one, now);
        let stranger = ByteString(KeyPair::generate().unwrap().serialize_pem().into_bytes());
        foreign.data.as_mut().unwrap().insert(KEY.to_owned(), stranger);
        assert!(!is_good(&foreign, &purpose("a.svc"), &one, now), "another key");
        assert!(!is_good(&Secret::default(), &purpose("a.svc"), &one, now));
        assert!(identity(&good).unwrap().serving().is_ok());
    }
}
