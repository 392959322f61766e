//! Pods and what owns them, as plain values: who is to be written on, and what. It refuses to know a client or a clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nodetap_core::pod::keys::{OWN, PUBLISHED, RESOLVED};
use nodetap_core::pod::resolved::{self, Owner};

use crate::cluster::follow::Change;

/// Owners above a pod that are looked at; more are a circle.
const DEPTH: usize = 4;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Pod,
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
}

/// How many kinds there are.
const KINDS: usize = 7;

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }

    fn is_watched(word: &str) -> bool {
        let owners = [Self::Deployment, Self::ReplicaSet, Self::StatefulSet, Self::DaemonSet, Self::Job, Self::CronJob];
        owners.iter().any(|kind| kind.word() == word)
    }
}

/// A pod, or what may own one, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Kind and uid of the owner that controls it.
    pub(super) owner: Option<(String, String)>,
    /// Those of our prefixes.
    pub(super) annotations: BTreeMap<String, String>,
    /// It is being deleted.
    pub(super) going: bool,
}

/// Annotations that are ours to read.
pub(super) fn ours(mut all: BTreeMap<String, String>) -> BTreeMap<String, String> {
    all.retain(|name, _| name.starts_with(OWN) || name.starts_with(PUBLISHED));
    all
}

/// What is to be written on a pod; `None`: the annotation goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) text: Option<String>,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Family {
    members: HashMap<String, (Kind, Member)>,
    /// By the owner's uid.
    owned: HashMap<String, BTreeSet<String>>,
    /// Kinds of which all are known.
    listed: BTreeSet<Kind>,
}

impl Family {
    /// Takes in a change; gives the pods for which something may be different now.
    pub(super) fn apply(&mut self, kind: Kind, change: Change<Member>) -> BTreeSet<String> {
        let mut touched = BTreeSet::new();
        match change {
            Change::All(all) => {
                let known: BTreeSet<&String> = all.iter().map(|member| &member.uid).collect();
                let of_kind = self.members.iter().filter(|(_, (other, _))| *other == kind).map(|(uid, _)| uid);
                let gone: Vec<String> = of_kind.filter(|uid| !known.contains(uid)).cloned().collect();
                gone.iter().for_each(|uid| self.remove(uid, &mut touched));
                all.into_iter().for_each(|member| self.insert(kind, member, &mut touched));
                // Before all of every kind are known, nobody knows what a pod lacks.
                if self.listed.insert(kind) && self.listed.len() == KINDS {
                    let pods = self.members.iter().filter(|(_, (kind, _))| *kind == Kind::Pod);
                    touched = pods.map(|(uid, _)| uid.clone()).collect();
                }
            }
            Change::Applied(member) => self.insert(kind, member, &mut touched),
            Change::Gone(member) => self.remove(&member.uid, &mut touched),
        }
        if self.listed.len() < KINDS { BTreeSet::new() } else { touched }
    }

    fn insert(&mut self, kind: Kind, member: Member, touched: &mut BTreeSet<String>) {
        let uid = member.uid.clone();
        // Most changes are to a status that we do not see.
        if self.members.get(&uid).is_some_and(|(_, known)| *known == member) {
            return;
        }
        self.disown(&uid);
        if let Some((_, owner)) = &member.owner {
            self.owned.entry(owner.clone()).or_default().insert(uid.clone());
        }
        self.members.insert(uid.clone(), (kind, member));
        self.pods_below(&uid, DEPTH, touched);
    }

    fn remove(&mut self, uid: &str, touched: &mut BTreeSet<String>) {
        self.disown(uid);
        self.members.remove(uid);
        self.pods_below(uid, DEPTH, touched);
    }

    fn disown(&mut self, uid: &str) {
        let owner = self.members.get(uid).and_then(|(_, member)| member.owner.as_ref()).map(|(_, owner)| owner.clone());
        if let Some(owner) = owner
            && let Some(owned) = self.owned.get_mut(&owner)
        {
            owned.remove(uid);
            if owned.is_empty() {
                self.owned.remove(&owner);
            }
        }
    }

    /// Itself, if it is a pod, and all pods that it owns.
    fn pods_below(&self, uid: &str, depth: usize, pods: &mut BTreeSet<String>) {
        if self.members.get(uid).is_some_and(|(kind, _)| *kind == Kind::Pod) {
            pods.insert(uid.to_owned());
        }
        if depth > 0 {
            self.owned.get(uid).into_iter().flatten().for_each(|below| self.pods_below(below, depth - 1, pods));
        }
    }

    /// What is to be written on a pod, if anything.
    pub(super) fn write(&self, uid: &str) -> Option<Write> {
        let (_, pod) = self.members.get(uid).filter(|(kind, pod)| *kind == Kind::Pod && !pod.going)?;
        let text = match resolved::write(&self.owners(pod)?) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(namespace = pod.namespace, pod = pod.name, %error, "cannot be put on the pod");
                None
            }
        };
        let differs = pod.annotations.get(RESOLVED) != text.as_ref();
        let Member { uid, namespace, name, .. } = pod.clone();
        differs.then_some(Write { uid, namespace, name, text })
    }

    /// Nearest first. `None`: one of them is not known (yet): nothing is said about the pod until it is.
    fn owners(&self, pod: &Member) -> Option<Vec<Owner<'_>>> {
        let mut owners = Vec::new();
        let mut next = pod.owner.as_ref();
        while let Some((kind, uid)) = next.filter(|(kind, _)| Kind::is_watched(kind) && owners.len() < DEPTH) {
            let (_, owner) = self.members.get(uid).filter(|(known, _)| known.word() == kind)?;
            owners.push(Owner {
                kind: self.members.get(uid)?.0.word(),
                name: &owner.name,
                annotations: &owner.annotations,
            });
            next = owner.owner.as_ref();
        }
        Some(owners)
    }

    /// It stands there now; the watch will say so too.
    pub(super) fn written(&mut self, write: &Write) {
        if let Some((_, pod)) = self.members.get_mut(&write.uid) {
            match &write.text {
                Some(text) => drop(pod.annotations.insert(RESOLVED.to_owned(), text.clone())),
                None => drop(pod.annotations.remove(RESOLVED)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: &str = "nodetap.io/inject";

    fn member(uid: &str, owner: Option<(&str, &str)>, annotations: &[(&str, &str)]) -> Member {
        let owned = |(kind, uid): (&str, &str)| (kind.to_owned(), uid.to_owned());
        let pairs = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let (namespace, name) = ("shop".to_owned(), format!("name-of-{uid}"));
        Member { uid: uid.into(), namespace, name, owner: owner.map(owned), annotations: pairs.collect(), going: false }
    }

    /// A Deployment with two ReplicaSets of one pod each, and a Job of a CronJob with one pod.
    fn family(deployment: &[(&str, &str)]) -> (Family, BTreeSet<String>) {
        let mut family = Family::default();
        let mut touched = BTreeSet::new();
        for (kind, all) in [
            (
                Kind::Pod,
                vec![
                    member("p1", Some(("ReplicaSet", "r1")), &[]),
                    member("p2", Some(("ReplicaSet", "r2")), &[]),
                    member("p3", Some(("Job", "j")), &[]),
                    member("p4", Some(("Rollout", "x")), &[(RESOLVED, "of long ago")]),
                    member("p5", Some(("StatefulSet", "not seen yet")), &[(RESOLVED, "stays")]),
                ],
            ),
            (
                Kind::ReplicaSet,
                vec![
                    member("r1", Some(("Deployment", "d")), &[(ON, "an old copy")]),
                    member("r2", Some(("Deployment", "d")), &[]),
                ],
            ),
            (Kind::Job, vec![member("j", Some(("CronJob", "c")), &[])]),
            (Kind::CronJob, vec![member("c", None, &[(ON, "true")])]),
            (Kind::StatefulSet, vec![]),
            (Kind::DaemonSet, vec![]),
            (Kind::Deployment, vec![member("d", None, deployment)]),
        ] {
            assert!(touched.is_empty(), "touched before all are known");
            touched = family.apply(kind, Change::All(all));
        }
        (family, touched)
    }

    fn written(family: &Family, pods: &BTreeSet<String>) -> Vec<(String, Option<String>)> {
        let from =
            |text: String| resolved::read(&text).unwrap().into_iter().map(|one| one.workload).collect::<String>();
        let writes = pods.iter().filter_map(|pod| family.write(pod));
        writes.map(|write| (write.uid, write.text.map(from))).collect()
    }

    fn some(uid: &str, from: &str) -> (String, Option<String>) {
        (uid.to_owned(), Some(from.to_owned()))
    }

    #[test]
    fn when_all_are_known_each_pod_gets_what_its_workload_says_and_others_lose_what_nothing_says() {
        let (family, touched) = family(&[(ON, "true")]);
        let expected = [
            some("p1", "Deployment/name-of-d"),
            some("p2", "Deployment/name-of-d"),
            some("p3", "CronJob/name-of-c"),
            ("p4".to_owned(), None),
        ];
        assert_eq!(written(&family, &touched), expected);
    }

    #[test]
    fn a_change_to_a_workload_touches_its_pods_and_one_to_its_status_none() {
        let (mut family, _) = family(&[]);
        let now = member("d", None, &[(ON, "true")]);
        let touched = family.apply(Kind::Deployment, Change::Applied(now.clone()));
        assert_eq!(
            written(&family, &touched),
            [some("p1", "Deployment/name-of-d"), some("p2", "Deployment/name-of-d")]
        );
        assert!(family.apply(Kind::Deployment, Change::Applied(now)).is_empty());
        for pod in ["p1", "p2"] {
            let write = family.write(pod).unwrap();
            family.written(&write);
            assert_eq!(family.write(pod), None, "written once");
        }
        let touched = family.apply(Kind::Deployment, Change::Applied(member("d", None, &[])));
        assert_eq!(written(&family, &touched), [("p1".to_owned(), None), ("p2".to_owned(), None)]);
    }

    #[test]
    fn of_a_pod_whose_owner_is_not_known_nothing_is_said_until_it_is() {
        let (mut family, _) = family(&[(ON, "true")]);
        let touched = family.apply(Kind::Pod, Change::Applied(member("p6", Some(("ReplicaSet", "r3")), &[])));
        assert_eq!(written(&family, &touched), []);
        let touched = family.apply(Kind::ReplicaSet, Change::Applied(member("r3", Some(("Deployment", "d")), &[])));
        assert_eq!(written(&family, &touched), [some("p6", "Deployment/name-of-d")]);
        let touched = family.apply(Kind::Deployment, Change::Gone(member("d", None, &[])));
        assert_eq!(written(&family, &touched), [], "its pods go with it, or are told that they have no owner");
    }

    #[test]
    fn a_new_list_takes_away_what_is_not_on_it() {
        let (mut family, _) = family(&[(ON, "true")]);
        let touched = family.apply(Kind::Pod, Change::All(vec![member("p1", Some(("ReplicaSet", "r1")), &[])]));
        assert_eq!(written(&family, &touched), [], "p1 has not changed, and the others are gone");
        assert_eq!(family.members.len(), 6);
        assert_eq!(family.owned.values().map(BTreeSet::len).sum::<usize>(), 4);
    }

    #[test]
    fn a_pod_that_goes_is_left_alone() {
        let (mut family, _) = family(&[(ON, "true")]);
        let going = Member { going: true, ..member("p1", Some(("ReplicaSet", "r1")), &[]) };
        let touched = family.apply(Kind::Pod, Change::Applied(going));
        assert_eq!(written(&family, &touched), []);
    }
}
