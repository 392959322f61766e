//! The annotation `nodetap.io/resolved`: what stands on the workload that owns a pod, put on the pod by the controller,
//! so that agents need to read nothing but pods. The text depends on nothing but what it says: whoever writes it
//! compares it first, and writes it only when it is different.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::keys::{OWN, PUBLISHED, RESOLVED};

/// Bytes it may have. An object's annotations may have 256 KiB together; this is far from crowding out the user's own.
pub const LONGEST: usize = 16 * 1024;
/// Owners of one pod: a CronJob's Job has two.
const MOST_OWNERS: usize = 4;
/// A reader that finds another number does not guess.
const VERSION: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the annotations of {0} with nodetap's prefixes take {1} bytes, {LONGEST} at most")]
    TooLong(String, usize),
    #[error("it is no JSON of the form that is expected: {0}")]
    Unreadable(String),
    #[error("it has version {0}, and this agent knows {VERSION}")]
    Version(u8),
}

/// What owns a pod, directly or further up.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// `Deployment`, `StatefulSet`, ….
    pub kind: &'a str,
    pub name: &'a str,
    pub annotations: &'a BTreeMap<String, String>,
}

/// What one owner says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromOwner {
    /// `Deployment/web`.
    pub workload: String,
    /// Annotations of our prefixes, names and values as written.
    pub set: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    v: u8,
    from: Vec<FromOwner>,
}

/// What is to stand on a pod with these owners, the nearest first; `None`: nothing, and what stands there is removed.
///
/// A ReplicaSet of a Deployment is passed over: it carries a copy of the Deployment's annotations, which in older
/// ReplicaSets is never brought up to date.
///
/// # Errors
/// When it would be too long.
pub fn write(owners: &[Owner<'_>]) -> Result<Option<String>, Error> {
    let mut from = Vec::new();
    for (at, owner) in owners.iter().enumerate().take(MOST_OWNERS) {
        if owner.kind == "ReplicaSet" && owners.len() > at + 1 {
            continue;
        }
        let ours = |name: &str| name != RESOLVED && (name.starts_with(OWN) || name.starts_with(PUBLISHED));
        let set: BTreeMap<_, _> = owner.annotations.iter().filter(|(name, _)| ours(name)).collect();
        if !set.is_empty() {
            let set = set.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            from.push(FromOwner { workload: format!("{}/{}", owner.kind, owner.name), set });
        }
    }
    let Some(first) = from.first().map(|owner| owner.workload.clone()) else { return Ok(None) };
    let text = serde_json::to_string(&Written { v: VERSION, from }).map_err(|error| unreadable(&error))?;
    if text.len() > LONGEST {
        return Err(Error::TooLong(first, text.len()));
    }
    Ok(Some(text))
}

/// Reads it back, the nearest owner first. Fields that are not known are passed over.
///
/// # Errors
/// When it is not what [`write`] writes.
pub fn read(text: &str) -> Result<Vec<FromOwner>, Error> {
    if text.len() > LONGEST {
        return Err(Error::Unreadable(format!("it has {} bytes, {LONGEST} at most", text.len())));
    }
    let written: Written = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
    match written.v {
        VERSION => Ok(written.from.into_iter().take(MOST_OWNERS).collect()),
        other => Err(Error::Version(other)),
    }
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::Unreadable(error.to_string())
}

/// The workload's name as records carry it (`Deployment/web`), as far as the pod itself tells: its owner, and where that
/// is a ReplicaSet whose name ends with the hash that a Deployment gives, that Deployment.
pub fn workload(kind: &str, name: &str, labels: &BTreeMap<String, String>) -> String {
    let hash = labels.get("pod-template-hash").filter(|_| kind == "ReplicaSet");
    let deployment = hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    match deployment.filter(|name| !name.is_empty()) {
        Some(deployment) => format!("Deployment/{deployment}"),
        None => format!("{kind}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_of_others_is_copied() {
        let annotations = map(&[
            ("sidecar.speedscale.com/inject", "true"),
            ("nodetap.io/injct", "x"),
            ("nodetap.io/resolved", "{}"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ]);
        let owner = Owner { kind: "Deployment", name: "web", annotations: &annotations };
        let text = write(&[owner]).unwrap().unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"from":[{"workload":"Deployment/web","set":{"nodetap.io/injct":"x","sidecar.speedscale.com/inject":"true"}}]}"#
        );
        let read = read(&text).unwrap();
        assert_eq!((read.len(), read[0].set.len()), (1, 2));
    }

    #[test]
    fn a_replica_set_of_a_deployment_says_nothing_of_its_own() {
        let (old, new) = (map(&[("nodetap.io/inject", "true")]), map(&[]));
        let set = Owner { kind: "ReplicaSet", name: "web-1", annotations: &old };
        let deployment = Owner { kind: "Deployment", name: "web", annotations: &new };
        assert_eq!(write(&[set, deployment]), Ok(None));
        assert!(write(&[set]).unwrap().unwrap().contains("ReplicaSet/web-1"));
        let job = Owner { kind: "Job", name: "j", annotations: &old };
        let cron = Owner { kind: "CronJob", name: "c", annotations: &old };
        assert_eq!(read(&write(&[job, cron]).unwrap().unwrap()).unwrap().len(), 2);
    }

    #[test]
    fn it_has_a_limit_and_says_whose_it_is() {
        let long = map(&[("nodetap.io/ignore-dst-hosts", &"a,".repeat(LONGEST))]);
        let error = write(&[Owner { kind: "Deployment", name: "web", annotations: &long }]).unwrap_err();
        assert!(error.to_string().starts_with("the annotations of Deployment/web"), "{error}");
        assert!(read(&" ".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn what_somebody_else_wrote_is_not_guessed_at() {
        for text in ["", "{}", "[]", r#"{"v":1}"#, r#"{"v":"1","from":[]}"#, r#"{"v":1,"from":[{"workload":"x"}]}"#] {
            assert!(matches!(read(text), Err(Error::Unreadable(_))), "{text}");
        }
        assert_eq!(read(r#"{"v":2,"from":[]}"#), Err(Error::Version(2)));
        assert_eq!(read(r#"{"v":1,"from":[],"more":1}"#), Ok(Vec::new()));
    }

    #[test]
    fn a_pod_tells_its_deployment() {
        let labels = map(&[("pod-template-hash", "6774cc6887")]);
        assert_eq!(workload("ReplicaSet", "web-6774cc6887", &labels), "Deployment/web");
        assert_eq!(workload("ReplicaSet", "web", &labels), "ReplicaSet/web");
        assert_eq!(workload("ReplicaSet", "-6774cc6887", &labels), "ReplicaSet/-6774cc6887");
        assert_eq!(workload("StatefulSet", "db", &map(&[])), "StatefulSet/db");
    }
}
