//! `nodetap show`: one record, whole; an exchange with its messages.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;
use nodetap_core::exchange::{Event, Exchange, StreamMessage};
use nodetap_core::row::Row;
use nodetap_core::ulid::Ulid;
use nodetap_core::{curl, page};

use super::ls::line;
use super::names::Names;
use super::output::{Failure, layout, report, style, warn};
use super::remote::{Cluster, Remote};
use super::select::{Format, Source, is_of_pod};
use crate::query::chosen::messages;
use crate::store::read::{Entry, Index};

/// Records that are named when an id fits more than one.
const CANDIDATES: usize = 8;

/// Show one record: heads, bodies, times
#[derive(Debug, Clone, Args)]
pub struct Show {
    /// The record's id, or as much of its beginning (or end) as tells it from others
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    source: Source,
    /// How to write it: table is a page to read, wide is its line in `ls -o wide`
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Descriptor set (`protoc --include_imports -o FILE`, `buf build -o FILE`) that names the fields of gRPC messages
    #[arg(long, value_name = "FILE")]
    proto_set: Option<PathBuf>,
    /// Print the curl command that repeats the request
    #[arg(long, conflicts_with = "output")]
    curl: bool,
}

impl Show {
    pub fn run(&self) -> ExitCode {
        report(self.show(&mut std::io::stdout().lock()))
    }

    fn show(&self, out: &mut dyn Write) -> Result<(), Failure> {
        if let Some(remote) = self.cluster.reach(&self.source, false)? {
            return self.show_cluster(&remote, out);
        }
        let mut index = self.source.index()?;
        match self.find(&index)? {
            Found::Open(exchange) => self.open(exchange, &mut all(&mut index, exchange), out),
            Found::Record(entry) => {
                let Some(event) = index.event(entry)? else {
                    return Err(Failure::new(format!("record {} has made room for others meanwhile", self.id)));
                };
                let names = self.names(&event, |id| {
                    let place = index.exchange(id);
                    Ok(match place.map(|place| index.event(place)).transpose()?.flatten() {
                        Some(Event::Exchange(exchange)) => Some(exchange),
                        _ => None,
                    })
                })?;
                match &event {
                    Event::Exchange(exchange) => {
                        self.record(&event, names.as_ref(), &mut all(&mut index, exchange.id), out)
                    }
                    _ => self.record(&event, names.as_ref(), &mut std::iter::empty(), out),
                }
            }
        }
    }

    fn show_cluster(&self, remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
        let found = remote.find(&self.id)?;
        let mut messages = found.messages.into_iter().map(Ok).peekable();
        match found.event {
            Some(event) => {
                let names = self.names(&event, |id| remote.exchange(id))?;
                self.record(&event, names.as_ref(), &mut messages, out)
            }
            None => {
                let first = messages.peek().and_then(|message| message.as_ref().ok()).map(|message| message.exchange);
                let Some(exchange) = first else {
                    return Err(Failure::new(format!("no record's id begins or ends with {}", self.id)));
                };
                self.open(exchange, &mut messages, out)
            }
        }
    }

    fn record(
        &self,
        event: &Event,
        names: Option<&Names>,
        messages: &mut Parts<'_>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        match (self.curl, self.output, event) {
            (true, _, Event::Exchange(exchange)) => {
                writeln!(out, "{}", curl::command(exchange).map_err(Failure::new)?)?;
            }
            (true, ..) => return Err(Failure::new(format!("{} is no exchange: there is nothing to repeat", self.id))),
            (_, Format::Json, event) => {
                line(event, out)?;
                as_json(messages, out)?;
            }
            (_, Format::Wide, event) => {
                let layout = layout(true, 0, is_of_pod(event));
                writeln!(out, "{}", layout.heading())?;
                if let Some(row) = Row::of(event) {
                    writeln!(out, "{}", layout.row(&row))?;
                }
            }
            (_, Format::Table, event) => page(event, names, messages, out)?,
        }
        Ok(out.flush()?)
    }

    /// `exchange_of` gives the exchange of a message.
    fn names(
        &self,
        event: &Event,
        mut exchange_of: impl FnMut(Ulid) -> Result<Option<Box<Exchange>>, Failure>,
    ) -> Result<Option<Names>, Failure> {
        let Some(path) = self.proto_set.as_ref().filter(|_| self.output == Format::Table && !self.curl) else {
            return Ok(None);
        };
        let exchange = match event {
            Event::Exchange(exchange) => Some(exchange.clone()),
            Event::Message(message) => exchange_of(message.exchange)?,
            Event::Connection(_) | Event::Loss(_) => None,
        };
        let Some(exchange) = exchange else {
            warn("warning: which method was called is not recorded; fields are shown by number");
            return Ok(None);
        };
        Ok(Names::read(path, &exchange))
    }

    /// Of an exchange that has not ended, its messages are all there is.
    fn open(&self, exchange: Ulid, messages: &mut Parts<'_>, out: &mut dyn Write) -> Result<(), Failure> {
        if self.curl {
            return Err(Failure::new(format!("exchange {exchange} is not written yet: there is nothing to repeat")));
        }
        match self.output {
            Format::Json => as_json(messages, out)?,
            Format::Wide => {
                let messages = messages.collect::<Result<Vec<_>, _>>()?;
                let pods = messages.first().is_some_and(|message| message.connection.target.pod().is_some());
                let layout = layout(true, 0, pods);
                writeln!(out, "{}", layout.heading())?;
                for message in messages {
                    let event = Event::Message(Box::new(message));
                    if let Some(row) = Row::of(&event) {
                        writeln!(out, "{}", layout.row(&row))?;
                    }
                }
            }
            Format::Table => {
                warn(&format!("exchange {exchange} has not ended, or was lost: these are its messages"));
                if self.proto_set.is_some() {
                    warn("warning: which method was called is not recorded yet; fields are shown by number");
                }
                let style = style(std::io::stdout().is_terminal());
                let mut start = None;
                for message in messages {
                    let message = message?;
                    let start = *start.get_or_insert(message.time);
                    out.write_all(page::message(&message, start, None, style).as_bytes())?;
                }
            }
        }
        Ok(out.flush()?)
    }

    fn find(&self, index: &Index) -> Result<Found, Failure> {
        let id = &self.id;
        let several = |count: usize, ids: &mut dyn Iterator<Item = Ulid>| {
            let named: Vec<String> = ids.take(CANDIDATES).map(|id| id.to_string()).collect();
            let (named, more) = (named.join(", "), if count > CANDIDATES { ", …" } else { "" });
            Err(Failure::new(format!("{id} fits {count} records, give more of the id: {named}{more}")))
        };
        match &index.find(id)[..] {
            [entry] => Ok(Found::Record(*entry)),
            [] => match &index.find_open(id)[..] {
                [] => Err(Failure::new(format!("no record's id begins or ends with {id}: `nodetap ls` lists them"))),
                [exchange] => Ok(Found::Open(*exchange)),
                open => several(open.len(), &mut open.iter().copied()),
            },
            entries => several(entries.len(), &mut entries.iter().filter_map(Entry::id)),
        }
    }
}

/// What an id stands for.
enum Found {
    Record(Entry),
    /// An exchange of which only messages are there.
    Open(Ulid),
}

/// Messages of one exchange, in order.
type Parts<'a> = dyn Iterator<Item = Result<StreamMessage, Failure>> + 'a;

fn all(index: &mut Index, exchange: Ulid) -> impl Iterator<Item = Result<StreamMessage, Failure>> {
    messages(index, exchange).map(|message| message.map_err(Failure::from))
}

fn page(event: &Event, names: Option<&Names>, messages: &mut Parts<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let style = style(std::io::stdout().is_terminal());
    let named = |message: &StreamMessage| names.and_then(|names| names.show(message));
    let own = match event {
        Event::Message(message) => named(message),
        _ => None,
    };
    out.write_all(page::page(event, own.as_deref(), style, &TimeZone::system()).as_bytes())?;
    if let Event::Exchange(exchange) = event {
        for message in messages {
            let message = message?;
            let text = page::message(&message, exchange.time, named(&message).as_deref(), style);
            out.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

fn as_json(messages: &mut Parts<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    for message in messages {
        line(&Event::Message(Box::new(message?)), out)?;
    }
    Ok(())
}
