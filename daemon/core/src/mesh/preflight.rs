//! What of one pod can be captured through Envoy: the ports that are left, and what keeps the others from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::finding::{Finding, Weight};
use super::ports::RESERVED;
use super::selection::{Selected, beside_ours};
use super::sidecar::{Ingress, Sidecar};
use super::snapshot::{Capture, Endpoint, Mesh, Pod, Snapshot};

const EXCLUDE: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
const INCLUDE: &str = "traffic.sidecar.istio.io/includeInboundPorts";
const RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
const INTERCEPTION: &str = "sidecar.istio.io/interceptionMode";
/// Who Istio's proxy runs as where nothing else is said.
const PROXY_USER: u64 = 1337;

/// What is left of what a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preflight<'a> {
    /// Ports of the application, with our listeners; empty when something keeps all from it.
    pub captured: BTreeMap<u16, Endpoint>,
    /// What holds for the pod today, and ours is made of.
    pub base: Option<&'a Sidecar>,
    pub findings: BTreeSet<Finding>,
}

impl<'a> Preflight<'a> {
    /// Looks at a pod that asks for listeners inbound. One without Istio gets an empty one.
    pub fn of(pod: &Pod, snapshot: &'a Snapshot) -> Self {
        let mut found = Self::default();
        let verified = match &pod.capture {
            _ if pod.mesh == Mesh::None => return found,
            Capture::None => return found,
            Capture::Verified(endpoints) => endpoints.clone(),
            Capture::Stale(why) => {
                found.findings.insert(Finding::AgentAway(why.clone()));
                BTreeMap::new()
            }
        };
        found.findings.extend(about(pod, snapshot));
        match Selected::of(pod, snapshot) {
            Selected::Nothing => {}
            Selected::Default(base) => found.take(base),
            Selected::Workload(theirs) => {
                let empty = theirs.spec.workload_selector.as_ref().is_some_and(|selector| selector.labels.is_empty());
                let how = if empty { " with a selector that is empty and selects all" } else { "" };
                found.findings.insert(Finding::UserSidecar(theirs.full_name(), how));
            }
        }
        if let Some(copy) = beside_ours(pod, snapshot) {
            found.findings.insert(Finding::UserSidecar(copy.full_name(), " as soon as it has our label"));
        }
        if found.findings.iter().all(|finding| finding.weight() < Weight::Withdrawn) {
            found.captured = verified.into_iter().filter(|(port, _)| found.lets_in(*port, pod)).collect();
        }
        found
    }

    fn take(&mut self, base: &'a Sidecar) {
        self.base = Some(base);
        if let Some(why) = &base.unreadable {
            self.findings.insert(Finding::BaseUnreadable { sidecar: base.full_name(), why: why.clone() });
        }
    }

    /// Can this port be sent to us? Says why not.
    fn lets_in(&mut self, port: u16, pod: &Pod) -> bool {
        let listed = self.base.and_then(|base| {
            let entry = base.spec.ingress.iter().find(|entry| entry.port.number == port)?;
            against(base, entry)
        });
        let reserved = RESERVED.contains(&port).then_some(Finding::PortReserved(port));
        let finding = reserved.or_else(|| excluded(pod, port)).or(listed);
        let lets_in = finding.is_none();
        self.findings.extend(finding);
        lets_in
    }
}

/// What holds for the pod, whatever its ports are.
fn about(pod: &Pod, snapshot: &Snapshot) -> BTreeSet<Finding> {
    let mut found = BTreeSet::new();
    match pod.mesh {
        Mesh::None => {}
        Mesh::Sidecar { native } => found.extend(native.then_some(Finding::NativeProxy)),
        Mesh::Ambient => drop(found.insert(Finding::Ambient)),
        Mesh::Gateway => drop(found.insert(Finding::Gateway)),
    }
    let said = |key| pod.annotations.get(key).map(|said| said.trim().to_owned());
    let other = said(INTERCEPTION).filter(|mode| !mode.is_empty() && mode != "REDIRECT");
    found.extend(other.map(Finding::Interception));
    found.extend(pod.is_ipv6_only().then_some(Finding::Ipv6Only));
    found.extend(snapshot.merbridge.then_some(Finding::Merbridge));
    let loopback = said(RANGES).filter(|ranges| ranges.split(',').any(is_loopback));
    found.extend(loopback.map(Finding::LoopbackIncluded));
    found.extend(pod.proxy_user.filter(|user| *user != PROXY_USER).map(Finding::ProxyUser));
    found
}

/// Is the range one of loopback addresses? `*` is not: what stays in the pod is exempt from it.
fn is_loopback(range: &str) -> bool {
    let address = range.trim().split('/').next().unwrap_or_default();
    address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Does the port miss Envoy?
fn excluded(pod: &Pod, port: u16) -> Option<Finding> {
    let names = |said: &str| said.split(',').any(|one| one.trim().parse() == Ok(port));
    let finding = |key, said: &String| Finding::PortExcluded { port, key, said: said.clone() };
    let exclude = pod.annotations.get(EXCLUDE).filter(|said| names(said));
    // An empty one lets nothing in.
    let include = pod.annotations.get(INCLUDE).filter(|said| said.trim() != "*" && !names(said));
    exclude.map(|said| finding(EXCLUDE, said)).or_else(|| include.map(|said| finding(INCLUDE, said)))
}

/// Why a port that the base lists is left as it is.
fn against(base: &Sidecar, entry: &Ingress) -> Option<Finding> {
    let (sidecar, port) = (base.full_name(), entry.port.number);
    if entry.rest.get("captureMode").and_then(Value::as_str) == Some("NONE") {
        return Some(Finding::BaseListens { sidecar, port });
    }
    let endpoint = entry.default_endpoint.clone()?;
    let same = ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"].iter().any(|host| endpoint == format!("{host}:{port}"));
    (!same && !endpoint.is_empty()).then_some(Finding::BaseEndpoint { sidecar, port, endpoint })
}
