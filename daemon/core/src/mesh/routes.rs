//! Services that VirtualServices send traffic from a gateway to, and that nobody has routes for inside the cluster: calls
//! from inside go past those routes. Often that is meant, so it is advice. It refuses to know what a route does, and to
//! whom a VirtualService is exported.

use std::collections::BTreeSet;

use serde_json::Value;

use super::finding::Finding;
use super::ports;
use super::snapshot::{Mesh, Pod, Service, Snapshot};

/// The gateway by which Istio means all pods.
const MESH: &str = "mesh";
/// Istio's and Kubernetes' own domain, where nobody has changed it.
const DOMAIN: &str = "svc.cluster.local";

/// A VirtualService of Istio's, as far as is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VirtualService {
    pub namespace: String,
    pub name: String,
    pub hosts: BTreeSet<String>,
    /// None is the mesh.
    pub gateways: BTreeSet<String>,
    /// Hosts that its routes lead to.
    pub destinations: BTreeSet<String>,
}

impl VirtualService {
    /// Of its spec; what is not as Istio describes it is not there.
    pub fn read(namespace: String, name: String, spec: &Value) -> Self {
        let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
        let texts = |of: &Value| list(of).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        // Only of HTTP: what passes TLS or TCP on for callers from outside need not fit calls from inside.
        let rules = list(&spec["http"]).into_iter();
        let routes = rules.flat_map(|rule| list(&rule["route"]));
        let destinations = routes.filter_map(|route| Some(route["destination"]["host"].as_str()?.to_owned()));
        Self {
            hosts: texts(&spec["hosts"]),
            gateways: texts(&spec["gateways"]),
            destinations: destinations.collect(),
            namespace,
            name,
        }
    }

    fn is_for_gateways(&self) -> bool {
        self.gateways.iter().any(|gateway| gateway != MESH)
    }

    fn is_for_mesh(&self) -> bool {
        self.gateways.is_empty() || self.gateways.contains(MESH)
    }

    fn names(&self, service: &Service) -> bool {
        self.hosts.iter().any(|host| is_of(host, &self.namespace, service))
    }

    fn leads_to(&self, service: &Service) -> bool {
        self.destinations.iter().any(|host| is_of(host, &self.namespace, service))
    }
}

/// What to say of a captured pod.
pub fn findings(pod: &Pod, snapshot: &Snapshot) -> BTreeSet<Finding> {
    let mut found = BTreeSet::new();
    if !pod.captured || !matches!(pod.mesh, Mesh::Sidecar { .. }) {
        return found;
    }
    let all = &snapshot.virtual_services;
    for service in snapshot.services.iter().filter(|service| ports::sends(service, pod)) {
        for outer in all.iter().filter(|one| one.is_for_gateways()) {
            let inside = || all.iter().any(|one| one.is_for_mesh() && one.names(service));
            if outer.leads_to(service) && !inside() {
                let host = format!("{}.{}.{DOMAIN}", service.name, service.namespace);
                let add = match (outer.names(service), outer.is_for_mesh()) {
                    (false, true) => format!("`- {host}` to its spec.hosts"),
                    (false, false) => format!("`- {host}` to its spec.hosts and `- {MESH}` to its spec.gateways"),
                    (true, _) => format!("`- {MESH}` to its spec.gateways"),
                };
                let virtual_service = format!("{}/{}", outer.namespace, outer.name);
                found.insert(Finding::RoutesOutsideOnly { virtual_service, service: service.name.clone(), host, add });
            }
        }
    }
    found
}

/// Does a VirtualService of `namespace` mean the Service by this host? Also where Istio would not think so, for then
/// nothing is said that may be wrong.
fn is_of(host: &str, namespace: &str, service: &Service) -> bool {
    let whole = format!("{}.{}.{DOMAIN}", service.name, service.namespace);
    if let Some(end) = host.strip_prefix('*') {
        return whole.ends_with(end);
    }
    let rest = host.strip_prefix(service.name.as_str());
    match rest.map(|rest| rest.strip_prefix('.').unwrap_or(rest)) {
        Some("") => namespace == service.namespace,
        Some(rest) => rest == service.namespace || rest.starts_with(&format!("{}.svc", service.namespace)),
        None => false,
    }
}
