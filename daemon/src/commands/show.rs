//! `nodetap show`: one record, whole; an exchange with its messages.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;
use nodetap_core::exchange::{Event, StreamMessage};
use nodetap_core::row::Row;
use nodetap_core::ulid::Ulid;
use nodetap_core::{curl, page};

use super::chosen::messages;
use super::ls::line;
use super::names::Names;
use super::output::{Failure, layout, report, style, warn};
use super::select::{Format, Source, has_pods};
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
        let mut index = self.source.index()?;
        let event = match self.find(&index)? {
            Found::Record(entry) => index.event(entry)?,
            Found::Open(exchange) => return self.open(&mut index, exchange, out),
        };
        let Some(event) = event else {
            return Err(Failure::new(format!("record {} has made room for others meanwhile", self.id)));
        };
        match (self.curl, self.output, &event) {
            (true, _, Event::Exchange(exchange)) => {
                writeln!(out, "{}", curl::command(exchange).map_err(Failure::new)?)?;
            }
            (true, ..) => return Err(Failure::new(format!("{} is no exchange: there is nothing to repeat", self.id))),
            (_, Format::Json, event) => {
                line(event, out)?;
                if let Event::Exchange(exchange) = event {
                    messages_as_json(&mut index, exchange.id, out)?;
                }
            }
            (_, Format::Wide, event) => {
                let layout = layout(true, 0, has_pods(&mut index));
                writeln!(out, "{}", layout.heading())?;
                if let Some(row) = Row::of(event) {
                    writeln!(out, "{}", layout.row(&row))?;
                }
            }
            (_, Format::Table, event) => self.page(&mut index, event, out)?,
        }
        Ok(out.flush()?)
    }

    fn page(&self, index: &mut Index, event: &Event, out: &mut dyn Write) -> Result<(), Failure> {
        let style = style(std::io::stdout().is_terminal());
        let names = self.names(index, event)?;
        let named = |message: &StreamMessage| names.as_ref().and_then(|names| names.show(message));
        let own = match event {
            Event::Message(message) => named(message),
            _ => None,
        };
        out.write_all(page::page(event, own.as_deref(), style, &TimeZone::system()).as_bytes())?;
        if let Event::Exchange(exchange) = event {
            for message in messages(index, exchange.id) {
                let message = message?;
                let text = page::message(&message, exchange.time, named(&message).as_deref(), style);
                out.write_all(text.as_bytes())?;
            }
        }
        Ok(())
    }

    fn names(&self, index: &mut Index, event: &Event) -> Result<Option<Names>, Failure> {
        let Some(path) = &self.proto_set else { return Ok(None) };
        let of_message = match event {
            Event::Message(message) => index.exchange(message.exchange).map(|place| index.event(place)).transpose()?,
            _ => None,
        };
        let exchange = match (event, of_message.flatten().as_ref()) {
            (Event::Exchange(exchange), _) | (_, Some(Event::Exchange(exchange))) => exchange.clone(),
            _ => {
                warn("warning: which method was called is not recorded; fields are shown by number");
                return Ok(None);
            }
        };
        Ok(Names::read(path, &exchange))
    }

    /// Of an exchange that has not ended, its messages are all there is.
    fn open(&self, index: &mut Index, exchange: Ulid, out: &mut dyn Write) -> Result<(), Failure> {
        if self.curl {
            return Err(Failure::new(format!("exchange {exchange} is not written yet: there is nothing to repeat")));
        }
        match self.output {
            Format::Json => messages_as_json(index, exchange, out)?,
            Format::Wide => {
                let layout = layout(true, 0, has_pods(index));
                writeln!(out, "{}", layout.heading())?;
                for message in messages(index, exchange) {
                    let event = Event::Message(Box::new(message?));
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
                for message in messages(index, exchange) {
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

fn messages_as_json(index: &mut Index, exchange: Ulid, out: &mut dyn Write) -> Result<(), Failure> {
    messages(index, exchange).try_for_each(|message| line(&Event::Message(Box::new(message?)), out))
}
