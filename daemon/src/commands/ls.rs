//! `nodetap ls`: what was recorded, in time order.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::Args;
use nodetap_core::exchange::{Event, Loss};
use nodetap_core::record::Record;
use nodetap_core::row::Row;
use nodetap_core::text::one_line;
use nodetap_core::{size, time};

use super::chosen::{Chosen, Messages};
use super::output::{Failure, layout, report, warn};
use super::select::{Format, Selection, Source, has_pods, warn_of_losses};
use crate::store::read::{Index, Kind};

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
    /// List the messages of WebSockets, gRPC calls and endless bodies too
    #[arg(long)]
    messages: bool,
    /// List what was lost instead: when, why, how much
    #[arg(long, conflicts_with = "messages")]
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
        let messages = if self.messages { Messages::Matching } else { Messages::None };
        let chosen = Chosen::new(&filter, messages);
        match (self.output, self.losses) {
            (Format::Json, losses) => json(&mut index, chosen, losses, out)?,
            (_, true) => loss_table(&mut index, chosen, out)?,
            (format, false) => table(&mut index, chosen, format == Format::Wide, out)?,
        }
        Ok(out.flush()?)
    }
}

/// Calls `each` with every record that is wanted.
pub(super) fn for_each(
    index: &mut Index,
    mut chosen: Chosen<'_>,
    losses: bool,
    mut each: impl FnMut(&mut Index, Event) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let known = index.warnings.len();
    for number in 0..index.entries.len() {
        let entry = index.entries.get(number).copied().filter(|entry| (entry.kind() == Kind::Loss) == losses);
        if let Some(entry) = entry
            && let Some(event) = chosen.read(index, entry)?
        {
            each(index, event)?;
        }
    }
    index.warnings.iter().skip(known).for_each(|warning| warn(&format!("warning: {warning}")));
    Ok(())
}

pub(super) fn json(index: &mut Index, chosen: Chosen<'_>, losses: bool, out: &mut dyn Write) -> Result<(), Failure> {
    for_each(index, chosen, losses, |_, event| line(&event, out))
}

/// A record as one line of JSON.
pub(super) fn line(event: &Event, out: &mut dyn Write) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, &Record::from(event))?;
    Ok(out.write_all(b"\n")?)
}

fn table(index: &mut Index, chosen: Chosen<'_>, wide: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let layout = layout(wide, index.id_width(), has_pods(index));
    writeln!(out, "{}", layout.heading())?;
    for_each(index, chosen, false, |_, event| {
        if let Some(row) = Row::of(&event) {
            writeln!(out, "{}", layout.row(&row))?;
        }
        Ok(())
    })
}

fn loss_table(index: &mut Index, chosen: Chosen<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let zone = layout(false, 0, false).zone;
    writeln!(out, "{:<34} {:<34} {:<16} {:<12} {:>8} {:>10}", "TIME", "UNTIL", "TARGET", "REASON", "RECORDS", "SIZE")?;
    for_each(index, chosen, true, |_, event| {
        let Event::Loss(Loss { time, until, target, reason, exchanges, bytes }) = event else { return Ok(()) };
        let (time, until) = (time::in_full(time, &zone), time::in_full(until, &zone));
        let (target, size) = (one_line(&target.to_string()).into_owned(), size::show(bytes));
        writeln!(out, "{time:<34} {until:<34} {target:<16} {reason:<12} {exchanges:>8} {size:>10}")?;
        Ok(())
    })
}
