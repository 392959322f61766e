//! What stands in the ConfigMap: the roots in the forms that programs read. Most variables and options that name a file
//! of roots replace what a program trusts by itself, so that the whole bundle is what is named; ours alone is for the few
//! that add to it (`NODE_EXTRA_CA_CERTS`).

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use super::MANAGED_BY;
use crate::trust::certificate::Facts;
use crate::trust::{JAVA_PASSWORD, Roots, jks, pem};

/// All roots.
const BUNDLE: &str = "ca-bundle.crt";
/// Ours alone.
const OWN: &str = "ca.crt";
/// All roots, for Java (`-Djavax.net.ssl.trustStore`).
const JAVA: &str = "cacerts.jks";
/// What the API server takes of one ConfigMap.
const LIMIT: usize = 1 << 20;

/// By which two are told apart.
pub(super) type Digest = [u8; 32];

#[derive(Debug)]
pub(super) struct Content {
    texts: BTreeMap<String, String>,
    binaries: BTreeMap<String, ByteString>,
}

impl Content {
    /// The same for the same roots, whenever it is made.
    pub(super) fn of(system: &Roots, ours: &[CertificateDer<'static>]) -> Result<Self, String> {
        let own = ours.first().ok_or("it holds no certificate in PEM (tls.crt)")?;
        let facts = Facts::of(own).map_err(|error| error.to_string())?;
        let mut all = system.clone();
        all.extend(ours.iter().cloned());
        // An entry's time is no secret and no matter: one that stays, so that the file does.
        let since = u64::try_from(facts.validity.0).unwrap_or_default() * 1000;
        let store = jks::encode(&system.aliased(ours), JAVA_PASSWORD, since).map_err(|error| error.to_string())?;
        let texts = [(BUNDLE, pem::encode(all.iter())), (OWN, pem::encode(ours))];
        let content = Self {
            texts: texts.map(|(key, text)| (key.to_owned(), text)).into(),
            binaries: BTreeMap::from([(JAVA.to_owned(), ByteString(store))]),
        };
        let size = content.texts.values().map(String::len).sum::<usize>()
            + content.binaries.values().map(|bytes| bytes.0.len()).sum::<usize>();
        if size > LIMIT {
            return Err(format!("with this image's roots it makes {size} bytes, and a ConfigMap holds {LIMIT}"));
        }
        Ok(content)
    }

    pub(super) fn digest(&self) -> Digest {
        of_parts(&self.texts, &self.binaries)
    }

    /// As it is applied.
    pub(super) fn object(&self, name: &str, uid: Option<&str>) -> Value {
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {MANAGED_BY.0: MANAGED_BY.1}},
            "data": self.texts, "binaryData": self.binaries,
        });
        if let Some(uid) = uid {
            object["metadata"]["uid"] = uid.into();
        }
        object
    }
}

/// Of what stands in one that was read.
pub(super) fn digest(map: &ConfigMap) -> Digest {
    let none = (BTreeMap::new(), BTreeMap::new());
    of_parts(map.data.as_ref().unwrap_or(&none.0), map.binary_data.as_ref().unwrap_or(&none.1))
}

/// Only what we write counts: others may add keys.
fn of_parts(texts: &BTreeMap<String, String>, binaries: &BTreeMap<String, ByteString>) -> Digest {
    let mut context = Context::new(&SHA256);
    let texts = [BUNDLE, OWN].map(|key| texts.get(key).map(String::as_bytes));
    for part in texts.into_iter().chain([binaries.get(JAVA).map(|bytes| bytes.0.as_slice())]) {
        // One that is missing is not one that is empty.
        context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        context.update(part.unwrap_or_default());
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::trust::authority;

    #[test]
    fn it_holds_all_roots_and_no_key_and_is_the_same_whenever_it_is_made() {
        let secret = |random| authority::make(SystemTime::now(), random).unwrap();
        let (ours, other) = (authority::certificates(&secret(1)), authority::certificates(&secret(2)));
        let system: Roots = other.clone().into_iter().collect();
        let content = Content::of(&system, &ours).unwrap();
        let bundle = pem::decode(content.texts[BUNDLE].as_bytes());
        assert!(bundle.len() == 2 && bundle.contains(&ours[0]) && bundle.contains(&other[0]));
        assert_eq!(pem::decode(content.texts[OWN].as_bytes()), ours);
        assert_eq!(jks::decode(&content.binaries[JAVA].0).unwrap().len(), 2);
        assert!(content.texts.values().all(|text| !text.contains("PRIVATE")));

        let read: ConfigMap = serde_json::from_value(content.object("roots", None)).unwrap();
        assert_eq!(digest(&read), content.digest());
        assert_eq!(Content::of(&system, &ours).unwrap().digest(), content.digest());
        assert_ne!(Content::of(&system, &other).unwrap().digest(), content.digest());
        assert_ne!(digest(&ConfigMap::default()), content.digest());
    }

    #[test]
    fn without_a_certificate_there_is_none() {
        assert!(Content::of(&Roots::default(), &[]).is_err());
    }
}
