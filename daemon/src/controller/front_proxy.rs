//! Whom we take for the API server: whoever shows its front-proxy certificate, as the ConfigMap
//! `kube-system/extension-apiserver-authentication` describes it. Anybody else could claim to be any user, and to have
//! been asked about nothing; so nobody else is answered.

use std::sync::Arc;

use hyper::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::query::identity::{Identity, provider};
use crate::trust::pem;

/// Where the ConfigMap is.
pub(super) const NAMESPACE: &str = "kube-system";
pub(super) const NAME: &str = "extension-apiserver-authentication";
const AUTHORITY: &str = "requestheader-client-ca-file";
const ALLOWED: &str = "requestheader-allowed-names";
const USERS: &str = "requestheader-username-headers";
/// Protocols that the API server may choose from.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "{NAMESPACE}/{NAME} has no {0}: this API server has no front-proxy certificate, so that it cannot prove itself"
    )]
    Missing(&'static str),
    #[error("{NAMESPACE}/{NAME}: {AUTHORITY} holds no certificate in PEM")]
    NoCertificate,
    #[error("{NAMESPACE}/{NAME}: {key} is no list of texts in JSON: {source}")]
    NoList { key: &'static str, source: serde_json::Error },
    #[error("{AUTHORITY} cannot be trusted: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("certificate and key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Identity(#[from] crate::query::identity::Error),
}

/// Who a request is from, as far as it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// The API server, for this user.
    ApiServer(String),
    /// Why not.
    Stranger(&'static str),
}

/// How the API server proves itself.
#[derive(Debug, Clone)]
pub(super) struct FrontProxy {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Common names; empty: any.
    allowed: Vec<String>,
    /// Headers that name the user, the first that is there counts.
    users: Vec<String>,
}

impl FrontProxy {
    /// # Errors
    /// When the ConfigMap lacks something.
    pub(super) fn read(map: &ConfigMap) -> Result<Self, Error> {
        let get = |key| map.data.as_ref().and_then(|data| data.get(key)).ok_or(Error::Missing(key));
        let list = |key: &'static str| {
            serde_json::from_str::<Vec<String>>(get(key)?).map_err(|source| Error::NoList { key, source })
        };
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(pem::decode(get(AUTHORITY)?.as_bytes()));
        if added == 0 {
            return Err(Error::NoCertificate);
        }
        // Without a certificate the answer is a sentence instead of an alert; it is a refusal all the same.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.allow_unauthenticated().build()?;
        Ok(Self { verifier, allowed: list(ALLOWED).or_else(missing_is_any)?, users: list(USERS)? })
    }

    /// TLS towards the API server, with our own certificate.
    ///
    /// # Errors
    /// When certificate and key do not fit together.
    pub(super) fn serving(&self, identity: &Identity) -> Result<ServerConfig, Error> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = builder.with_client_cert_verifier(Arc::clone(&self.verifier));
        let mut config = builder.with_single_cert(identity.chain.clone(), identity.private_key()?)?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        // What was trusted before counts no longer on the next connection.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// `certificate`: the client's, which TLS has verified.
    pub(super) fn caller(&self, certificate: Option<&CertificateDer<'_>>, headers: &HeaderMap) -> Caller {
        let Some(certificate) = certificate else {
            return Caller::Stranger("only the API server is answered, which shows its front-proxy certificate");
        };
        if !self.allowed.is_empty() && !common_names(certificate).iter().any(|name| self.allowed.contains(name)) {
            return Caller::Stranger("the certificate has none of the names that the front proxy may have");
        }
        let mut users = self.users.iter().filter_map(|name| headers.get(name)?.to_str().ok());
        match users.find(|user| !user.is_empty()) {
            Some(user) => Caller::ApiServer(user.to_owned()),
            None => Caller::Stranger("the request names no user"),
        }
    }
}

/// No list of names is an empty one: any name.
fn missing_is_any(error: Error) -> Result<Vec<String>, Error> {
    match error {
        Error::Missing(_) => Ok(Vec::new()),
        error => Err(error),
    }
}

fn common_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let names = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    names.map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use rcgen::{CertificateParams, DnType, Issuer, KeyPair};

    use super::*;
    use crate::trust::Ca;

    fn map(pairs: &[(&str, &str)]) -> ConfigMap {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ConfigMap { data: Some(data.collect::<BTreeMap<_, _>>()), ..ConfigMap::default() }
    }

    #[test]
    fn only_a_certificate_with_an_allowed_name_and_a_user_is_the_api_server() {
        let ca = Ca::generate("front-proxy-ca", 30, SystemTime::now(), 1).unwrap();
        let text = pem::encode(&ca.chain);
        let front =
            FrontProxy::read(&map(&[(AUTHORITY, &text), (ALLOWED, r#"["front"]"#), (USERS, r#"["X-Remote-User"]"#)]));
        let front = front.unwrap();
        let leaf = |name: &str| {
            let key = KeyPair::from_pem(&ca.key.serialize_pem()).unwrap();
            let issuer = Issuer::from_ca_cert_der(&ca.chain[0], key).unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
        };
        let user = HeaderMap::from_iter([("x-remote-user".parse().unwrap(), "jane".parse().unwrap())]);
        assert_eq!(front.caller(Some(&leaf("front")), &user), Caller::ApiServer("jane".into()));
        assert!(matches!(front.caller(Some(&leaf("other")), &user), Caller::Stranger(_)));
        assert!(matches!(front.caller(None, &user), Caller::Stranger(_)));
        assert!(matches!(front.caller(Some(&leaf("front")), &HeaderMap::new()), Caller::Stranger(_)));
        let any =
            FrontProxy::read(&map(&[(AUTHORITY, &text), (ALLOWED, "[]"), (USERS, r#"["X-Remote-User"]"#)])).unwrap();
        assert_eq!(any.caller(Some(&leaf("other")), &user), Caller::ApiServer("jane".into()));
    }

    #[test]
    fn what_the_config_map_lacks_is_named() {
        let text = pem::encode(&Ca::generate("a", 30, SystemTime::now(), 1).unwrap().chain);
        for (pairs, part) in [
            (&[][..], AUTHORITY),
            (&[(AUTHORITY, "nothing")], "PEM"),
            (&[(AUTHORITY, &text)], USERS),
            (&[(AUTHORITY, &text), (USERS, "[]"), (ALLOWED, "front")], ALLOWED),
        ] {
            let error = FrontProxy::read(&map(pairs)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
