//! Which namespaces lack the roots, which have old ones, and which do not ask any more. It refuses to act.

use std::collections::BTreeMap;

use nodetap_core::pod::keys::TRUST_BUNDLE;

use super::content::Digest;
use crate::cluster::follow::Change;

/// A namespace with our label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asking {
    pub(super) namespace: String,
    pub(super) value: String,
    /// It is being deleted: nothing can be made in it.
    pub(super) going: bool,
}

/// A ConfigMap of the name of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) ours: bool,
    pub(super) digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// `uid`: of the one that is there.
    Apply {
        namespace: String,
        uid: Option<String>,
    },
    Delete(Held),
}

impl Step {
    pub(super) fn namespace(&self) -> &str {
        match self {
            Self::Apply { namespace, .. } => namespace,
            Self::Delete(held) => &held.namespace,
        }
    }
}

/// What is known; nothing is decided before both lists are.
#[derive(Debug, Default)]
pub(super) struct Places {
    namespaces: Option<BTreeMap<String, Asking>>,
    maps: Option<BTreeMap<String, Held>>,
}

impl Places {
    pub(super) fn namespaces(&mut self, change: Change<Asking>) {
        apply(&mut self.namespaces, change, |asking| asking.namespace.clone());
    }

    pub(super) fn maps(&mut self, change: Change<Held>) {
        apply(&mut self.maps, change, |held| held.namespace.clone());
    }

    pub(super) fn anybody_asks(&self) -> bool {
        self.asking().next().is_some()
    }

    /// What is to be done so that `wanted` stands where it is asked for, and ours nowhere else.
    pub(super) fn steps(&self, wanted: Option<Digest>) -> Vec<Step> {
        let (Some(namespaces), Some(maps)) = (&self.namespaces, &self.maps) else { return Vec::new() };
        let asks = |namespace: &String| namespaces.get(namespace).is_some_and(Asking::is_yes);
        let goes = |namespace: &String| namespaces.get(namespace).is_some_and(|asking| asking.going);
        let unasked = maps.values().filter(|held| held.ours && !asks(&held.namespace) && !goes(&held.namespace));
        let deletes = unasked.cloned().map(Step::Delete);
        let applies = self.asking().filter_map(|asking| {
            let namespace = asking.namespace.clone();
            match (maps.get(&namespace), wanted?) {
                (None, _) => Some(Step::Apply { namespace, uid: None }),
                (Some(held), wanted) if held.ours && held.digest != wanted => {
                    Some(Step::Apply { namespace, uid: Some(held.uid.clone()) })
                }
                (Some(_), _) => None,
            }
        });
        deletes.chain(applies).collect()
    }

    /// What keeps us from it, one sentence each.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let mistaken = self.namespaces.iter().flat_map(BTreeMap::values).filter(|asking| !asking.is_known());
        let mistaken = mistaken.map(|Asking { namespace, value, .. }| {
            format!("namespace {namespace}: the label {TRUST_BUNDLE} is {value:?}, and may be \"true\" or \"false\"")
        });
        let foreign = self.asking().filter(|asking| {
            let held = self.maps.as_ref().and_then(|maps| maps.get(&asking.namespace));
            held.is_some_and(|held| !held.ours)
        });
        let foreign = foreign.map(|Asking { namespace, .. }| {
            format!(
                "namespace {namespace}: its ConfigMap {} is not ours and is left alone; delete it, and ours takes its place",
                super::NAME
            )
        });
        mistaken.chain(foreign)
    }

    fn asking(&self) -> impl Iterator<Item = &Asking> {
        self.namespaces.iter().flat_map(BTreeMap::values).filter(|asking| asking.is_yes())
    }
}

impl Asking {
    fn is_yes(&self) -> bool {
        self.value == "true" && !self.going
    }

    fn is_known(&self) -> bool {
        matches!(self.value.as_str(), "true" | "false")
    }
}

fn apply<V>(known: &mut Option<BTreeMap<String, V>>, change: Change<V>, key: impl Fn(&V) -> String) {
    match change {
        Change::All(all) => *known = Some(all.into_iter().map(|value| (key(&value), value)).collect()),
        // What is told before the list comes with the list.
        Change::Applied(value) => drop(known.as_mut().map(|known| known.insert(key(&value), value))),
        Change::Gone(value) => drop(known.as_mut().map(|known| known.remove(&key(&value)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Digest = [1; 32];

    fn asking(namespace: &str, value: &str) -> Asking {
        Asking { namespace: namespace.into(), value: value.into(), going: false }
    }

    fn held(namespace: &str, ours: bool, digest: Digest) -> Held {
        Held { namespace: namespace.into(), uid: format!("uid-{namespace}"), ours, digest }
    }

    #[test]
    fn nothing_is_done_before_both_lists_are_known() {
        let mut places = Places::default();
        places.maps(Change::All(vec![held("a", true, WANTED)]));
        assert_eq!(places.steps(Some(WANTED)), []);
        places.namespaces(Change::All(vec![]));
        assert_eq!(places.steps(Some(WANTED)), [Step::Delete(held("a", true, WANTED))]);
    }

    #[test]
    fn who_asks_gets_them_once_and_who_does_not_loses_ours_only() {
        let mut places = Places::default();
        places.maps(Change::All(vec![
            held("good", true, WANTED),
            held("old", true, [2; 32]),
            held("foreign", false, [2; 32]),
            held("unasked", true, WANTED),
            held("unasked-foreign", false, WANTED),
            held("no", true, WANTED),
        ]));
        let yes = ["good", "old", "foreign", "new"].map(|namespace| asking(namespace, "true"));
        places.namespaces(Change::All([&yes[..], &[asking("no", "false"), asking("typo", "yes")]].concat()));
        let apply = |namespace: &str, uid: Option<&str>| Step::Apply {
            namespace: namespace.into(),
            uid: uid.map(ToOwned::to_owned),
        };
        let deletes = [Step::Delete(held("no", true, WANTED)), Step::Delete(held("unasked", true, WANTED))];
        let applies = [apply("new", None), apply("old", Some("uid-old"))];
        assert_eq!(places.steps(Some(WANTED)), [&deletes[..], &applies].concat());
        assert_eq!(places.steps(None), deletes, "what is to stand there is not known yet");
        let problems: Vec<_> = places.problems().collect();
        assert!(problems.len() == 2 && problems[0].contains("typo") && problems[1].contains("foreign"), "{problems:?}");
        // Somebody changes ours.
        places.maps(Change::Applied(held("good", true, [3; 32])));
        assert!(places.steps(Some(WANTED)).contains(&apply("good", Some("uid-good"))));
        // A namespace that ends takes it along.
        places.namespaces(Change::Applied(Asking { going: true, ..asking("good", "true") }));
        assert!(places.steps(Some(WANTED)).iter().all(|step| step.namespace() != "good"));
    }
}
