//! What Istio's webhook refuses in a Sidecar, as far as ours could have it: every one that any test makes has to pass.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::mesh::desired::Ours;
use crate::mesh::names;

const PROTOCOLS: &str = " tcp udp grpc grpc-web http http_proxy http2 https tls mongo redis mysql ";

/// Panics with what is wrong.
pub(super) fn accepts(ours: &Ours) {
    let spec = ours.spec.json();
    assert!(ours.name.len() <= 253 && ours.name.starts_with(names::PREFIX), "{}", ours.name);
    let selector = spec["workloadSelector"]["labels"].as_object().unwrap();
    assert_eq!(selector.len(), 1, "{spec}");
    for (key, value) in selector {
        let value = value.as_str().unwrap();
        assert!(key == names::LABEL && !value.is_empty() && value.len() <= 63 && !value.contains('*'), "{value}");
    }
    let mut numbers = BTreeSet::new();
    for entry in spec["ingress"].as_array().unwrap() {
        let port = &entry["port"];
        assert!(port["number"].as_u64().is_some_and(|number| (1..=65535).contains(&number)), "{entry}");
        assert!(numbers.insert(port["number"].as_u64()), "twice: {entry}");
        let protocol = port["protocol"].as_str().unwrap_or_default().to_ascii_lowercase();
        assert!(protocol.is_empty() || PROTOCOLS.contains(&format!(" {protocol} ")), "{entry}");
        if let Some(endpoint) = entry["defaultEndpoint"].as_str() {
            accepts_endpoint(endpoint);
        }
    }
    assert!(!numbers.is_empty(), "{spec}");
    let egress = spec["egress"].as_array().unwrap();
    assert!(!egress.is_empty(), "{spec}");
    for (at, listener) in egress.iter().enumerate() {
        assert!(listener["hosts"].as_array().is_some_and(|hosts| !hosts.is_empty()), "{listener}");
        assert!(listener["port"] != Value::Null || at == egress.len() - 1, "{spec}");
    }
}

fn accepts_endpoint(endpoint: &str) {
    if let Some(path) = endpoint.strip_prefix("unix://") {
        assert!(path.starts_with('@') || path.starts_with('/') && !path.ends_with('/'), "{endpoint}");
        return;
    }
    let (host, port) = endpoint.rsplit_once(':').unwrap();
    assert!(["127.0.0.1", "0.0.0.0", "[::1]", "[::]"].contains(&host), "{endpoint}");
    assert!(port.parse::<u16>().is_ok_and(|port| port > 0), "{endpoint}");
}
