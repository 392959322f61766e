//! What is to become of a pod, by what the API server tells of it: its annotations, and whether such a pod can be
//! captured at all.

use std::collections::BTreeMap;

use super::annotations::Said;
use super::config::Config;
use super::facts::{Container, Pod};
use super::precedence;
use super::refusal::{Refusal, Remark};
use super::value::Here;
use super::wish::Wish;

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub wish: Wish,
    /// What was said that holds, and who said it.
    pub said: BTreeMap<&'static str, Said>,
    pub remarks: Vec<Remark>,
}

impl Decision {
    /// Decides about a pod. `of_namespace`: the annotations of its namespace.
    pub fn of(pod: &Pod, of_namespace: &BTreeMap<String, String>) -> Self {
        let merged = precedence::of_pod(&pod.annotations, &pod.namespace, of_namespace);
        let mut remarks = merged.remarks.clone();
        let wish = match Wish::of(&merged, &mut remarks) {
            Wish::NotAsked => Wish::NotAsked,
            Wish::Refused(mut refusals) => {
                refusals.extend(impossible(pod, None));
                Wish::Refused(refusals)
            }
            Wish::Capture(config) => {
                let refusals = impossible(pod, Some((&config, &merged.keys)));
                if refusals.is_empty() { Wish::Capture(config) } else { Wish::Refused(refusals) }
            }
        };
        Self { wish, said: merged.keys, remarks }
    }
}

/// Why a pod cannot be captured, whatever its annotations say; or not with these.
fn impossible(pod: &Pod, asked: Option<(&Config, &BTreeMap<&'static str, Said>)>) -> Vec<Refusal> {
    let mut found = Vec::new();
    if pod.host_network {
        found.push(Refusal::HostNetwork);
    }
    if let Some(class) = pod.sandbox() {
        found.push(Refusal::Sandboxed(class.to_owned()));
    }
    let Some((config, said)) = asked else { return found };
    if let Some(names) = &config.containers
        && let Some(said) = said.get("containers")
        && let Some(missing) = names.iter().find(|name| pod.containers.iter().all(|one| one.name != **name))
    {
        let (key, value, on) = (said.written.clone(), said.text.clone(), said.on.clone());
        found.push(Refusal::Together { key, value, on, why: format!("the pod has no container {missing}") });
    } else if !pod.containers.is_empty() && captured(pod, config).next().is_none() {
        let names: Vec<&str> = pod.containers.iter().map(|one| one.name.as_str()).collect();
        let why = format!("{} are proxies of others; nodetap.io/containers names those that are", names.join(", "));
        found.push(Refusal::NoContainer(why));
    }
    if let Here::Address(address) = config.upstream
        && config.proxy_type.reverses()
        && !address.is_loopback()
        && !pod.addresses.is_empty()
        && !pod.addresses.contains(&address)
        && let Some(said) = said.get("proxy-host")
    {
        let (key, value, on) = (said.written.clone(), said.text.clone(), said.on.clone());
        found.push(Refusal::Together { key, value, on, why: "it is no address of this pod".into() });
    }
    found
}

/// The containers that are captured.
pub fn captured<'a>(pod: &'a Pod, config: &'a Config) -> impl Iterator<Item = &'a Container> {
    pod.containers.iter().filter(move |container| is_captured(container, config))
}

pub(super) fn is_captured(container: &Container, config: &Config) -> bool {
    match &config.containers {
        Some(names) => names.contains(&container.name),
        None => !container.is_proxy(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::pod::facts::Kind;

    fn pod(containers: &[&str], pairs: &[(&str, &str)]) -> Pod {
        let annotations = pairs.iter().map(|(key, value)| (format!("nodetap.io/{key}"), (*value).to_owned()));
        let container = |name: &&str| Container {
            name: (*name).to_owned(),
            kind: Kind::App,
            image: None,
            id: None,
            ports: BTreeSet::new(),
        };
        Pod {
            annotations: annotations.chain([("nodetap.io/inject".to_owned(), "true".to_owned())]).collect(),
            containers: containers.iter().map(container).collect(),
            ..Pod::default()
        }
    }

    fn reasons(pod: &Pod) -> Vec<&'static str> {
        match Decision::of(pod, &BTreeMap::new()).wish {
            Wish::Refused(refusals) => refusals.iter().map(Refusal::reason).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_pod_without_a_network_of_its_own_is_refused_with_all_that_is_wrong() {
        let pod =
            Pod { host_network: true, runtime_class: Some("kata".into()), ..pod(&["app"], &[("proxy-type", "daul")]) };
        assert_eq!(reasons(&pod), ["InvalidAnnotation", "HostNetwork", "SandboxedRuntime"]);
        let silent = Pod { annotations: BTreeMap::new(), ..pod };
        assert_eq!(Decision::of(&silent, &BTreeMap::new()).wish, Wish::NotAsked);
    }

    #[test]
    fn a_proxy_is_captured_only_by_its_name() {
        assert_eq!(reasons(&pod(&["istio-proxy"], &[])), ["NoContainer"]);
        assert_eq!(reasons(&pod(&["app", "istio-proxy"], &[])), [""; 0]);
        assert_eq!(reasons(&pod(&["istio-proxy"], &[("containers", "istio-proxy")])), [""; 0]);
        assert_eq!(reasons(&pod(&["app"], &[("containers", "web")])), ["ImpossibleAnnotation"]);
        // A manifest that is cut short, or a pod that is not known yet.
        assert_eq!(reasons(&pod(&[], &[])), [""; 0]);
    }

    #[test]
    fn an_upstream_is_an_address_of_the_pod() {
        let mut pod = pod(&["app"], &[("proxy-type", "reverse"), ("proxy-host", "10.0.0.9")]);
        assert_eq!(reasons(&pod), [""; 0]);
        pod.addresses = BTreeSet::from(["10.0.0.8".parse().unwrap()]);
        assert_eq!(reasons(&pod), ["ImpossibleAnnotation"]);
        pod.addresses.insert("10.0.0.9".parse().unwrap());
        assert_eq!(reasons(&pod), [""; 0]);
    }
}
