//! Values that several tests begin with.

use std::collections::BTreeMap;

use super::config::Config;
use super::observed::Listening;
use super::refusal::Source;
use super::wish::Wish;
use super::{annotations::Layer, precedence};

/// What a pod gets that asks for it with these keys, under our prefix.
pub(super) fn config(pairs: &[(&str, &str)]) -> Config {
    let map: BTreeMap<String, String> = pairs
        .iter()
        .chain(&[("inject", "true")])
        .map(|(key, value)| (format!("nodetap.io/{key}"), (*value).to_owned()))
        .collect();
    match Wish::of(&precedence::merge([Layer::read(Source::Pod, &map)]), &mut Vec::new()) {
        Wish::Capture(config) => *config,
        other => panic!("{other:?}"),
    }
}

/// A listening socket; of nobody when `by` is empty.
pub(super) fn listening(address: &str, port: u16, by: &str) -> Listening {
    let container = Some(by).filter(|by| !by.is_empty()).map(str::to_owned);
    Listening { address: address.parse().unwrap(), port, container }
}
