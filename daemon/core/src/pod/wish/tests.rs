//! What annotations come to, together.

use std::collections::BTreeMap;

use super::*;
use crate::pod::dice::Dice;
use crate::pod::keys::{KEYS, OWN, PUBLISHED, RESOLVED};
use crate::pod::refusal::Source;
use crate::pod::value::Kind;
use crate::pod::{precedence, resolved};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn wish(pairs: &[(&str, &str)]) -> (Wish, Vec<String>) {
    let mut remarks = Vec::new();
    let wish = Wish::of(&precedence::of_pod(&map(pairs), "shop", &BTreeMap::new()), &mut remarks);
    (wish, remarks.iter().map(ToString::to_string).collect())
}

/// Asked for, with these keys under our prefix besides.
fn asked(pairs: &[(&str, &str)]) -> (Wish, Vec<String>) {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (format!("nodetap.io/{key}"), *value)).collect();
    let mut pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    pairs.push(("nodetap.io/inject", "true"));
    wish(&pairs)
}

fn config(pairs: &[(&str, &str)]) -> Config {
    match asked(pairs) {
        (Wish::Capture(config), _) => *config,
        (other, _) => panic!("{other:?}"),
    }
}

fn refused(pairs: &[(&str, &str)]) -> String {
    match asked(pairs) {
        (Wish::Refused(refusals), _) => refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn the_published_example_is_taken_as_it_is() {
    for protocol in ["tcp:http", "tcp:socks"] {
        let (wish, remarks) = wish(&[
            ("sidecar.speedscale.com/inject", "true"),
            ("sidecar.speedscale.com/capture-mode", "proxy"),
            ("sidecar.speedscale.com/proxy-type", "dual"),
            ("sidecar.speedscale.com/proxy-protocol", protocol),
            ("sidecar.speedscale.com/proxy-host", "localhost"),
            ("sidecar.speedscale.com/proxy-port", "8080"),
            ("sidecar.speedscale.com/tls-out", "true"),
        ]);
        let Wish::Capture(config) = wish else { panic!("{wish:?}") };
        assert_eq!((config.proxy_type, config.ports.as_deref()), (ProxyType::Dual, Some(&[8080][..])));
        assert_eq!((config.in_port.port, config.out_port.port, config.tls_out), (4143, 4140, true));
        assert!(remarks.is_empty(), "{remarks:?}");
    }
}

#[test]
fn nobody_is_captured_who_does_not_ask() {
    assert_eq!(wish(&[]).0, Wish::NotAsked);
    assert_eq!(wish(&[("nodetap.io/proxy-type", "daul")]).0, Wish::NotAsked);
    assert_eq!(wish(&[("nodetap.io/inject", "false"), ("nodetap.io/proxy-type", "daul")]).0, Wish::NotAsked);
}

#[test]
fn what_asks_for_it_unclearly_is_refused() {
    for value in ["ture", "", "yes"] {
        let (wish, _) = wish(&[("nodetap.io/inject", value)]);
        let Wish::Refused(refusals) = wish else { panic!("{wish:?}") };
        assert_eq!(refusals[0].key(), Some("nodetap.io/inject"));
    }
    assert!(matches!(wish(&[(RESOLVED, "{")]).0, Wish::Refused(_)));
    assert!(matches!(wish(&[(RESOLVED, "{"), ("nodetap.io/inject", "false")]).0, Wish::NotAsked));
}

#[test]
fn a_protocol_must_fit_the_listeners() {
    for (kind, fits) in [
        ("transparent", &["tcp", "http", "socks", "tcp:http", "tcp:socks"][..]),
        ("reverse", &["tcp"][..]),
        ("forward", &["http", "socks"][..]),
        ("dual", &["tcp:http", "tcp:socks"][..]),
    ] {
        for protocol in PROXY_PROTOCOLS {
            let (wish, _) = asked(&[("proxy-type", kind), ("proxy-protocol", protocol)]);
            assert_eq!(matches!(wish, Wish::Capture(_)), fits.contains(&protocol), "{kind} {protocol}");
        }
    }
    assert_eq!(
        refused(&[("proxy-type", "dual"), ("proxy-protocol", "http")]),
        "nodetap.io/proxy-protocol: \"http\" (on the pod) cannot be done: with proxy-type dual it is one of: tcp:http, \
         tcp:socks"
    );
}

#[test]
fn ports_do_not_meet() {
    let dual = ("proxy-type", "dual");
    assert!(refused(&[dual, ("proxy-port", "8080,4143")]).contains("port 4143 would be the application's"));
    assert!(refused(&[dual, ("proxy-in-port", "4140")]).contains("would be the same"));
    assert!(refused(&[dual, ("proxy-out-port", "8080"), ("proxy-port", "8080")]).contains("proxy-out-port"));
    assert_eq!(config(&[("proxy-port", "4143")]).ports, Some(vec![4143]));
}

#[test]
fn keys_that_say_the_opposite_or_name_nothing_are_refused() {
    assert!(refused(&[("ignore-loopback", "true"), ("track-loopback", "true")]).contains("ignore-loopback"));
    assert!(refused(&[("tls-in-private", "a.key")]).contains("tls-in-secret, which is not set"));
    assert!(refused(&[("tls-mutual-public", "a.crt")]).contains("tls-mutual-secret"));
    let both = refused(&[("proxy-type", "daul"), ("tls-out", "on")]);
    assert!(both.contains("proxy-type") && both.contains("tls-out"), "{both}");
}

#[test]
fn addresses_among_names_are_networks() {
    let config = config(&[("ignore-dst-hosts", "db.internal, 10.0.0.7"), ("ignore-src-ips", "*")]);
    assert_eq!(config.outbound.hosts, BTreeSet::from(["db.internal".to_owned()]));
    assert_eq!(config.outbound.networks, BTreeSet::from(["10.0.0.7".parse().unwrap()]));
    assert!(config.inbound.all && !config.outbound.all);
}

#[test]
fn what_does_nothing_is_said_to_do_nothing() {
    let (_, remarks) = asked(&[("cpu-limit", "2"), ("proxy-out-port", "5000"), ("tls-mutual-secret", "client")]);
    assert_eq!(
        remarks,
        [
            "nodetap.io/cpu-limit (on the pod) does nothing here: no container is added to the pod",
            "nodetap.io/proxy-out-port (on the pod) does nothing here: proxy-type is transparent",
            "nodetap.io/tls-mutual-secret (on the pod) does nothing here: tls-out is not true",
        ]
    );
}

/// A value that is accepted and is not the default.
fn another(name: &str, kind: Kind) -> &'static str {
    match (name, kind) {
        ("capture-mode", _) => "proxy",
        ("proxy-protocol", _) => "tcp:socks",
        ("proxy-type", _) => "reverse",
        ("host-resolution", _) => "none",
        (_, Kind::Here) => "127.0.0.2",
        (_, Kind::Flag) => "true",
        (_, Kind::Port | Kind::Ports | Kind::PortSet) => "9999",
        (_, Kind::Networks) => "10.0.0.0/8",
        (_, Kind::Hosts) => "db.internal",
        _ => "other",
    }
}

#[test]
fn every_key_that_is_honoured_changes_what_a_pod_gets() {
    let pairs = ["tls-in-secret", "tls-mutual-secret"].map(|secret| (secret, "pair"));
    let before = config(&[pairs[0], pairs[1]]);
    // There is one capture mode; and whatever the listeners are said to speak, they answer everything.
    let still = ["inject", "capture-mode", "proxy-protocol"];
    for key in KEYS.iter().filter(|key| !still.contains(&key.name)) {
        let mut said = vec![(key.name, another(key.name, key.kind))];
        said.extend(pairs.iter().filter(|(name, _)| *name != key.name));
        let ignored = matches!(key.handling, Handling::Ignored(_));
        assert_eq!(config(&said) == before, ignored, "{}", key.name);
    }
}

/// Annotations of an object, good ones and bad ones.
fn some(dice: &mut Dice) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for _ in 0..dice.roll(8) {
        let key = dice.pick(&KEYS);
        let prefix = *dice.pick(&[OWN, PUBLISHED]);
        let other = another(key.name, key.kind);
        let value = *dice.pick(&[other, other, key.default, "false", "", "x y", "8080,9090"]);
        map.insert(format!("{prefix}{}", key.name), value.to_owned());
    }
    if !dice.one_in(3) {
        map.insert(format!("{}inject", dice.pick(&[OWN, PUBLISHED])), (*dice.pick(&["true", "true", "false"])).into());
    }
    if dice.one_in(10) {
        map.insert("nodetap.io/zzz".into(), "1".into());
    }
    map
}

#[test]
fn of_ten_thousand_pods_each_gets_what_its_nearest_says() {
    for seed in 0..10_000 {
        let dice = &mut Dice::of(seed);
        let (mut pod, workload, namespace) = (some(dice), some(dice), some(dice));
        let owner = resolved::Owner { kind: "Deployment", name: "web", annotations: &workload };
        pod.extend(resolved::write(&[owner]).unwrap().map(|text| (RESOLVED.to_owned(), text)));
        let merged = precedence::of_pod(&pod, "shop", &namespace);
        let mut remarks = Vec::new();
        let wish = Wish::of(&merged, &mut remarks);
        let names = |map: &BTreeMap<String, String>, name: &str| {
            [OWN, PUBLISHED].iter().any(|prefix| map.contains_key(&format!("{prefix}{name}")))
        };
        for (name, said) in &merged.keys {
            let own = said.key.handling == Handling::Own;
            let in_pod = if own { pod.contains_key(&format!("{OWN}{name}")) } else { names(&pod, name) };
            let on_workload = if own { workload.contains_key(&format!("{OWN}{name}")) } else { names(&workload, name) };
            match &said.on {
                Source::Pod => assert!(in_pod, "{seed} {name}"),
                Source::Workload(_) => assert!(!in_pod && on_workload, "{seed} {name}"),
                Source::Namespace(_) => assert!(!in_pod && !on_workload, "{seed} {name}"),
            }
        }
        match wish {
            Wish::Capture(config) => {
                assert!(merged.refusals.is_empty(), "{seed}");
                assert!(matches!(merged.keys["inject"].value, Value::Flag(true)), "{seed}");
                assert_eq!(config.ports.is_some(), merged.keys.contains_key("proxy-port"), "{seed}");
            }
            Wish::Refused(refusals) => assert!(refusals.iter().all(|one| !one.to_string().is_empty()), "{seed}"),
            Wish::NotAsked => {
                assert!(merged.keys.get("inject").is_none_or(|said| said.value == Value::Flag(false)), "{seed}");
            }
        }
    }
}
