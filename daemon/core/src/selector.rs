//! Label selectors as Kubernetes writes them: `app=web,tier in (front, back),!canary`. It refuses to know whose labels
//! they are asked about.
//!
//! ```
//! let selector: nodetap_core::selector::Selector = "app=web,track!=canary".parse().unwrap();
//! assert!(selector.matches(|key| (key == "app").then_some("web")));
//! ```

use std::fmt;
use std::str::FromStr;

/// Characters of a name or a value, at most.
const NAME: usize = 63;
/// Characters of the prefix of a key, at most.
const PREFIX: usize = 253;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{selector}` is no label selector: {why}")]
pub struct Error {
    selector: String,
    why: String,
}

/// All requirements have to be met; none lets everything through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    wants: Wants,
}

/// As Kubernetes has it, what a label must not be it also is not when there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wants {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Does it match whoever has these labels?
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|Requirement { key, wants }| {
            let value = label(key);
            let among = |values: &[String]| value.is_some_and(|value| values.iter().any(|one| one == value));
            match wants {
                Wants::In(values) => among(values),
                Wants::NotIn(values) => !among(values),
                Wants::Exists => value.is_some(),
                Wants::Absent => value.is_none(),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let said = |why: String| Error { selector: text.to_owned(), why };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        parts(text).map_err(said)?.into_iter().map(requirement).collect::<Result<_, _>>().map(Self).map_err(said)
    }
}

/// As it is parsed again.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Requirement { key, wants }) in self.0.iter().enumerate() {
            f.write_str(if number > 0 { "," } else { "" })?;
            match wants {
                Wants::In(values) => match &values[..] {
                    [one] => write!(f, "{key}={one}"),
                    several => write!(f, "{key} in ({})", several.join(",")),
                },
                Wants::NotIn(values) => match &values[..] {
                    [one] => write!(f, "{key}!={one}"),
                    several => write!(f, "{key} notin ({})", several.join(",")),
                },
                Wants::Exists => f.write_str(key),
                Wants::Absent => write!(f, "!{key}"),
            }?;
        }
        Ok(())
    }
}

/// At commas that are not in brackets.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match (character, inside) {
            ('(', false) => inside = true,
            (')', true) => inside = false,
            ('(' | ')', _) => return Err("its brackets do not match".into()),
            (',', false) => {
                parts.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("its brackets do not match".into());
    }
    parts.extend(text.get(start..));
    Ok(parts)
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("there is nothing between two of its commas, or before or behind one".into());
    }
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Requirement { key: checked_key(key)?, wants: Wants::Absent });
    }
    if let Some((before, values)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let mut words = before.split_whitespace();
        let (key, operator) = (words.next().unwrap_or_default(), words.next());
        let values = values.split(',').map(checked_value).collect::<Result<Vec<_>, _>>()?;
        let wants = match (operator, words.next()) {
            (Some("in"), None) => Wants::In(values),
            (Some("notin"), None) => Wants::NotIn(values),
            _ => return Err(format!("before the bracket of `{text}` is to stand `KEY in` or `KEY notin`")),
        };
        return Ok(Requirement { key: checked_key(key)?, wants });
    }
    if text.contains(['<', '>']) {
        return Err("values are not compared as numbers here".into());
    }
    let (key, wants): (_, fn(Vec<String>) -> Wants) = match text.split_once('=') {
        None => return Ok(Requirement { key: checked_key(text)?, wants: Wants::Exists }),
        Some((key, _)) => match key.strip_suffix('!') {
            Some(key) => (key, Wants::NotIn),
            None => (key, Wants::In),
        },
    };
    let value = text.split_once('=').map_or("", |(_, value)| value.strip_prefix('=').unwrap_or(value));
    Ok(Requirement { key: checked_key(key)?, wants: wants(vec![checked_value(value)?]) })
}

fn checked_key(text: &str) -> Result<String, String> {
    let text = text.trim();
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_ok = prefix.is_none_or(|prefix| {
        let allowed = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(byte);
        !prefix.is_empty() && prefix.len() <= PREFIX && prefix.as_bytes().iter().all(allowed) && framed(prefix)
    });
    if prefix_ok && !name.is_empty() && is_word(name) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no key of a label"))
    }
}

fn checked_value(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || is_word(text) { Ok(text.to_owned()) } else { Err(format!("`{text}` is no value of a label")) }
}

/// The name in a key, or a value that is not empty.
fn is_word(text: &str) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    text.len() <= NAME && text.as_bytes().iter().all(allowed) && framed(text)
}

/// Begins and ends with a letter or a digit.
fn framed(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [(&str, &str); 3] = [("app", "web"), ("example.com/tier", "front"), ("empty", "")];

    fn matches(selector: &str) -> bool {
        let selector: Selector = selector.parse().unwrap();
        let label = |key: &str| LABELS.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let again: Selector = selector.to_string().parse().unwrap();
        assert_eq!(again, selector);
        selector.matches(label)
    }

    #[test]
    fn it_means_what_it_means_to_kubernetes() {
        for (selector, expected) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("app=web", true),
            ("app==web", true),
            ("app = web", true),
            ("app=api", false),
            ("app!=api", true),
            ("app!=web", false),
            ("other!=web", true),
            ("other=web", false),
            ("!other", true),
            ("! other", true),
            ("app in (api, web)", true),
            ("app in (web)", true),
            ("app in (api)", false),
            ("app notin (api,other)", true),
            ("app notin (web)", false),
            ("other notin (web)", true),
            ("other in (web)", false),
            ("empty=", true),
            ("empty", true),
            ("empty in (,a)", true),
            ("app=", false),
            ("app=web,example.com/tier in (front,back),!canary", true),
            ("app=web,example.com/tier=back", false),
        ] {
            assert_eq!(matches(selector), expected, "{selector}");
        }
    }

    #[test]
    fn what_is_none_is_refused_in_one_sentence() {
        for (selector, why) in [
            (",", "between two"),
            ("app=web,", "between two"),
            ("app in (a", "brackets"),
            ("app in a)", "brackets"),
            ("app in ((a))", "brackets"),
            ("app within (a)", "KEY in"),
            ("app (a)", "KEY in"),
            ("(a)", "KEY in"),
            ("a b", "key"),
            ("=x", "key"),
            ("a/b/c", "key"),
            ("/b", "key"),
            ("a/", "key"),
            ("-a", "key"),
            ("app=a b", "value"),
            ("app=a=b", "value"),
            ("app=-a", "value"),
            ("app>1", "numbers"),
            ("!", "key"),
        ] {
            let error = selector.parse::<Selector>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(selector), "{selector}: {error}");
        }
        let long = "x".repeat(64);
        assert!(long.parse::<Selector>().is_err() && format!("a={long}").parse::<Selector>().is_err());
    }

    #[test]
    fn no_text_makes_it_panic() {
        let alphabet = ["a", "/", "=", "!", "(", ")", ",", " in ", " notin ", "ü", ">", ".", ""];
        for number in 0..alphabet.len().pow(4) {
            let text: String =
                (0..4_u32).map(|place| alphabet[number / alphabet.len().pow(place) % alphabet.len()]).collect();
            if let Ok(selector) = text.parse::<Selector>() {
                assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector, "{text}");
            }
        }
    }
}
