//! Everything that was seen of the cluster, as values; and which agents can be believed. It refuses to know a client.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nodetap_core::mesh::routes::VirtualService;
use nodetap_core::mesh::sidecar::Sidecar;
use nodetap_core::mesh::snapshot::{Capture, Pod, Service, Settings, Snapshot};

use super::read::Placed;
use crate::cluster::Change;

/// Something that was seen.
#[derive(Debug)]
pub(super) enum Seen {
    Pods(Change<Box<Placed>>),
    Services(Change<Service>),
    Sidecars(Change<Sidecar>),
    VirtualServices(Change<VirtualService>),
    Nodes(Change<(String, Stands)>),
    /// Of agents: the node, and what the Lease said.
    Leases(Change<(String, Renewed)>),
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stands {
    pub(super) ready: bool,
    /// Another one after each start of the machine; may be empty.
    pub(super) boot: String,
}

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Renewed {
    pub(super) at: String,
    pub(super) lasts: Duration,
}

/// All that is known; kinds that were not listed yet are missing, and then nothing is decided.
#[derive(Debug, Default)]
pub(super) struct Known {
    pods: Option<HashMap<String, Placed>>,
    services: Option<HashMap<(String, String), Service>>,
    sidecars: Option<HashMap<(String, String), Sidecar>>,
    /// Nothing but advice comes of them: nobody waits for these.
    virtual_services: Option<HashMap<(String, String), VirtualService>>,
    /// With when we saw them start anew, by our clock.
    nodes: Option<HashMap<String, (Stands, Option<Instant>)>>,
    /// With when it changed last, by our clock: those of others are not believed.
    leases: Option<HashMap<String, (Renewed, Instant)>>,
}

impl Known {
    /// Takes in what was seen.
    pub(super) fn take(&mut self, seen: Seen, now: Instant) {
        match seen {
            Seen::Pods(change) => put(&mut self.pods, change, |one| one.pod.key.uid.clone(), |one, _| *one),
            Seen::Services(change) => {
                put(&mut self.services, change, |one| (one.namespace.clone(), one.name.clone()), |it, _| it)
            }
            Seen::Sidecars(change) => {
                put(&mut self.sidecars, change, |one| (one.namespace.clone(), one.name.clone()), |it, _| it)
            }
            Seen::VirtualServices(change) => {
                put(&mut self.virtual_services, change, |one| (one.namespace.clone(), one.name.clone()), |it, _| it)
            }
            Seen::Nodes(change) => {
                let since = |(_, stands): (String, Stands), before: Option<&(Stands, Option<Instant>)>| match before {
                    // A node that goes and comes back has started anew, too, but is not known then.
                    Some((known, _)) if known.boot != stands.boot && !known.boot.is_empty() => (stands, Some(now)),
                    Some((_, at)) => (stands, *at),
                    None => (stands, None),
                };
                put(&mut self.nodes, change, |(name, _)| name.clone(), since);
            }
            Seen::Leases(change) => {
                let since = |(_, renewed): (String, Renewed), before: Option<&(Renewed, Instant)>| match before {
                    Some((known, at)) if *known == renewed => (renewed, *at),
                    _ => (renewed, now),
                };
                put(&mut self.leases, change, |(node, _)| node.clone(), since);
            }
        }
    }

    /// What is decided by, once all kinds are known.
    pub(super) fn snapshot(&self, settings: &Settings, now: Instant) -> Option<Snapshot> {
        let (pods, leases, nodes) = (self.pods.as_ref()?, self.leases.as_ref()?, self.nodes.as_ref()?);
        let believed = |placed: &Placed| {
            let mut pod = placed.pod.clone();
            if matches!(pod.capture, Capture::Verified(_))
                && let Some(why) = away(&placed.node, leases, nodes, now)
            {
                pod.capture = Capture::Stale(why);
            }
            pod
        };
        Some(Snapshot {
            settings: settings.clone(),
            pods: pods.values().map(believed).collect::<Vec<Pod>>(),
            services: self.services.as_ref()?.values().cloned().collect(),
            sidecars: self.sidecars.as_ref()?.values().cloned().collect(),
            virtual_services: self.virtual_services.iter().flat_map(HashMap::values).cloned().collect(),
            merbridge: pods.values().any(is_merbridge),
        })
    }
}

fn is_merbridge(placed: &Placed) -> bool {
    placed.pod.workload.kind == "DaemonSet" && placed.pod.workload.name == "merbridge"
}

/// Why what the agent of a node said is not to be believed.
fn away(
    node: &str,
    leases: &HashMap<String, (Renewed, Instant)>,
    nodes: &HashMap<String, (Stands, Option<Instant>)>,
    now: Instant,
) -> Option<String> {
    let Some((renewed, at)) = leases.get(node) else {
        return Some(format!("node {node} has no agent"));
    };
    if now.duration_since(*at) > renewed.lasts {
        return Some(format!("the agent of node {node} gave no sign of life for {} s", renewed.lasts.as_secs()));
    }
    // A node that cannot be known is one that nobody says anything bad of.
    let (stands, anew) = nodes.get(node)?;
    // What stands on its pods was said before: none of those listeners is there, and Lease and node look well for a while.
    if anew.is_some_and(|anew| *at <= anew) {
        return Some(format!("node {node} has started anew, and its agent has not said anything since"));
    }
    (!stands.ready).then(|| format!("node {node} is not ready"))
}

/// `keep` is shown what was known of the same one before.
fn put<K, V, W>(
    place: &mut Option<HashMap<K, W>>,
    change: Change<V>,
    key: impl Fn(&V) -> K,
    keep: impl Fn(V, Option<&W>) -> W,
) where
    K: std::hash::Hash + Eq,
{
    let known = place.get_or_insert_default();
    let kept = |one: V, known: &HashMap<K, W>| {
        let key = key(&one);
        let value = keep(one, known.get(&key));
        (key, value)
    };
    match change {
        Change::All(all) => *known = all.into_iter().map(|one| kept(one, known)).collect(),
        Change::Applied(one) => {
            let (key, value) = kept(one, known);
            known.insert(key, value);
        }
        Change::Gone(one) => drop(known.remove(&key(&one))),
    }
}

/// The same of lists, for who asks once: agents are believed.
pub(super) fn of_lists(
    pods: Vec<Placed>,
    services: Vec<Service>,
    sidecars: Vec<Sidecar>,
    virtual_services: Vec<VirtualService>,
    settings: &Settings,
) -> Snapshot {
    let merbridge = pods.iter().any(is_merbridge);
    let pods = pods.into_iter().map(|placed| placed.pod).collect();
    Snapshot { settings: settings.clone(), pods, services, sidecars, virtual_services, merbridge }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renewed(at: &str) -> Renewed {
        Renewed { at: at.into(), lasts: Duration::from_secs(40) }
    }

    fn node(ready: bool, boot: &str) -> (String, Stands) {
        ("n1".into(), Stands { ready, boot: boot.into() })
    }

    #[test]
    fn what_an_agent_said_before_its_node_started_anew_is_not_believed_until_it_says_something() {
        let start = Instant::now();
        let mut known = Known::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        let why =
            |known: &Known, now| away("n1", known.leases.as_ref().unwrap(), known.nodes.as_ref().unwrap(), at(now));
        known.take(Seen::Nodes(Change::All(vec![node(true, "a")])), at(0));
        known.take(Seen::Leases(Change::All(vec![("n1".into(), renewed("a"))])), at(1));
        known.take(Seen::Nodes(Change::Applied(node(true, "a"))), at(2));
        assert_eq!(why(&known, 2), None);
        // Neither its Lease nor its being ready has noticed yet.
        known.take(Seen::Nodes(Change::All(vec![node(true, "b")])), at(5));
        assert!(why(&known, 5).is_some_and(|why| why.contains("started anew")));
        known.take(Seen::Leases(Change::All(vec![("n1".into(), renewed("a"))])), at(6));
        assert!(why(&known, 6).is_some_and(|why| why.contains("started anew")));
        known.take(Seen::Leases(Change::Applied(("n1".into(), renewed("b")))), at(7));
        assert_eq!(why(&known, 7), None);
        known.take(Seen::Nodes(Change::Applied(node(true, "b"))), at(8));
        assert_eq!(why(&known, 8), None);
    }

    #[test]
    fn an_agent_is_believed_as_long_as_its_lease_moves_by_our_clock() {
        let start = Instant::now();
        let mut known = Known::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        let why = |known: &Known, now| {
            let (leases, nodes) = (known.leases.as_ref().unwrap(), known.nodes.as_ref().unwrap());
            away("n1", leases, nodes, at(now))
        };
        known.take(Seen::Nodes(Change::All(vec![node(true, "a")])), at(0));
        known.take(Seen::Leases(Change::All(vec![])), at(0));
        assert!(why(&known, 0).is_some_and(|why| why.contains("no agent")));
        known.take(Seen::Leases(Change::Applied(("n1".into(), renewed("a")))), at(1));
        assert_eq!(why(&known, 40), None);
        // The same again is no sign of life, however often it is seen.
        known.take(Seen::Leases(Change::All(vec![("n1".into(), renewed("a"))])), at(30));
        assert!(why(&known, 42).is_some_and(|why| why.contains("no sign of life")));
        known.take(Seen::Leases(Change::Applied(("n1".into(), renewed("b")))), at(43));
        assert_eq!(why(&known, 44), None);
        known.take(Seen::Nodes(Change::Applied(node(false, "a"))), at(45));
        assert!(why(&known, 45).is_some_and(|why| why.contains("not ready")));
        assert_eq!(known.snapshot(&Settings::default(), at(45)), None, "not all kinds are known");
    }
}
