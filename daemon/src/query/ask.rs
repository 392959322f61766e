//! A question for records, and its form as the query of a URL: the same from `kubectl get --raw` to an agent. The words
//! are those of `nodetap ls` and, where Kubernetes has one of its own, that one.

use std::fmt;
use std::str::FromStr;

use nodetap_core::exchange::{Direction, UnixMicros};
use nodetap_core::filter::{self, Filter, Glob, Grep, PathPattern, Pods, Status};
use nodetap_core::time::{NotATime, parse_since};
use nodetap_core::ulid::Ulid;

/// Bytes of a whole query.
pub const QUERY: usize = 16 << 10;
/// Values that one key may have.
const VALUES: usize = 64;
/// Records that `tail` may ask for: they are held in memory where nodes are merged.
pub const TAIL: usize = 10_000;

/// Why a question cannot be answered. Each names the key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the query is longer than {QUERY} bytes")]
    TooLong,
    #[error("the query is malformed: a % that is no escape, or a semicolon that is not written %3B")]
    Malformed,
    #[error("unknown parameter {0:?}")]
    Unknown(String),
    #[error("{0} may be given once")]
    Repeated(&'static str),
    #[error("{0} is given more than {VALUES} times")]
    TooMany(&'static str),
    #[error("{key}: {text:?} is not {expected}")]
    Value { key: &'static str, text: String, expected: &'static str },
    #[error("since: {0}")]
    Since(#[from] NotATime),
    #[error(transparent)]
    Filter(#[from] filter::Error),
}

/// What becomes of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Messages {
    #[default]
    None,
    /// Those that match.
    Matching,
    /// All of each exchange that matches, each at its time.
    All,
    /// The same, right behind their exchange.
    Grouped,
}

/// A place in the order of all records: by time, then by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub time: UnixMicros,
    pub id: u128,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time, Ulid::from(self.id))
    }
}

impl FromStr for At {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (time, id) = text.split_once('-').ok_or(())?;
        let id: Ulid = id.parse().map_err(drop)?;
        Ok(Self { time: time.parse().map_err(drop)?, id: id.into() })
    }
}

/// Which records are wanted, in the words of whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ask {
    /// Whose records: only an agent is asked this way; elsewhere it stands in the path.
    pub namespace: Option<String>,
    pub pod: Option<String>,
    /// Of labels, as Kubernetes writes it.
    pub selector: Option<String>,
    pub hosts: Vec<String>,
    pub methods: Vec<String>,
    pub statuses: Vec<String>,
    pub paths: Vec<String>,
    pub since: Option<String>,
    pub grep: Option<String>,
    pub direction: Option<String>,
    pub messages: Messages,
    /// Losses instead of records.
    pub losses: bool,
    /// Records of a page.
    pub limit: Option<usize>,
    /// Only what comes behind this place.
    pub after: Option<At>,
    /// The last ones alone.
    pub tail: Option<usize>,
    /// New ones as they come; behind the last ones, when `tail` asks for some.
    pub watch: bool,
}

impl Ask {
    /// Reads the query of a URL. `other` takes the keys that are not ours: false when it knows them neither.
    ///
    /// # Errors
    /// When a key is unknown, or a value is not what it should be.
    pub fn parse(query: &str, mut other: impl FnMut(&str, &str) -> Result<bool, Error>) -> Result<Self, Error> {
        if query.len() > QUERY {
            return Err(Error::TooLong);
        }
        // The API server reads the same query before it asks RBAC, and passes over pairs that are malformed to it: nothing
        // may mean more to us than it did to RBAC.
        if !is_well_formed(query.as_bytes()) {
            return Err(Error::Malformed);
        }
        let (mut ask, mut watch) = (Self::default(), None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*key {
                "namespace" => once("namespace", &mut ask.namespace, value)?,
                "pod" => once("pod", &mut ask.pod, value)?,
                "labelSelector" => once("labelSelector", &mut ask.selector, value)?,
                "host" => push("host", &mut ask.hosts, &value)?,
                "method" => push("method", &mut ask.methods, &value)?,
                "status" => push("status", &mut ask.statuses, &value)?,
                // A comma may stand in a path.
                "path" => add("path", &mut ask.paths, value)?,
                "since" => once("since", &mut ask.since, value)?,
                "grep" => once("grep", &mut ask.grep, value)?,
                "direction" => once("direction", &mut ask.direction, value)?,
                "messages" => ask.messages = messages(value)?,
                "losses" => ask.losses = truth(&value),
                "limit" => once("limit", &mut ask.limit, count("limit", &value, usize::MAX)?)?,
                "tail" => once("tail", &mut ask.tail, count("tail", &value, TAIL)?)?,
                "continue" => once("continue", &mut ask.after, place(value)?)?,
                "watch" => once("watch", &mut watch, truth(&value))?,
                key if other(key, &value)? => {}
                key => return Err(Error::Unknown(key.to_owned())),
            }
        }
        ask.watch = watch.unwrap_or_default();
        Ok(ask)
    }

    /// As the query of a URL, that [`Ask::parse`] reads back.
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let texts = [
            ("namespace", &self.namespace),
            ("pod", &self.pod),
            ("labelSelector", &self.selector),
            ("since", &self.since),
            ("grep", &self.grep),
            ("direction", &self.direction),
        ];
        for (key, value) in texts {
            query.extend_pairs(value.iter().map(|value| (key, value)));
        }
        let lists =
            [("host", &self.hosts), ("method", &self.methods), ("status", &self.statuses), ("path", &self.paths)];
        for (key, values) in lists {
            query.extend_pairs(values.iter().map(|value| (key, value)));
        }
        let messages = match self.messages {
            Messages::None => None,
            Messages::Matching => Some("matching"),
            Messages::All => Some("all"),
            Messages::Grouped => Some("grouped"),
        };
        query.extend_pairs(messages.map(|word| ("messages", word)));
        query.extend_pairs(self.losses.then_some(("losses", "true")));
        query.extend_pairs(self.limit.map(|count| ("limit", count.to_string())));
        query.extend_pairs(self.tail.map(|count| ("tail", count.to_string())));
        query.extend_pairs(self.after.map(|at| ("continue", at.to_string())));
        query.extend_pairs(self.watch.then_some(("watch", "true")));
        query.finish()
    }

    /// What the words mean at the moment `now`.
    ///
    /// # Errors
    /// When one of them means nothing.
    pub fn filter(&self, now: UnixMicros) -> Result<Filter, Error> {
        let statuses: Result<Vec<Status>, _> = self.statuses.iter().map(|status| status.parse()).collect();
        let hosts: Result<Vec<Glob>, _> = self.hosts.iter().map(|host| Glob::new(host)).collect();
        let paths: Result<Vec<PathPattern>, _> = self.paths.iter().map(|path| PathPattern::new(path)).collect();
        let names: Result<Vec<Glob>, _> = self.pod.iter().map(|pod| Glob::new(pod)).collect();
        let selector = self.selector.as_ref().map(|selector| selector.parse()).transpose();
        Ok(Filter {
            pods: Pods {
                namespaces: self.namespace.iter().cloned().collect(),
                names: names?,
                selector: selector.map_err(filter::Error::Selector)?,
            },
            hosts: hosts?,
            methods: self.methods.clone(),
            statuses: statuses?,
            paths: paths?,
            since: self.since.as_ref().map(|since| parse_since(since, now)).transpose()?,
            grep: self.grep.as_ref().map(|grep| Grep::new(grep)).transpose()?,
            direction: self.direction.as_deref().map(direction).transpose()?,
        })
    }
}

/// Percent signs begin escapes, and semicolons are escaped (as Go's net/url has it).
fn is_well_formed(query: &[u8]) -> bool {
    let escaped =
        |place: usize| query.get(place + 1..place + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    query.iter().enumerate().all(|(place, byte)| match byte {
        b'%' => escaped(place),
        b';' => false,
        _ => true,
    })
}

fn once<T>(key: &'static str, place: &mut Option<T>, value: T) -> Result<(), Error> {
    if place.replace(value).is_some() { Err(Error::Repeated(key)) } else { Ok(()) }
}

/// One value, or several with commas between them.
fn push(key: &'static str, values: &mut Vec<String>, value: &str) -> Result<(), Error> {
    value.split(',').filter(|one| !one.is_empty()).try_for_each(|one| add(key, values, one.to_owned()))
}

fn add(key: &'static str, values: &mut Vec<String>, value: String) -> Result<(), Error> {
    values.push(value);
    if values.len() > VALUES { Err(Error::TooMany(key)) } else { Ok(()) }
}

/// As Kubernetes reads a boolean in a query: all but `false` and `0`.
fn truth(value: &str) -> bool {
    !value.eq_ignore_ascii_case("false") && value != "0"
}

fn count(key: &'static str, value: &str, most: usize) -> Result<usize, Error> {
    let number = value.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| Error::Value { key, text: value.to_owned(), expected: "a number that is allowed here" })
}

fn place(value: String) -> Result<At, Error> {
    let expected = "what a notice of reason page_end gives";
    value.parse().map_err(|()| Error::Value { key: "continue", text: value, expected })
}

fn messages(value: String) -> Result<Messages, Error> {
    match value.as_str() {
        "none" => Ok(Messages::None),
        "matching" => Ok(Messages::Matching),
        "all" => Ok(Messages::All),
        "grouped" => Ok(Messages::Grouped),
        _ => Err(Error::Value { key: "messages", text: value, expected: "none, matching, all or grouped" }),
    }
}

fn direction(value: &str) -> Result<Direction, Error> {
    match value {
        "in" | "inbound" => Ok(Direction::Inbound),
        "out" | "outbound" => Ok(Direction::Outbound),
        _ => Err(Error::Value { key: "direction", text: value.to_owned(), expected: "inbound or outbound" }),
    }
}
