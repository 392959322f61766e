//! Which records somebody wants to see. Every part narrows; an empty filter lets everything through.

use regex::bytes::{Regex as BytesRegex, RegexBuilder as BytesRegexBuilder};
use regex::{Regex, RegexBuilder};

use crate::decode;
use crate::exchange::{Direction, Event, Exchange, Message, Target, UnixMicros};
use crate::row::Row;
use crate::selector::{self, Selector};
use crate::url;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is no status: give 200, 2xx, 400-499, or `none` for exchanges without a response")]
    Status(String),
    #[error("{0:?} is no regular expression: {1}")]
    Regex(String, regex::Error),
    #[error(transparent)]
    Selector(#[from] selector::Error),
}

/// Patterns of `--host` and the like: see [`Glob`].
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Any of them: host, or host and port, of the url or of the address that was called.
    pub hosts: Vec<Glob>,
    /// Any of them, in whatever case.
    pub methods: Vec<String>,
    /// Any of them.
    pub statuses: Vec<Status>,
    /// Any of them: a pattern for the path without its query, or, without `*` and `?`, what the path begins with.
    pub paths: Vec<PathPattern>,
    /// Not older than this.
    pub since: Option<UnixMicros>,
    pub grep: Option<Grep>,
    pub direction: Option<Direction>,
    pub pods: Pods,
}

/// Which pods somebody wants to see; a command is none, so that any of these keeps it out.
#[derive(Debug, Clone, Default)]
pub struct Pods {
    /// Any of them.
    pub namespaces: Vec<String>,
    /// Any of them: names of pods.
    pub names: Vec<Glob>,
    /// Asked of the labels that were recorded.
    pub selector: Option<Selector>,
}

impl Pods {
    /// All pods, and commands too?
    pub fn is_everything(&self) -> bool {
        self.namespaces.is_empty() && self.names.is_empty() && self.selector.is_none()
    }

    pub fn matches(&self, target: &Target) -> bool {
        let Self { namespaces, names, selector } = self;
        let pod = target.pod();
        let label = |key: &str| target.labels.get(key).map(String::as_str);
        any(namespaces, |namespace| target.namespace.as_deref() == Some(namespace))
            && any(names, |glob| pod.is_some_and(|pod| glob.matches(pod)))
            && selector.as_ref().is_none_or(|selector| pod.is_some() && selector.matches(label))
    }
}

/// A pattern in which `*` stands for anything and `?` for one character. Case does not matter.
#[derive(Debug, Clone)]
pub struct Glob(Regex);

impl Glob {
    pub fn new(pattern: &str) -> Result<Self, Error> {
        Self::build(pattern, true)
    }

    fn build(pattern: &str, ignore_case: bool) -> Result<Self, Error> {
        let mut regex = String::from("^");
        for c in pattern.chars() {
            match c {
                '*' => regex.push_str(".*"),
                '?' => regex.push('.'),
                c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            }
        }
        regex.push('$');
        let built = RegexBuilder::new(&regex).case_insensitive(ignore_case).dot_matches_new_line(true).build();
        built.map(Self).map_err(|error| Error::Regex(pattern.to_owned(), error))
    }

    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

#[derive(Debug, Clone)]
pub enum PathPattern {
    Prefix(String),
    Glob(Glob),
}

impl PathPattern {
    pub fn new(pattern: &str) -> Result<Self, Error> {
        if pattern.contains(['*', '?']) {
            return Glob::build(pattern, false).map(Self::Glob);
        }
        Ok(Self::Prefix(pattern.to_owned()))
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Glob(glob) => glob.matches(path),
        }
    }
}

/// A range of status codes, or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Range(u16, u16),
    /// There was no response.
    None,
}

impl std::str::FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error::Status(text.to_owned());
        let number = |text: &str| match text.parse::<u16>() {
            Ok(code @ 100..=999) if text.len() == 3 => Ok(code),
            _ => Err(error()),
        };
        let lower = text.to_ascii_lowercase();
        if lower == "none" {
            return Ok(Self::None);
        }
        if let Some(class) = lower.strip_suffix("xx") {
            let first = number(&format!("{class}00"))?;
            return Ok(Self::Range(first, first + 99));
        }
        let (from, to) = lower.split_once('-').unwrap_or((&lower, &lower));
        let (from, to) = (number(from)?, number(to)?);
        if from <= to { Ok(Self::Range(from, to)) } else { Err(error()) }
    }
}

/// A regular expression that is looked for in heads, trailers and bodies; in bodies also behind their content coding.
#[derive(Debug, Clone)]
pub struct Grep(BytesRegex);

impl Grep {
    pub fn new(pattern: &str) -> Result<Self, Error> {
        let built = BytesRegexBuilder::new(pattern).build();
        built.map(Self).map_err(|error| Error::Regex(pattern.to_owned(), error))
    }

    fn matches(&self, exchange: &Exchange) -> bool {
        let messages = [Some(&exchange.request), exchange.response.as_ref()];
        messages.into_iter().flatten().any(|message| self.in_message(message)) || self.0.is_match(&exchange.interim)
    }

    fn in_message(&self, message: &Message) -> bool {
        let raw = [&message.head, &message.trailers, &message.body.kept];
        if raw.into_iter().any(|bytes| self.0.is_match(bytes)) {
            return true;
        }
        let decoded = decode::body(message);
        !decoded.codings.is_empty() && self.0.is_match(&decoded.bytes)
    }
}

impl Filter {
    /// Whether the record matches by what it says itself. A message says less than its exchange: whoever knows that one
    /// asks it for [`Filter::facts`].
    pub fn matches(&self, event: &Event) -> bool {
        self.facts(event) && self.text(event)
    }

    /// All but `grep`. A message has a time, a direction, a target and the address that was called, and no method, status
    /// or path; losses match only a filter that asks for nothing but a time and a target.
    pub fn facts(&self, event: &Event) -> bool {
        let Some(row) = Row::of(event) else { return self.matches_loss(event) };
        let code = row.http.as_ref().map(|http| http.status);
        self.since.is_none_or(|since| row.time >= since)
            && self.direction.is_none_or(|direction| row.connection.direction == direction)
            && self.pods.matches(&row.connection.target)
            && any(&self.methods, |method| row.http.is_some() && method.eq_ignore_ascii_case(row.method()))
            && any(&self.statuses, |status| code.is_some_and(|code| status.matches(code)))
            && any(&self.hosts, |glob| host_matches(glob, &row))
            && any(&self.paths, |pattern| row.http.is_some() && pattern.matches(path_of(&row.target)))
    }

    /// `grep` alone, in what this very record holds.
    pub fn text(&self, event: &Event) -> bool {
        match (&self.grep, event) {
            (None, _) => true,
            (Some(grep), Event::Exchange(exchange)) => grep.matches(exchange),
            (Some(grep), Event::Message(message)) => grep.0.is_match(&message.body.kept),
            (Some(_), Event::Connection(_) | Event::Loss(_)) => false,
        }
    }

    fn matches_loss(&self, event: &Event) -> bool {
        let Event::Loss(loss) = event else { return false };
        let Self { hosts, methods, statuses, paths, since, grep, direction, pods } = self;
        let anything = hosts.is_empty() && methods.is_empty() && statuses.is_empty() && paths.is_empty();
        let untold = grep.is_none() && direction.is_none();
        anything && untold && since.is_none_or(|since| loss.until >= since) && pods.matches(&loss.target)
    }
}

impl Status {
    fn matches(self, code: Option<u16>) -> bool {
        match (self, code) {
            (Self::None, None) => true,
            (Self::Range(from, to), Some(code)) => (from..=to).contains(&code),
            _ => false,
        }
    }
}

fn any<T>(wanted: &[T], test: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(test)
}

fn path_of(target: &str) -> &str {
    url::path(target).split('?').next().unwrap_or_default()
}

fn host_matches(glob: &Glob, row: &Row<'_>) -> bool {
    let authority = url::authority(&row.target);
    let server = row.connection.server;
    glob.matches(authority)
        || glob.matches(url::host(authority))
        || glob.matches(&server.to_string())
        || glob.matches(&server.ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn counts(filter: &Filter) -> usize {
        samples::all().iter().take(5).filter(|event| filter.matches(event)).count()
    }

    fn globs(patterns: &[&str]) -> Vec<Glob> {
        patterns.iter().map(|pattern| Glob::new(pattern).unwrap()).collect()
    }

    #[test]
    fn each_part_narrows_and_none_lets_all_through() {
        let none = Filter::default;
        let path = |pattern| vec![PathPattern::new(pattern).unwrap()];
        for (filter, expected) in [
            (none(), 5),
            (Filter { methods: vec!["get".into()], ..none() }, 2),
            (Filter { methods: vec!["get".into(), "POST".into()], ..none() }, 3),
            (Filter { statuses: vec!["2xx".parse().unwrap()], ..none() }, 2),
            (Filter { statuses: vec!["none".parse().unwrap()], ..none() }, 1),
            (Filter { hosts: globs(&["WEB.shop"]), ..none() }, 3),
            (Filter { hosts: globs(&["*.shop:8080"]), ..none() }, 1),
            (Filter { hosts: globs(&["10.0.0.7:8080"]), ..none() }, 4),
            (Filter { hosts: globs(&["web"]), ..none() }, 0),
            (Filter { paths: path("/it"), ..none() }, 2),
            (Filter { paths: path("/*ms"), ..none() }, 2),
            (Filter { paths: path("/items?q=1"), ..none() }, 0),
            (Filter { direction: Some(Direction::Inbound), ..none() }, 0),
            (Filter { since: Some(1_000_000_123), ..none() }, 5),
            (Filter { since: Some(1_000_000_129), ..none() }, 0),
            (Filter { grep: Some(Grep::new("(?i)accept").unwrap()), ..none() }, 2),
            (Filter { grep: Some(Grep::new(r"\[1,true").unwrap()), ..none() }, 1),
        ] {
            assert_eq!(counts(&filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn a_message_is_known_by_time_direction_address_and_what_it_says() {
        let messages: Vec<Event> = samples::messages().into_iter().map(|one| Event::Message(Box::new(one))).collect();
        let count = |filter: Filter| messages.iter().filter(|event| filter.matches(event)).count();
        let none = Filter::default;
        assert_eq!(count(none()), messages.len());
        assert_eq!(count(Filter { hosts: globs(&["10.0.0.7"]), ..none() }), messages.len());
        assert_eq!(count(Filter { hosts: globs(&["web.shop"]), ..none() }), 0);
        assert_eq!(count(Filter { methods: vec!["text".into()], ..none() }), 0);
        assert_eq!(count(Filter { since: Some(1_000_001_624), ..none() }), 0);
        assert_eq!(count(Filter { direction: Some(Direction::Inbound), ..none() }), 0);
        assert_eq!(count(Filter { grep: Some(Grep::new("^hello$").unwrap()), ..none() }), 1);
    }

    #[test]
    fn pods_are_known_by_namespace_name_and_labels_and_commands_are_none() {
        let of_pod = Event::from(samples::of_pod());
        let Event::Exchange(exchange) = &of_pod else { unreachable!() };
        let target = std::sync::Arc::clone(&exchange.connection.target);
        let loss = crate::exchange::Loss { time: 1, until: 2, target, reason: "x".into(), exchanges: 1, bytes: 0 };
        let command = Event::from(samples::exchange());
        let selector = |text: &str| Some(text.parse().unwrap());
        for (pods, expected) in [
            (Pods { namespaces: vec!["other".into(), "shop".into()], ..Pods::default() }, true),
            (Pods { namespaces: vec!["sho".into()], ..Pods::default() }, false),
            (Pods { names: globs(&["web-6774cc6887-rjz5j"]), ..Pods::default() }, true),
            (Pods { names: globs(&["web-*"]), ..Pods::default() }, true),
            (Pods { names: globs(&["web"]), ..Pods::default() }, false),
            (Pods { selector: selector("app=web,tier!=back"), ..Pods::default() }, true),
            (Pods { selector: selector("!app"), ..Pods::default() }, false),
        ] {
            let filter = Filter { pods, ..Filter::default() };
            assert_eq!(filter.matches(&of_pod), expected, "{filter:?}");
            assert_eq!(filter.matches(&Event::Loss(loss.clone())), expected, "{filter:?}");
            assert!(!filter.matches(&command), "{filter:?}");
            assert!(!filter.pods.is_everything());
        }
        // A command has no labels, which would meet this one.
        let filter = Filter { pods: Pods { selector: selector("!app"), ..Pods::default() }, ..Filter::default() };
        assert!(!filter.matches(&command));
    }

    #[test]
    fn a_body_is_searched_behind_its_coding() {
        let mut exchange = samples::exchange();
        let zstd = ruzstd::encoding::compress_to_vec(&b"needle"[..], ruzstd::encoding::CompressionLevel::Fastest);
        let mut response = samples::message("HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\n\r\n", "");
        response.body = crate::exchange::Body { size: zstd.len() as u64, kept: zstd, in_messages: false };
        exchange.response = Some(response);
        let filter = Filter { grep: Some(Grep::new("^needle$").unwrap()), ..Filter::default() };
        assert!(filter.matches(&exchange.into()));
    }

    #[test]
    fn a_status_is_a_code_a_class_or_a_range() {
        assert_eq!("404".parse::<Status>().unwrap(), Status::Range(404, 404));
        assert_eq!("5XX".parse::<Status>().unwrap(), Status::Range(500, 599));
        assert_eq!("400-499".parse::<Status>().unwrap(), Status::Range(400, 499));
        for text in ["", "20", "2x", "xx", "499-400", "1000", "+20", "abc"] {
            assert!(text.parse::<Status>().is_err(), "{text}");
        }
    }
}
