//! Events on pods and other objects, for `kubectl describe`: each is said once in a while, and a pod that is troubled all
//! the time does not flood the cluster. [`Gate`] decides that, without a clock of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event as Object;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::condition::{PodName, now};

/// The same event of the same pod is not repeated within this time.
const REPEAT: Duration = Duration::from_secs(600);
/// Events of one pod within [`REPEAT`], at most.
const OF_ONE_POD: usize = 12;
/// Pods of which is remembered what was said.
const PODS: usize = 1024;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub warning: bool,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// One or two sentences.
    pub note: String,
}

/// Lets through what is new.
#[derive(Debug, Default)]
pub struct Gate {
    said: HashMap<String, Vec<(Event, Instant)>>,
}

impl Gate {
    /// May this be said now?
    pub fn lets_through(&mut self, uid: &str, event: &Event, now: Instant) -> bool {
        if !self.said.contains_key(uid) && self.said.len() >= PODS {
            let fresh = |said: &[(Event, Instant)]| said.iter().any(|(_, at)| now.duration_since(*at) < REPEAT);
            self.said.retain(|_, said| fresh(said));
            if self.said.len() >= PODS {
                return false;
            }
        }
        let said = self.said.entry(uid.to_owned()).or_default();
        said.retain(|(_, at)| now.duration_since(*at) < REPEAT);
        if said.len() >= OF_ONE_POD || said.iter().any(|(before, _)| before == event) {
            return false;
        }
        said.push((event.clone(), now));
        true
    }

    /// The pod is gone.
    pub fn forget(&mut self, uid: &str) {
        self.said.remove(uid);
    }
}

/// The API server's limit of a message.
const NOTE: usize = 1000;

/// Who says it.
#[derive(Debug, Clone, Copy)]
pub struct Speaker<'a> {
    /// The part of nodetap.
    pub component: &'a str,
    /// Which one of it: the node, or the replica.
    pub instance: &'a str,
}

/// What it is about.
#[derive(Debug, Clone, Copy)]
pub struct Regarding<'a> {
    /// `networking.istio.io/v1`; `v1` for what belongs to no group.
    pub api_version: &'a str,
    pub kind: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
}

/// Writes it, about a pod.
///
/// # Errors
/// What the API server says.
pub async fn write(client: kube::Client, by: Speaker<'_>, pod: &PodName, event: &Event) -> kube::Result<()> {
    let PodName { namespace, name, uid } = pod;
    write_about(client, by, Regarding { api_version: "v1", kind: "Pod", namespace, name, uid }, event).await
}

/// Writes it, about any object in a namespace.
///
/// # Errors
/// What the API server says.
pub async fn write_about(
    client: kube::Client,
    by: Speaker<'_>,
    about: Regarding<'_>,
    event: &Event,
) -> kube::Result<()> {
    let Regarding { api_version, kind, namespace, name, uid } = about;
    let at = now();
    let note: String = event.note.chars().take(NOTE).collect();
    let object = json!({
        "metadata": {"generateName": format!("{}.", short(name)), "namespace": namespace},
        "involvedObject": {"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name, "uid": uid},
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "message": note,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "source": {"component": by.component, "host": by.instance},
        "reportingComponent": by.component,
        "reportingInstance": by.instance,
    });
    let object: Object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let api = Api::<Object>::namespaced(client, namespace);
    api.create(&PostParams::default(), &object).await.map(|_| ())
}

/// Short enough that the name that is made of it is one.
fn short(name: &str) -> &str {
    let end = name.char_indices().nth(200).map_or(name.len(), |(at, _)| at);
    name.get(..end).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(note: &str) -> Event {
        Event { warning: true, reason: "Refused", note: note.into() }
    }

    #[test]
    fn the_same_is_said_once_in_a_while_and_one_pod_does_not_flood() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        assert!(gate.lets_through("a", &event("x"), start));
        assert!(!gate.lets_through("a", &event("x"), start + REPEAT / 2));
        assert!(gate.lets_through("b", &event("x"), start));
        assert!(gate.lets_through("a", &event("x"), start + REPEAT));
        let many = (0..100).filter(|n| gate.lets_through("a", &event(&n.to_string()), start + REPEAT)).count();
        assert_eq!(many, OF_ONE_POD - 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let all = (0..PODS * 2).filter(|n| gate.lets_through(&n.to_string(), &event("x"), start)).count();
        assert_eq!(all, PODS);
        assert!(gate.lets_through("late", &event("x"), start + REPEAT));
    }
}
