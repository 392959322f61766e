//! Who wins: the pod, then what owns it, then its namespace; key by key, and it is kept who said what. The prefix under
//! which something stands decides nothing.

use std::collections::BTreeMap;

use super::annotations::{Layer, Said};
use super::keys::RESOLVED;
use super::refusal::{Refusal, Remark, Source};
use super::resolved;
use super::value::Value;

/// What holds for one pod, of all that was said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merged {
    pub keys: BTreeMap<&'static str, Said>,
    /// Keys whose nearest value is not accepted. A farther one that is does not take its place: somebody wanted
    /// something else.
    pub refusals: Vec<Refusal>,
    pub remarks: Vec<Remark>,
}

/// All that is said about a pod: by its own annotations (with what the controller put there), and by those of its
/// namespace.
pub fn of_pod(pod: &BTreeMap<String, String>, namespace: &str, of_namespace: &BTreeMap<String, String>) -> Merged {
    let mut layers = vec![Layer::read(Source::Pod, pod)];
    let mut unreadable = None;
    match pod.get(RESOLVED).map(|text| resolved::read(text)) {
        None => {}
        Some(Ok(owners)) => {
            layers.extend(owners.into_iter().map(|owner| Layer::read(Source::Workload(owner.workload), &owner.set)))
        }
        Some(Err(error)) => unreadable = Some(Refusal::Resolved(error.to_string())),
    }
    layers.push(Layer::read(Source::Namespace(namespace.to_owned()), of_namespace));
    let mut merged = merge(layers);
    // A pod that says itself that it is not captured needs no controller for that.
    let no = matches!(merged.keys.get("inject"), Some(Said { value: Value::Flag(false), on: Source::Pod, .. }));
    merged.refusals.extend(unreadable.filter(|_| !no));
    merged
}

/// Lays layers over one another, the nearest first.
pub fn merge(layers: impl IntoIterator<Item = Layer>) -> Merged {
    let mut merged = Merged::default();
    let mut nearest = BTreeMap::new();
    for layer in layers {
        for (name, said) in layer.keys {
            nearest.entry(name).or_insert(said);
        }
        merged.remarks.extend(layer.remarks);
    }
    for (name, said) in nearest {
        match said {
            Ok(said) => drop(merged.keys.insert(name, said)),
            Err(refusal) => merged.refusals.push(refusal),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn pod(own: &[(&str, &str)], workload: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut pod = map(own);
        let annotations = map(workload);
        let owner = resolved::Owner { kind: "Deployment", name: "web", annotations: &annotations };
        pod.extend(resolved::write(&[owner]).unwrap().map(|text| (RESOLVED.to_owned(), text)));
        pod
    }

    #[test]
    fn the_nearest_wins_key_by_key_whatever_its_prefix() {
        let pod = pod(
            &[("nodetap.io/proxy-in-port", "5001")],
            &[("sidecar.speedscale.com/proxy-type", "dual"), ("nodetap.io/proxy-in-port", "5002")],
        );
        let namespace = map(&[
            ("nodetap.io/inject", "true"),
            ("nodetap.io/proxy-type", "reverse"),
            ("sidecar.speedscale.com/proxy-in-port", "5003"),
        ]);
        let merged = of_pod(&pod, "shop", &namespace);
        let said: Vec<_> = merged.keys.values().map(|said| (said.key.name, &*said.text, said.on.to_string())).collect();
        assert_eq!(
            said,
            [
                ("inject", "true", "namespace shop".into()),
                ("proxy-in-port", "5001", "the pod".into()),
                ("proxy-type", "dual", "Deployment/web".into()),
            ]
        );
        assert!(merged.refusals.is_empty() && merged.remarks.is_empty());
    }

    #[test]
    fn a_nearer_value_covers_a_bad_one_and_a_nearer_bad_one_covers_a_good_one() {
        let (good, bad) = ([("nodetap.io/proxy-type", "dual")], [("nodetap.io/proxy-type", "daul")]);
        assert!(of_pod(&pod(&good, &bad), "shop", &map(&bad)).refusals.is_empty());
        let merged = of_pod(&pod(&bad, &good), "shop", &map(&good));
        assert_eq!((merged.refusals.len(), merged.keys.len()), (1, 0));
    }

    #[test]
    fn an_unreadable_resolution_is_refused_unless_the_pod_itself_says_no() {
        let mut pod = map(&[(RESOLVED, "{")]);
        let namespace = map(&[("nodetap.io/inject", "false")]);
        assert_eq!(of_pod(&pod, "shop", &namespace).refusals.len(), 1);
        pod.insert("nodetap.io/inject".into(), "false".into());
        assert!(of_pod(&pod, "shop", &namespace).refusals.is_empty());
    }
}
