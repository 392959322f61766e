//! `nodetap ls`: what was recorded, in time order.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::Args;
use nodetap_core::exchange::{Event, Loss};
use nodetap_core::filter::Filter;
use nodetap_core::record::Record;
use nodetap_core::row::Row;
use nodetap_core::text::one_line;
use nodetap_core::{size, time};

use super::output::{Failure, layout, report};
use super::select::{Format, Selection, Source, warn_of_losses};
use crate::store::read::Index;

/// List what was recorded
#[derive(Debug, Clone, Args)]
pub struct Ls {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    selection: Selection,
    /// How to write it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// List what was lost instead: when, why, how much
    #[arg(long)]
    losses: bool,
}

impl Ls {
    pub fn run(&self) -> ExitCode {
        report(self.list(&mut BufWriter::new(std::io::stdout().lock())))
    }

    fn list(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let filter = self.selection.filter()?;
        let mut index = self.source.index()?;
        if !self.losses {
            warn_of_losses(&index);
        }
        match (self.output, self.losses) {
            (Format::Json, losses) => json(&mut index, &filter, losses, out)?,
            (_, true) => loss_table(&mut index, &filter, out)?,
            (format, false) => table(&mut index, &filter, format == Format::Wide, out)?,
        }
        Ok(out.flush()?)
    }
}

/// Calls `each` with every record that is wanted.
pub(super) fn for_each(
    index: &mut Index,
    filter: &Filter,
    losses: bool,
    mut each: impl FnMut(Event) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for entry in std::mem::take(&mut index.entries) {
        if entry.key.id.is_none() != losses {
            continue;
        }
        if let Some(event) = index.event(entry)?.filter(|event| filter.matches(event)) {
            each(event)?;
        }
    }
    Ok(())
}

pub(super) fn json(index: &mut Index, filter: &Filter, losses: bool, out: &mut dyn Write) -> Result<(), Failure> {
    for_each(index, filter, losses, |event| {
        serde_json::to_writer(&mut *out, &Record::from(&event))?;
        Ok(out.write_all(b"\n")?)
    })
}

fn table(index: &mut Index, filter: &Filter, wide: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let layout = layout(wide, index.id_width());
    writeln!(out, "{}", layout.heading())?;
    for_each(index, filter, false, |event| {
        if let Some(row) = Row::of(&event) {
            writeln!(out, "{}", layout.row(&row))?;
        }
        Ok(())
    })
}

fn loss_table(index: &mut Index, filter: &Filter, out: &mut dyn Write) -> Result<(), Failure> {
    let zone = layout(false, 0).zone;
    writeln!(out, "{:<34} {:<34} {:<16} {:<12} {:>8} {:>10}", "TIME", "UNTIL", "TARGET", "REASON", "RECORDS", "SIZE")?;
    for_each(index, filter, true, |event| {
        let Event::Loss(Loss { time, until, target, reason, exchanges, bytes }) = event else { return Ok(()) };
        let (time, until) = (time::in_full(time, &zone), time::in_full(until, &zone));
        let (target, size) = (one_line(&target).into_owned(), size::show(bytes));
        writeln!(out, "{time:<34} {until:<34} {target:<16} {reason:<12} {exchanges:>8} {size:>10}")?;
        Ok(())
    })
}
