//! One client's requests, asked directly and by way of nodetap, held against each other and against the records. It
//! knows what must be the same, and not by which way the requests went.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::origin::Origin;
use crate::process::Finished;
use crate::seen::{Messages, Seen};

/// What the server puts behind a body, as clients print it.
const TRAILERS: [&str; 2] = [" | x-checksum: 1234", " | x-more: yes"];

/// What came of all requests of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The client's lines: status, body, headers and trailers of each answer.
    pub lines: String,
    /// What the server saw of each request, with its headers from end to end.
    pub exchanges: Vec<Value>,
    /// Digests of all bytes of each HTTP/1 connection, both directions.
    pub connections: BTreeSet<String>,
}

impl Asked {
    /// Of a client that has finished, and with it the connections that it was served by; those are its own when
    /// `tunnelled`.
    ///
    /// # Errors
    /// When the client failed or asked nothing.
    pub fn of(finished: &Finished, origin: &mut Origin, tunnelled: bool) -> Result<Self> {
        ensure!(finished.code() == 0, "the client failed: {finished:?}");
        let seen = origin.seen("exchange connection")?;
        let (exchanges, connections): (Vec<Value>, Vec<Value>) =
            seen.into_iter().partition(|line| line["kind"] == "exchange");
        ensure!(!exchanges.is_empty(), "nothing was asked: {finished:?}");
        // The bytes of HTTP/2 depend on what was acknowledged when.
        let of_http1 = connections.iter().filter(|line| tunnelled && line["protocol"] == "http/1.1");
        let connections = of_http1.map(Value::to_string).collect();
        Ok(Self { lines: finished.text(), exchanges, connections })
    }

    /// To be held against what went through a proxy that is none of bytes, but of messages: it makes connections of its
    /// own, and need not pass on trailers that nobody asked for (RFC 9110 §6.5.2).
    #[must_use]
    pub fn by_messages(self) -> Self {
        let lines = TRAILERS.iter().fold(self.lines, |lines, trailer| lines.replace(trailer, ""));
        Self { lines, connections: BTreeSet::new(), ..self }
    }

    /// To be held against another time, when the server divides the same answers in another way.
    #[must_use]
    pub fn without_answers(mut self) -> Self {
        self.exchanges.iter_mut().for_each(|exchange| exchange["response"] = Value::Null);
        self.by_messages()
    }

    /// What is not the same in `other`, which was asked by another way.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let lines = |asked: &Self| asked.lines.lines().map(str::to_owned).collect::<Vec<_>>();
        // A client with several connections is served in whatever order they come to an end; the order on each of them
        // is among their bytes.
        let exchanges = |asked: &Self| {
            let mut all: Vec<_> = asked.exchanges.iter().map(Value::to_string).collect();
            all.sort();
            all
        };
        let connections = |asked: &Self| asked.connections.iter().cloned().collect::<Vec<_>>();
        let mut found = differing("an answer", &lines(self), &lines(other));
        found.extend(differing("a request", &exchanges(self), &exchanges(other)));
        found.extend(differing("bytes", &connections(self), &connections(other)));
        found
    }

    /// What the server saw, in few words.
    ///
    /// # Errors
    /// When a line is not what the server writes.
    pub fn seen(&self) -> Result<Vec<Seen>> {
        self.exchanges.iter().map(Seen::by_server).collect()
    }
}

fn differing(what: &str, one: &[String], other: &[String]) -> Vec<String> {
    let longer = one.len().max(other.len());
    let pair =
        |index: usize| (one.get(index).map_or("-", String::as_str), other.get(index).map_or("-", String::as_str));
    let differ = (0..longer).map(pair).filter(|(one, other)| one != other);
    differ.map(|(one, other)| format!("{what}:\n  {one}\n  {other}")).collect()
}

/// A record without the text of its bodies, which may be long.
fn told(record: &Value) -> String {
    let mut record = record.clone();
    for part in ["request", "response"] {
        if let Some(body) = record[part]["body"].as_object_mut() {
            body.retain(|name, _| !matches!(name.as_str(), "text" | "base64"));
        }
    }
    record.to_string()
}

/// Holds the records of one way against what the server saw: the same exchanges, each of them whole.
///
/// # Errors
/// Says which exchanges are only in one of the two, or not whole.
pub fn recorded(records: &[Value], via: &str, server: u16, mut expected: Vec<Seen>) -> Result<()> {
    let messages = Messages::of(records);
    let of_way = |record: &&Value| record["kind"] == "exchange" && record["via"] == via;
    let mut found = Vec::new();
    for record in records.iter().filter(of_way) {
        ensure!(record["outcome"] == "complete" && record["server"]["port"] == server, "{}", told(record));
        found.push(Seen::in_record(record, &messages).with_context(|| told(record))?);
    }
    found.sort();
    expected.sort();
    let only = |one: &[Seen], other: &[Seen]| -> Vec<Seen> {
        one.iter().filter(|seen| !other.contains(seen)).cloned().collect()
    };
    ensure!(
        found == expected,
        "{via}: recorded {} of {}; only recorded: {:#?}; only seen: {:#?}",
        found.len(),
        expected.len(),
        only(&found, &expected),
        only(&expected, &found)
    );
    Ok(())
}
