//! The TCP ports on which a pod receives traffic today, with the protocol that Envoy treats each with: what its base lists,
//! or else what Services send it. Ports that nobody lists are passed on by Envoy as they come, with us and without us.

use std::collections::BTreeMap;

use super::protocol::Protocol;
use super::sidecar::{Ingress, Port, Sidecar};
use super::snapshot::{Pod, Service, Target};

/// Ports of Istio's own, in every pod that has its proxy.
pub const RESERVED: [u16; 10] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15080, 15090];

/// What ours lists before anything is captured, in the order of the numbers.
pub fn listed<'a>(
    base: Option<&Sidecar>,
    pods: impl Iterator<Item = &'a Pod>,
    services: &[Service],
) -> BTreeMap<u16, Ingress> {
    match base.map(|base| &base.spec.ingress).filter(|ingress| !ingress.is_empty()) {
        // Where a Sidecar lists ports, Services add none.
        Some(ingress) => ingress.iter().map(|one| (one.port.number, one.clone())).collect(),
        None => served(pods, services).into_iter().map(|(port, protocol)| (port, entry(port, protocol))).collect(),
    }
}

/// A port, as it is without an endpoint.
pub fn entry(number: u16, protocol: Protocol) -> Ingress {
    let word = match protocol {
        Protocol::Unsaid => "auto".to_owned(),
        Protocol::Known(word) => word.to_ascii_lowercase().replace('_', "-"),
    };
    let port = Port { number, protocol: protocol.word().into(), name: format!("{word}-{number}"), ..Port::default() };
    Ingress { port, ..Ingress::default() }
}

/// Ports that Services send pods of one workload. Where two differ about one, the older Service's word holds.
fn served<'a>(pods: impl Iterator<Item = &'a Pod>, services: &[Service]) -> BTreeMap<u16, Protocol> {
    let mut found: BTreeMap<u16, ((i64, &str, usize), Protocol)> = BTreeMap::new();
    for pod in pods {
        for service in services.iter().filter(|service| sends(service, pod)) {
            for (at, port) in service.ports.iter().enumerate() {
                let number = match &port.target {
                    Target::Number(number) => Some(*number),
                    Target::Name(name) => pod.named_ports.get(name).copied(),
                };
                let Some(number) = number.filter(|number| !RESERVED.contains(number)) else { continue };
                let age = (service.created, service.name.as_str(), at);
                let older = found.get(&number).is_none_or(|(before, _)| age < *before);
                if older {
                    found.insert(number, (age, port.protocol));
                }
            }
        }
    }
    found.into_iter().map(|(port, (_, protocol))| (port, protocol)).collect()
}

/// Does the Service send its traffic to the pod, among others?
pub fn sends(service: &Service, pod: &Pod) -> bool {
    let has = |(key, value): (&String, &String)| pod.labels.get(key) == Some(value);
    service.namespace == pod.key.namespace && !service.selector.is_empty() && service.selector.iter().all(has)
}
