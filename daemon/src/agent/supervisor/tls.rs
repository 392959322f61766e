//! Keys for opening TLS: our authority's, and the pairs that pods' annotations name. They come from Secrets that are asked
//! for elsewhere; here is what is known of them, and what is made of it. What is made is shared by the pods of a workload:
//! they trust the same authorities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nodetap_core::pod::config::{Config, KeyPair};
use nodetap_proxy::tls::{Authority, Inbound, Outbound, Pair, Policy, Upstream};
use rustls::RootCertStore;
use rustls::pki_types::UnixTime;

use crate::agent::explicit::Tls;
use crate::cluster::secrets::Data;
use crate::trust::Roots;
use crate::trust::authority::{CERTIFICATE, KEY, SECRET as AUTHORITY};

/// A Secret, by namespace and name. Without a namespace it is our own.
pub(in crate::agent) type SecretName = (String, String);

/// Workloads for which something was made, at most; more begin anew.
const MADE: usize = 256;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Keys {
    secrets: BTreeMap<SecretName, Result<Data, String>>,
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    out: BTreeMap<(String, Option<KeyPair>), Arc<Outbound>>,
    inbound: BTreeMap<(String, KeyPair), Arc<Inbound>>,
}

impl Keys {
    /// A Secret was read, or could not be. Is that news?
    pub(super) fn tell(&mut self, name: SecretName, data: Result<Data, String>) -> bool {
        if self.secrets.get(&name) == Some(&data) {
            return false;
        }
        self.secrets.insert(name, data);
        // From the next connection on what is new counts.
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Made::default();
        true
    }

    /// Secrets that a configuration needs.
    pub(super) fn needed(config: &Config, namespace: &str) -> BTreeSet<SecretName> {
        let pairs = [&config.tls_in, &config.tls_mutual].into_iter().flatten();
        let mut needed: BTreeSet<SecretName> = pairs.map(|pair| (namespace.to_owned(), pair.secret.clone())).collect();
        if config.tls_out {
            needed.insert((String::new(), AUTHORITY.to_owned()));
        }
        needed
    }

    /// How the TLS of a pod is treated. What cannot be opened is passed through; why, [`Keys::problems`] says.
    pub(super) fn policies(&self, config: Option<&Config>, namespace: &str, workload: &str) -> Tls {
        let mut tls = Tls { out: Policy::Untouched, inbound: Policy::Untouched };
        let Some(config) = config else { return tls };
        if config.tls_out
            && let Ok(outbound) = self.outbound(config, namespace, workload)
        {
            tls.out = Policy::Open(outbound);
        }
        if let Some(pair) = &config.tls_in
            && let Ok(inbound) = self.inbound(pair, namespace)
        {
            tls.inbound = Policy::Terminate(inbound);
        }
        tls
    }

    /// What of a configuration cannot be done for want of keys, one sentence each.
    pub(super) fn problems(&self, config: &Config, namespace: &str, workload: &str) -> BTreeSet<String> {
        let mut problems = BTreeSet::new();
        if config.tls_out
            && let Err(why) = self.outbound(config, namespace, workload)
        {
            problems.insert(format!("TLS that it opens is passed through unread: {why}"));
        }
        if let Some(pair) = &config.tls_in
            && let Err(why) = self.inbound(pair, namespace)
        {
            problems.insert(format!("TLS that it serves is passed through unread: {why}"));
        }
        problems
    }

    fn outbound(&self, config: &Config, namespace: &str, workload: &str) -> Result<Arc<Outbound>, String> {
        let key = (format!("{namespace}/{workload}"), config.tls_mutual.clone());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outbound) = made.out.get(&key) {
            return Ok(Arc::clone(outbound));
        }
        let data = self.secret("", AUTHORITY)?;
        let (chain, private) = (value(data, AUTHORITY, CERTIFICATE)?, value(data, AUTHORITY, KEY)?);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let authority = Authority::from_pem(chain, private, UnixTime::since_unix_epoch(since));
        let authority = authority.map_err(|error| format!("the Secret {AUTHORITY}: {error}"))?;
        let identity = config.tls_mutual.as_ref().map(|pair| self.pair(pair, namespace)).transpose()?;
        let outbound = Outbound::new(authority, roots(), identity).map_err(|error| error.to_string())?;
        let outbound = Arc::new(outbound);
        if made.out.len() >= MADE {
            made.out.clear();
        }
        made.out.insert(key, Arc::clone(&outbound));
        Ok(outbound)
    }

    fn inbound(&self, pair: &KeyPair, namespace: &str) -> Result<Arc<Inbound>, String> {
        let key = (namespace.to_owned(), pair.clone());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbound) = made.inbound.get(&key) {
            return Ok(Arc::clone(inbound));
        }
        // It is the application's own certificate: the application behind serves it itself.
        let upstream = Upstream::Tls { roots: None, identity: None };
        let inbound = Inbound::new(self.pair(pair, namespace)?, upstream).map_err(|error| error.to_string())?;
        let inbound = Arc::new(inbound);
        if made.inbound.len() >= MADE {
            made.inbound.clear();
        }
        made.inbound.insert(key, Arc::clone(&inbound));
        Ok(inbound)
    }

    fn pair(&self, pair: &KeyPair, namespace: &str) -> Result<Pair, String> {
        let data = self.secret(namespace, &pair.secret)?;
        let (chain, private) = (value(data, &pair.secret, &pair.public)?, value(data, &pair.secret, &pair.private)?);
        Pair::from_pem(chain, private).map_err(|error| format!("the Secret {namespace}/{}: {error}", pair.secret))
    }

    fn secret(&self, namespace: &str, name: &str) -> Result<&Data, String> {
        match self.secrets.get(&(namespace.to_owned(), name.to_owned())) {
            Some(Ok(data)) => Ok(data),
            Some(Err(why)) if namespace.is_empty() => Err(format!("the Secret {name}: {why}")),
            Some(Err(why)) => Err(format!("the Secret {namespace}/{name}: {why}")),
            None => Err(format!("the Secret {name} is being read")),
        }
    }
}

fn value<'a>(data: &'a Data, secret: &str, key: &str) -> Result<&'a [u8], String> {
    data.get(key).map(Vec::as_slice).ok_or_else(|| format!("the Secret {secret} has no key {key}"))
}

/// Whom servers are verified against: this system's roots.
fn roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let (_, ignored) = store.add_parsable_certificates(Roots::system());
    if ignored > 0 {
        tracing::debug!(ignored, "roots that cannot be used");
    }
    store
}

#[cfg(test)]
mod tests {
    use nodetap_core::pod::config::ProxyType;

    use super::*;
    use crate::trust::{Ca, pem};

    fn config() -> Config {
        let annotations = [("nodetap.io/inject", "true"), ("nodetap.io/tls-out", "true")];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let merged = nodetap_core::pod::precedence::of_pod(&annotations, "shop", &BTreeMap::new());
        match nodetap_core::pod::wish::Wish::of(&merged, &mut Vec::new()) {
            nodetap_core::pod::wish::Wish::Capture(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_is_named_and_passed_through_and_what_is_there_is_shared() {
        let (mut keys, config) = (Keys::default(), config());
        assert_eq!(config.proxy_type, ProxyType::Transparent);
        let name = (String::new(), AUTHORITY.to_owned());
        assert_eq!(Keys::needed(&config, "shop"), BTreeSet::from([name.clone()]));
        assert!(matches!(keys.policies(Some(&config), "shop", "web").out, Policy::Untouched));
        assert_eq!(keys.problems(&config, "shop", "web").len(), 1);
        let ca = Ca::generate("nodetap", 30, SystemTime::now(), 7).unwrap();
        let data = Data::from([
            (CERTIFICATE.to_owned(), pem::encode(&ca.chain).into_bytes()),
            (KEY.to_owned(), ca.key.serialize_pem().into_bytes()),
        ]);
        assert!(keys.tell(name.clone(), Ok(data.clone())));
        assert!(!keys.tell(name, Ok(data)));
        let of = |workload| match keys.policies(Some(&config), "shop", workload).out {
            Policy::Open(outbound) => outbound,
            other => panic!("{other:?}: {:?}", keys.problems(&config, "shop", workload)),
        };
        assert!(Arc::ptr_eq(&of("web"), &of("web")));
        assert!(!Arc::ptr_eq(&of("web"), &of("other")));
        assert!(keys.problems(&config, "shop", "web").is_empty());
    }
}
