//! What the annotations of one object say: those of our two prefixes, read, each key once.

use std::collections::BTreeMap;

use super::keys::{Handling, Key, Named, OWN, PUBLISHED, named};
use super::refusal::{BadValue, Refusal, Remark, Source};
use super::value::Value;

/// Unknown keys that are named one by one; the rest is counted.
const MOST_UNKNOWN: usize = 8;

/// One key as somebody said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub key: &'static Key,
    pub value: Value,
    /// As written.
    pub text: String,
    /// The whole name as written; where both prefixes say the same, ours.
    pub written: String,
    pub on: Source,
}

/// What one object says. A value that is not accepted stands here as its refusal: it counts only where no nearer
/// object says something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub on: Source,
    pub keys: BTreeMap<&'static str, Result<Said, Refusal>>,
    pub remarks: Vec<Remark>,
}

impl Layer {
    /// Reads the annotations of an object. `nodetap.io/resolved` is not expanded here.
    pub fn read(on: Source, annotations: &BTreeMap<String, String>) -> Self {
        let mut layer = Self { on, keys: BTreeMap::new(), remarks: Vec::new() };
        let mut unknown = 0;
        for name in annotations.keys() {
            match named(name) {
                Named::Foreign => {}
                Named::Resolved if layer.on == Source::Pod => {}
                Named::Resolved => layer.remarks.push(Remark::ResolvedElsewhere(layer.on.clone())),
                Named::Key(key) => {
                    if !layer.keys.contains_key(key.name) {
                        layer.keys.insert(key.name, one(key, annotations, &layer.on));
                    }
                }
                Named::Unknown(meant) => {
                    unknown += 1;
                    if unknown <= MOST_UNKNOWN {
                        let meant = meant.map(|(prefix, name)| format!("{prefix}{name}"));
                        layer.remarks.push(Remark::Unknown { key: name.clone(), on: layer.on.clone(), meant });
                    }
                }
            }
        }
        if unknown > MOST_UNKNOWN {
            layer.remarks.push(Remark::MoreUnknown(unknown - MOST_UNKNOWN));
        }
        layer
    }
}

/// One key under the prefixes under which it stands.
fn one(key: &'static Key, annotations: &BTreeMap<String, String>, on: &Source) -> Result<Said, Refusal> {
    let read = |prefix: &str| {
        let written = format!("{prefix}{}", key.name);
        annotations.get(&written).map(|text| (parse(key, &written, text, on), written, text.clone()))
    };
    let published = if key.handling == Handling::Own { None } else { read(PUBLISHED) };
    match (read(OWN), published) {
        // Compared by what they mean, so that a space more is no conflict.
        (Some((Ok(ours), ..)), Some((Ok(theirs), ..))) if ours.value == theirs.value => Ok(ours),
        (Some((Err(wrong), ..)), Some((Ok(_), ..))) | (Some((Ok(_), ..)), Some((Err(wrong), ..))) => Err(wrong),
        (Some((_, ours, text)), Some((_, theirs, other))) if text != other => {
            Err(Refusal::Prefixes { said: Box::new([(ours, text), (theirs, other)]), on: on.clone() })
        }
        (Some((said, ..)), _) | (None, Some((said, ..))) => said,
        // Not called for a key that stands nowhere; said so without a panic.
        (None, None) => parse(key, key.name, key.default, on),
    }
}

fn parse(key: &'static Key, written: &str, text: &str, on: &Source) -> Result<Said, Refusal> {
    match key.kind.parse(text) {
        Ok(value) => Ok(Said { key, value, text: text.to_owned(), written: written.to_owned(), on: on.clone() }),
        Err(wrong) => {
            let (key, accepted) = (written.to_owned(), key.kind.accepted());
            Err(Box::new(BadValue { key, value: text.to_owned(), on: on.clone(), wrong, accepted }).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Layer {
        let map = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Layer::read(Source::Pod, &map)
    }

    fn refusal(annotations: &[(&str, &str)]) -> String {
        let layer = read(annotations);
        layer.keys.into_values().find_map(Result::err).unwrap().to_string()
    }

    #[test]
    fn both_prefixes_may_say_the_same() {
        let layer = read(&[
            ("nodetap.io/ignore-outbound-ports", "5432, 6379"),
            ("sidecar.speedscale.com/ignore-outbound-ports", "6379,5432"),
        ]);
        let said = layer.keys["ignore-outbound-ports"].as_ref().unwrap();
        assert_eq!(said.written, "nodetap.io/ignore-outbound-ports");
        assert!(layer.remarks.is_empty());
    }

    #[test]
    fn different_values_under_both_prefixes_are_refused_with_both_named() {
        let text = refusal(&[("nodetap.io/proxy-type", "dual"), ("sidecar.speedscale.com/proxy-type", "reverse")]);
        assert_eq!(
            text,
            "nodetap.io/proxy-type says \"dual\" and sidecar.speedscale.com/proxy-type says \"reverse\", both on the \
             pod: remove one of them, or let them say the same"
        );
        // A bad value is what is wrong, not that the other one is different.
        let text = refusal(&[("nodetap.io/proxy-type", "daul"), ("sidecar.speedscale.com/proxy-type", "dual")]);
        assert!(text.starts_with("nodetap.io/proxy-type: \"daul\""), "{text}");
    }

    #[test]
    fn a_refusal_names_the_key_the_value_and_what_is_accepted() {
        assert_eq!(
            refusal(&[("sidecar.speedscale.com/proxy-type", "tansparent")]),
            "sidecar.speedscale.com/proxy-type: \"tansparent\" (on the pod) is not accepted; accepted: transparent, \
             reverse, forward, dual; did you mean \"transparent\"?"
        );
        assert_eq!(
            refusal(&[("nodetap.io/ignore-outbound-ports", "80,http")]),
            "nodetap.io/ignore-outbound-ports: \"80,http\" (on the pod), entry \"http\" is not accepted; accepted: \
             ports from 1 to 65535, separated by commas, 64 at most"
        );
        let text = refusal(&[("nodetap.io/proxy-type", &"x\u{1b}[31m".repeat(2000))]);
        assert!(text.chars().count() < 400 && text.contains("is too much (12000 bytes"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn unknown_keys_are_named_and_never_too_many_of_them() {
        let layer = read(&[("nodetap.io/proxytype", "dual"), ("example.com/injct", "x")]);
        assert_eq!(
            layer.remarks[0].to_string(),
            "nodetap.io/proxytype (on the pod) is no annotation of nodetap; did you mean nodetap.io/proxy-type?"
        );
        assert_eq!(layer.remarks.len(), 1);
        let many: Vec<String> = (0..100).map(|n| format!("nodetap.io/zzz{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
        let layer = read(&many);
        assert_eq!(layer.remarks.len(), MOST_UNKNOWN + 1);
        assert!(layer.remarks.contains(&Remark::MoreUnknown(92)));
    }
}
