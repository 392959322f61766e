//! What an annotation may say: kinds of values, each with the words that tell a user what is accepted. A value means
//! the same however it is written, so that two spellings of it can be compared.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::network::Network;
use super::spelling::nearest;

/// Bytes that one value may have.
pub const LONGEST: usize = 4096;
/// Entries that a list of networks, names or ports may have: each costs an entry in a kernel map, or a look-up.
pub const MOST_ENTRIES: usize = 64;
/// Ports of an application that may be named: each is a listener.
pub const MOST_PORTS: usize = 16;
/// Labels that records may carry: each is in every record.
pub const MOST_LABELS: usize = 16;
/// Bytes of a DNS name, and of one part of it.
const NAME: usize = 253;
const PART: usize = 63;

/// What is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Flag,
    /// One of these.
    Word(&'static [&'static str]),
    Port,
    /// Ports of the application, the first of them first.
    Ports,
    /// Any number of ports.
    PortSet,
    Networks,
    /// DNS names, which are looked up again and again, or addresses.
    Hosts,
    /// Where the application is reached from inside its pod.
    Here,
    /// Name of a Secret in the pod's namespace.
    Secret,
    /// Key in a Secret.
    File,
    /// Names of containers.
    Containers,
    /// Keys of labels.
    Labels,
    /// Accepted without being understood: for keys that are ignored.
    Anything,
}

/// What was said, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Flag(bool),
    Word(&'static str),
    Port(u16),
    Ports(Vec<u16>),
    PortSet(BTreeSet<u16>),
    Networks(Networks),
    Hosts(BTreeSet<String>),
    Here(Here),
    Text(String),
    List(BTreeSet<String>),
}

/// A list of networks, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Networks {
    All,
    These(BTreeSet<Network>),
}

/// An address of the pod itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    /// Whichever loopback address the application listens on.
    Localhost,
    Address(IpAddr),
}

impl fmt::Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost => f.write_str("localhost"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The entry of a list that is meant, when it is not the whole value.
    pub entry: Option<String>,
    /// What was probably meant.
    pub meant: Option<&'static str>,
    /// More than is allowed, when that is what is wrong.
    pub too_much: Option<String>,
}

impl Wrong {
    const fn whole() -> Self {
        Self { entry: None, meant: None, too_much: None }
    }

    fn entry(entry: &str) -> Self {
        Self { entry: Some(entry.to_owned()), ..Self::whole() }
    }

    fn too_much(what: String) -> Self {
        Self { too_much: Some(what), ..Self::whole() }
    }
}

impl Kind {
    /// What is accepted, in words.
    pub fn accepted(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Flag => "true, false",
            Self::Word(words) => return words.join(", ").into(),
            Self::Port => "a port from 1 to 65535",
            Self::Ports => "ports from 1 to 65535, separated by commas, 16 at most",
            Self::PortSet => "ports from 1 to 65535, separated by commas, 64 at most",
            Self::Networks => {
                "addresses and networks (10.0.0.7, 10.0.0.0/8, fd00::/8), separated by commas, 64 at most, or *"
            }
            Self::Hosts => "host names without wildcards, separated by commas, 64 at most",
            Self::Here => "localhost, or an address of the pod itself",
            Self::Secret => "the name of a Secret in the pod's namespace",
            Self::File => "the name of a key in the Secret",
            Self::Containers => "names of containers, separated by commas, 64 at most",
            Self::Labels => "keys of labels, separated by commas, 16 at most",
            Self::Anything => "anything",
        })
    }

    /// # Errors
    /// When it is not what is accepted.
    pub fn parse(self, text: &str) -> Result<Value, Wrong> {
        if text.len() > LONGEST {
            return Err(Wrong::too_much(format!("{} bytes, {LONGEST} at most", text.len())));
        }
        let text = text.trim();
        match self {
            Self::Flag => word(text, &["true", "false"]).map(|word| Value::Flag(word == "true")),
            Self::Word(words) => word(text, words).map(Value::Word),
            Self::Port => port(text).map(Value::Port).ok_or(Wrong::whole()),
            Self::Ports => ports(text).map(Value::Ports),
            Self::PortSet => list(text, MOST_ENTRIES, port).map(Value::PortSet),
            Self::Networks if text == "*" => Ok(Value::Networks(Networks::All)),
            Self::Networks => list(text, MOST_ENTRIES, |entry| entry.parse().ok())
                .map(|found| Value::Networks(Networks::These(found))),
            Self::Hosts => list(text, MOST_ENTRIES, host).map(Value::Hosts),
            Self::Here => here(text).map(Value::Here).ok_or(Wrong::whole()),
            Self::Secret => name(text).then(|| Value::Text(text.to_owned())).ok_or(Wrong::whole()),
            Self::File => file(text).then(|| Value::Text(text.to_owned())).ok_or(Wrong::whole()),
            Self::Containers => {
                list(text, MOST_ENTRIES, |entry| part(entry).then(|| entry.to_owned())).map(Value::List)
            }
            Self::Labels => list(text, MOST_LABELS, |entry| label(entry).then(|| entry.to_owned())).map(Value::List),
            Self::Anything => Ok(Value::Text(text.to_owned())),
        }
    }
}

fn word(text: &str, words: &[&'static str]) -> Result<&'static str, Wrong> {
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    found.copied().ok_or_else(|| Wrong { meant: nearest(text, words.iter().copied()), ..Wrong::whole() })
}

/// Digits only: `+80` and `0x50` are what somebody did not mean.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// Separated by commas, white space around them, an empty one at the end. Nothing at all is an empty list: it lets a
/// pod take back what its namespace says.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_suffix(',').unwrap_or(text);
    text.split(',').map(str::trim).filter(move |_| !text.trim().is_empty())
}

fn list<T: Ord>(text: &str, most: usize, read: impl Fn(&str) -> Option<T>) -> Result<BTreeSet<T>, Wrong> {
    let mut found = BTreeSet::new();
    for entry in entries(text) {
        found.insert(read(entry).ok_or_else(|| Wrong::entry(entry))?);
    }
    if found.len() > most {
        return Err(Wrong::too_much(format!("{} entries, {most} at most", found.len())));
    }
    Ok(found)
}

fn ports(text: &str) -> Result<Vec<u16>, Wrong> {
    let mut found = Vec::new();
    for entry in entries(text) {
        let port = port(entry).ok_or_else(|| Wrong::entry(entry))?;
        if !found.contains(&port) {
            found.push(port);
        }
    }
    match found.len() {
        0 => Err(Wrong::whole()),
        many if many > MOST_PORTS => Err(Wrong::too_much(format!("{many} ports, {MOST_PORTS} at most"))),
        _ => Ok(found),
    }
}

fn here(text: &str) -> Option<Here> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(Here::Localhost);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address: IpAddr = bare.parse().ok()?;
    let address = address.to_canonical();
    (!address.is_unspecified() && !address.is_multicast()).then_some(Here::Address(address))
}

/// A name, without the dot of the root, or an address.
fn host(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical().to_string());
    }
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let known = |part: &str| {
        let letters = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        letters && (1..=PART).contains(&part.len()) && !part.starts_with('-') && !part.ends_with('-')
    };
    // A last part of digits is an address that somebody mistyped (RFC 1123 §2.1).
    let number = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (text.len() <= NAME && text.split('.').all(known) && !number).then_some(text)
}

/// A part of a DNS name as Kubernetes writes it (RFC 1123 label).
fn part(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    letters && (1..=PART).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')
}

fn name(text: &str) -> bool {
    text.len() <= NAME && text.split('.').all(part)
}

fn file(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    letters && (1..=NAME).contains(&text.len()) && text != "." && text != ".."
}

/// A label's key: a name, and perhaps a DNS name before it.
fn label(text: &str) -> bool {
    let (prefix, key) = text.split_once('/').map_or((None, text), |(prefix, key)| (Some(prefix), key));
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = key.as_bytes();
    prefix.is_none_or(name) && key.len() <= PART && file(key) && ends(bytes.first()) && ends(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Option<Value> {
        kind.parse(text).ok()
    }

    #[test]
    fn a_flag_is_true_or_false() {
        assert_eq!(read(Kind::Flag, "true"), Some(Value::Flag(true)));
        assert_eq!(read(Kind::Flag, " False "), Some(Value::Flag(false)));
        for text in ["", "yes", "1", "on", "truefalse"] {
            assert_eq!(read(Kind::Flag, text), None, "{text}");
        }
        assert_eq!(Kind::Flag.parse("ture").unwrap_err().meant, Some("true"));
    }

    #[test]
    fn ports_keep_their_order_and_are_never_nothing() {
        assert_eq!(read(Kind::Ports, "8080, 80,8080,"), Some(Value::Ports(vec![8080, 80])));
        for text in ["", ",", "0", "65536", "+80", "80;81", "http", "80,,81"] {
            assert_eq!(read(Kind::Ports, text), None, "{text}");
        }
        let many: Vec<String> = (1..=17).map(|port| port.to_string()).collect();
        assert!(Kind::Ports.parse(&many.join(",")).unwrap_err().too_much.is_some());
    }

    #[test]
    fn lists_may_be_empty_and_mean_the_same_in_any_order() {
        assert_eq!(read(Kind::PortSet, " "), Some(Value::PortSet(BTreeSet::new())));
        assert_eq!(read(Kind::Networks, "10.0.0.0/8, fd00::/8"), read(Kind::Networks, "fd00::1/8,10.1.0.0/8"));
        assert_eq!(read(Kind::Networks, "*"), Some(Value::Networks(Networks::All)));
        assert_eq!(read(Kind::Hosts, "DB.internal., a_b"), read(Kind::Hosts, "a_b,db.internal"));
        assert_eq!(Kind::Networks.parse("10.0.0.0/8,10.0.0.0/40").unwrap_err().entry.as_deref(), Some("10.0.0.0/40"));
        for text in ["*.internal", "a b", "http://web", "web:80", "10.0.0.256", "-a"] {
            assert_eq!(read(Kind::Hosts, text), None, "{text}");
        }
    }

    #[test]
    fn an_application_is_reached_inside_its_pod() {
        assert_eq!(read(Kind::Here, "localhost"), Some(Value::Here(Here::Localhost)));
        assert_eq!(read(Kind::Here, "[::1]"), read(Kind::Here, "::1"));
        for text in ["", "0.0.0.0", "web.shop", "127.0.0.1:80", "224.0.0.1"] {
            assert_eq!(read(Kind::Here, text), None, "{text}");
        }
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        assert!(read(Kind::Secret, "web-tls.v2").is_some());
        assert!(read(Kind::File, "tls.crt").is_some());
        assert!(read(Kind::Labels, "app.kubernetes.io/name, app").is_some());
        for (kind, text) in [
            (Kind::Secret, "Web"),
            (Kind::Secret, "other/web"),
            (Kind::File, "/etc/ssl/tls.key"),
            (Kind::File, ".."),
            (Kind::Labels, "-app"),
            (Kind::Containers, "App"),
        ] {
            assert_eq!(read(kind, text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_too_long_to_be_refused() {
        let kinds = [Kind::Flag, Kind::Ports, Kind::PortSet, Kind::Networks, Kind::Hosts, Kind::Labels, Kind::Anything];
        for kind in kinds {
            assert!(kind.parse(&"a,".repeat(LONGEST)).unwrap_err().too_much.is_some());
        }
    }
}
