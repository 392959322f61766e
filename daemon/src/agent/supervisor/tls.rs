//! Keys for opening TLS: our authority's, and the pairs that pods' annotations name. They come from Secrets that are asked
//! for elsewhere; here is what is known of them.

use std::collections::{BTreeMap, BTreeSet};

use nodetap_core::pod::config::Config;
use nodetap_proxy::tls::Policy;

use crate::agent::explicit::Tls;
use crate::cluster::secrets::Data;

/// A Secret, by namespace and name.
pub(in crate::agent) type SecretName = (String, String);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Keys {
    secrets: BTreeMap<SecretName, Result<Data, String>>,
}

impl Keys {
    /// A Secret was read, or could not be. Is that news?
    pub(super) fn tell(&mut self, name: SecretName, data: Result<Data, String>) -> bool {
        self.secrets.insert(name, data.clone()) != Some(data)
    }

    /// Secrets that a configuration needs.
    pub(super) fn needed(config: &Config, namespace: &str) -> BTreeSet<SecretName> {
        let pairs = [&config.tls_in, &config.tls_mutual].into_iter().flatten();
        pairs.map(|pair| (namespace.to_owned(), pair.secret.clone())).collect()
    }

    /// How the TLS of a pod is treated.
    pub(super) fn policies(&self, _config: Option<&Config>, _namespace: &str) -> Result<Tls, String> {
        Ok(Tls { out: Policy::Untouched, inbound: Policy::Untouched })
    }

    /// What of a configuration cannot be done for want of keys, one sentence each.
    pub(super) fn problems(&self, config: &Config, namespace: &str) -> BTreeSet<String> {
        let said = |name: SecretName| match self.secrets.get(&name) {
            None | Some(Ok(_)) => None,
            Some(Err(why)) => Some(format!("TLS is not opened: the Secret {}/{}: {why}", name.0, name.1)),
        };
        Self::needed(config, namespace).into_iter().filter_map(said).collect()
    }
}
