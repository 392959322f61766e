//! `nodetap show`: one record, whole.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;
use nodetap_core::exchange::Event;
use nodetap_core::record::Record;
use nodetap_core::row::Row;
use nodetap_core::{curl, page};

use super::output::{Failure, layout, report, style};
use super::select::{Format, Source};
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
        let entry = self.find(&index)?;
        let Some(event) = index.event(entry)? else {
            return Err(Failure::new(format!("record {} has made room for others meanwhile", self.id)));
        };
        match (self.curl, self.output, &event) {
            (true, _, Event::Exchange(exchange)) => writeln!(out, "{}", curl::command(exchange))?,
            (true, ..) => return Err(Failure::new(format!("{} is no exchange: there is nothing to repeat", self.id))),
            (_, Format::Json, event) => {
                serde_json::to_writer(&mut *out, &Record::from(event))?;
                writeln!(out)?;
            }
            (_, Format::Wide, event) => {
                let layout = layout(true, 0);
                writeln!(out, "{}", layout.heading())?;
                if let Some(row) = Row::of(event) {
                    writeln!(out, "{}", layout.row(&row))?;
                }
            }
            (_, Format::Table, event) => {
                let style = style(std::io::stdout().is_terminal());
                out.write_all(page::page(event, style, &TimeZone::system()).as_bytes())?;
            }
        }
        Ok(out.flush()?)
    }

    fn find(&self, index: &Index) -> Result<Entry, Failure> {
        match &index.find(&self.id)[..] {
            [] => Err(Failure::new(format!("no record's id begins or ends with {}: `nodetap ls` lists them", self.id))),
            [entry] => Ok(*entry),
            several => {
                let named = several.iter().take(CANDIDATES).filter_map(|entry| entry.key.id);
                let named: Vec<String> = named.map(|id| id.to_string()).collect();
                let more = if several.len() > CANDIDATES { ", …" } else { "" };
                let (id, count, named) = (&self.id, several.len(), named.join(", "));
                Err(Failure::new(format!("{id} fits {count} records, give more of the id: {named}{more}")))
            }
        }
    }
}
