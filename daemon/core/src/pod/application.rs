//! Where the application listens: what was said, or else what was found, matched with what the manifest and the Services
//! name. What does not match is said, never guessed away.

use std::collections::{BTreeMap, BTreeSet};

use super::config::Config;
use super::decision::{captured, is_captured};
use super::facts::{Kind, Pod};
use super::observed::{Listening, Observed};
use super::value::MOST_PORTS;

/// Ports that are named in one note.
const NAMED: usize = 8;

/// What is known of the application's ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Application {
    /// Ports that are captured inbound, those that were said in their order, else in rising order.
    pub ports: Vec<u16>,
    /// Ports that the manifest or a Service names, whether anybody listens there or not.
    pub named: BTreeSet<u16>,
    /// Anything listens at all.
    pub listens: bool,
    /// What a user may want to know, one sentence each.
    pub notes: BTreeSet<String>,
}

impl Application {
    pub fn of(pod: &Pod, config: &Config, observed: &Observed) -> Self {
        let found = found(pod, config, observed);
        let reachable: BTreeSet<u16> = found.iter().filter(|(_, here)| !**here).map(|(port, _)| *port).collect();
        let loopback: BTreeSet<u16> = found.iter().filter(|(_, here)| **here).map(|(port, _)| *port).collect();
        let named = named(pod, config);
        let mut notes = BTreeSet::new();
        let mut ports = match &config.ports {
            Some(said) => {
                let silent = said.iter().copied().filter(|port| !found.contains_key(port)).collect();
                let listens =
                    if found.is_empty() { String::new() } else { format!(" (but on {})", list(found.keys())) };
                note(&mut notes, &silent, |ports| format!("the application does not listen on port {ports}{listens}"));
                said.clone()
            }
            None => chosen(config, &named, &reachable, &mut notes),
        };
        let hidden = match &config.ports {
            // Reverse reaches what listens on loopback; the kernel steers nothing there.
            Some(said) if config.proxy_type.steers() => {
                loopback.iter().copied().filter(|port| said.contains(port)).collect()
            }
            Some(_) => BTreeSet::new(),
            None => loopback,
        };
        note(&mut notes, &hidden, |ports| format!("port {ports} is bound to loopback only: nobody outside reaches it"));
        ports.retain(|port| !config.inbound.ports.contains(port));
        if ports.len() > MOST_PORTS {
            let beyond = ports.split_off(MOST_PORTS).into_iter().collect();
            note(&mut notes, &beyond, |ports| format!("port {ports} is beyond the limit of {MOST_PORTS} ports"));
        }
        Self { ports, named, listens: !found.is_empty(), notes }
    }
}

/// Ports on which captured containers listen; `true`: on loopback only.
fn found(pod: &Pod, config: &Config, observed: &Observed) -> BTreeMap<u16, bool> {
    let all_captured = pod.containers.iter().all(|container| is_captured(container, config));
    let theirs = |listening: &&Listening| match &listening.container {
        Some(id) => captured(pod, config).any(|container| container.id.as_deref() == Some(id)),
        // Of whom it is was not found out: only where nobody else is there it is the application's.
        None => all_captured,
    };
    let mut found = BTreeMap::new();
    for listening in observed.listening.iter().filter(theirs) {
        let here = listening.address.to_canonical().is_loopback();
        found.entry(listening.port).and_modify(|before| *before &= here).or_insert(here);
    }
    found
}

/// Ports that the manifest or a Service names.
fn named(pod: &Pod, config: &Config) -> BTreeSet<u16> {
    let stays = captured(pod, config).filter(|container| matches!(container.kind, Kind::App | Kind::Sidecar));
    stays.flat_map(|container| &container.ports).chain(&pod.service_ports).copied().collect()
}

/// Which of the ports that were found are captured, where none were said.
fn chosen(config: &Config, named: &BTreeSet<u16>, reachable: &BTreeSet<u16>, notes: &mut BTreeSet<String>) -> Vec<u16> {
    let silent: BTreeSet<u16> = named.difference(reachable).copied().collect();
    if !reachable.is_empty() {
        note(notes, &silent, |ports| {
            format!("the pod names port {ports}, and nothing that is reached from outside listens there")
        });
    }
    let unnamed: BTreeSet<u16> = reachable.difference(named).copied().collect();
    if config.proxy_type.steers() || unnamed.len() == reachable.len() {
        // The kernel steers whatever listens; and where no name fits, names mean nothing.
        return reachable.iter().copied().collect();
    }
    note(notes, &unnamed, |ports| {
        format!(
            "the application listens on port {ports} too, which neither the pod nor a Service names: proxy-port does"
        )
    });
    reachable.intersection(named).copied().collect()
}

fn note(notes: &mut BTreeSet<String>, ports: &BTreeSet<u16>, say: impl Fn(String) -> String) {
    if !ports.is_empty() {
        notes.insert(say(list(ports)));
    }
}

/// Ports for people, not too many of them.
fn list<'a>(ports: impl IntoIterator<Item = &'a u16>) -> String {
    let all: Vec<String> = ports.into_iter().map(ToString::to_string).collect();
    let more = all.len().saturating_sub(NAMED);
    let shown = all.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::facts::Container;
    use crate::pod::samples::{config, listening};

    fn container(name: &str, kind: Kind, ports: &[u16]) -> Container {
        Container {
            name: name.into(),
            kind,
            image: None,
            id: Some(format!("id-{name}")),
            ports: ports.iter().copied().collect(),
        }
    }

    fn pod(ports: &[u16]) -> Pod {
        let containers = vec![container("app", Kind::App, ports), container("istio-proxy", Kind::Sidecar, &[15090])];
        Pod { containers, ..Pod::default() }
    }

    fn application(pod: &Pod, annotations: &[(&str, &str)], sockets: &[(&str, u16, &str)]) -> (Vec<u16>, Vec<String>) {
        let observed = Observed {
            listening: sockets.iter().map(|(address, port, by)| listening(address, *port, by)).collect(),
            ..Observed::default()
        };
        let Application { ports, notes, .. } = Application::of(pod, &config(annotations), &observed);
        (ports, notes.into_iter().collect())
    }

    const REVERSE: (&str, &str) = ("proxy-type", "reverse");

    #[test]
    fn what_the_application_listens_on_is_matched_with_what_is_named() {
        let sockets = [("0.0.0.0", 8080, "id-app"), ("::", 9229, "id-app"), ("0.0.0.0", 15090, "id-istio-proxy")];
        let (ports, notes) = application(&pod(&[8080]), &[REVERSE], &sockets);
        assert_eq!(ports, [8080]);
        assert_eq!(
            notes,
            ["the application listens on port 9229 too, which neither the pod nor a Service names: proxy-port does"]
        );
        // A Service's target port counts as named; and the kernel steers whatever listens.
        let served = Pod { service_ports: BTreeSet::from([9229]), ..pod(&[8080]) };
        assert_eq!(application(&served, &[REVERSE], &sockets).0, [8080, 9229]);
        assert_eq!(application(&pod(&[8080]), &[], &sockets), (vec![8080, 9229], vec![]));
    }

    #[test]
    fn a_port_that_is_named_wrongly_is_reported_and_the_real_one_taken() {
        let (ports, notes) = application(&pod(&[80]), &[REVERSE], &[("0.0.0.0", 3000, "id-app")]);
        assert_eq!(ports, [3000]);
        assert_eq!(notes, ["the pod names port 80, and nothing that is reached from outside listens there"]);
        let said = [REVERSE, ("proxy-port", "8080,80")];
        let (ports, notes) = application(&pod(&[80]), &said, &[("0.0.0.0", 3000, "id-app")]);
        assert_eq!(ports, [8080, 80]);
        assert_eq!(notes, ["the application does not listen on port 80, 8080 (but on 3000)"]);
    }

    #[test]
    fn what_listens_on_loopback_only_is_reported_and_taken_only_when_it_is_said() {
        let sockets = [("127.0.0.1", 8080, "id-app"), ("::1", 8080, "id-app")];
        let (ports, notes) = application(&pod(&[8080]), &[REVERSE], &sockets);
        assert_eq!(ports, [0; 0]);
        assert_eq!(notes, ["port 8080 is bound to loopback only: nobody outside reaches it"]);
        assert_eq!(application(&pod(&[8080]), &[REVERSE, ("proxy-port", "8080")], &sockets), (vec![8080], vec![]));
        assert_eq!(application(&pod(&[8080]), &[("proxy-port", "8080")], &sockets).1, notes);
    }

    #[test]
    fn a_socket_of_nobody_counts_where_nobody_else_is() {
        let sockets = [("0.0.0.0", 8080, "")];
        assert_eq!(application(&pod(&[]), &[], &sockets).0, [0; 0]);
        let alone = Pod { containers: vec![container("app", Kind::App, &[])], ..Pod::default() };
        assert_eq!(application(&alone, &[], &sockets).0, [8080]);
    }

    #[test]
    fn ports_have_a_limit_and_may_be_ignored() {
        let sockets: Vec<_> = (1..=40).map(|port| ("0.0.0.0", port, "id-app")).collect();
        let (ports, notes) = application(&pod(&[]), &[("ignore-inbound-ports", "1,2")], &sockets);
        assert_eq!((ports.len(), ports[0]), (MOST_PORTS, 3));
        assert_eq!(notes, ["port 19, 20, 21, 22, 23, 24, 25, 26 and 14 more is beyond the limit of 16 ports"]);
    }
}
