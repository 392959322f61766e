//! `nodetap ls`: what was recorded, in time order.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::Args;
use nodetap_core::exchange::{Event, Loss};
use nodetap_core::record::Record;
use nodetap_core::row::Row;
use nodetap_core::text::one_line;
use nodetap_core::{size, time};

use super::output::{Failure, layout, report, warn};
use super::remote::{Cluster, Remote};
use super::select::{Format, Selection, Source, has_pods, warn_of_losses};
use crate::query::Ask;
use crate::query::ask::Messages;
use crate::query::chosen::Chosen;
use crate::store::read::{Index, Kind};

/// Characters of an id where records come from many nodes, page by page: more than a folder needs.
pub(super) const CLUSTER_ID_WIDTH: usize = 8;

/// List what was recorded
#[derive(Debug, Clone, Args)]
pub struct Ls {
    /// The records of this pod: of the cluster, or of the folder that is named
    #[arg(value_name = "POD")]
    pod: Option<String>,
    #[command(flatten)]
    cluster: Cluster,
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
        let filter = self.selection.filter(self.pod.as_ref(), &self.cluster)?;
        if let Some(remote) = self.cluster.reach(&self.source, self.pod.is_some() || self.selection.is_of_pods())? {
            return self.list_cluster(&remote, out);
        }
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

    fn list_cluster(&self, remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
        let messages = if self.messages { Messages::Matching } else { Messages::None };
        let ask = Ask { pod: self.pod.clone(), messages, losses: self.losses, ..self.selection.ask() };
        let layout = layout(self.output == Format::Wide, CLUSTER_ID_WIDTH, true);
        match (self.output, self.losses) {
            (Format::Json, _) => {}
            (_, true) => loss_heading(out)?,
            (_, false) => writeln!(out, "{}", layout.heading())?,
        }
        remote.records(ask, |event| match (event, self.output) {
            (Some(event), Format::Json) => line(&event, out),
            (Some(Event::Loss(loss)), _) => loss_row(&loss, out),
            (Some(event), _) => Ok(Row::of(&event).map_or(Ok(()), |row| writeln!(out, "{}", layout.row(&row)))?),
            (None, _) => Ok(()),
        })?;
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
    loss_heading(out)?;
    for_each(index, chosen, true, |_, event| match event {
        Event::Loss(loss) => loss_row(&loss, out),
        _ => Ok(()),
    })
}

fn loss_heading(out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{:<34} {:<34} {:<16} {:<12} {:>8} {:>10}", "TIME", "UNTIL", "TARGET", "REASON", "RECORDS", "SIZE")?;
    Ok(())
}

fn loss_row(loss: &Loss, out: &mut dyn Write) -> Result<(), Failure> {
    let zone = layout(false, 0, false).zone;
    let Loss { time, until, target, reason, exchanges, bytes } = loss;
    let (time, until) = (time::in_full(*time, &zone), time::in_full(*until, &zone));
    let (target, size) = (one_line(&target.to_string()).into_owned(), size::show(*bytes));
    writeln!(out, "{time:<34} {until:<34} {target:<16} {reason:<12} {exchanges:>8} {size:>10}")?;
    Ok(())
}
