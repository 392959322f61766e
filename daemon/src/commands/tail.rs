//! `nodetap tail`: the last records, then each new one as it is written.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use nodetap_core::exchange::Event;
use nodetap_core::row::Row;
use nodetap_core::table::Layout;

use super::ls::{CLUSTER_ID_WIDTH, line};
use super::output::{Failure, layout, report, warn};
use super::remote::{Cluster, Ended, Remote};
use super::select::{Format, Selection, Source, has_pods};
use crate::query::Ask;
use crate::query::ask::Messages;
use crate::query::chosen::Chosen;
use crate::store::follow::Follower;
use crate::store::read::Kind;

/// How often the folder is looked at.
const POLL: Duration = Duration::from_millis(100);
/// Characters of an id: what comes is not known yet, so more of them than `ls` needs.
const ID_WIDTH: usize = 8;

/// Before a cluster is asked again whose answer broke off.
const AGAIN: Duration = Duration::from_secs(1);
/// How often, when it cannot be reached at all.
const TRIES: u32 = 60;

/// Show the last records, and new ones as they come
#[derive(Debug, Clone, Args)]
pub struct Tail {
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
    /// How many of the last records to begin with
    #[arg(long = "lines", value_name = "N", default_value_t = 10)]
    lines: usize,
    /// End after them instead of waiting for more
    #[arg(long)]
    no_follow: bool,
}

impl Tail {
    /// Ends by a signal, or when nobody reads any more.
    pub fn run(&self) -> ExitCode {
        report(self.follow(&mut BufWriter::new(std::io::stdout().lock())))
    }

    fn follow(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let filter = self.selection.filter(self.pod.as_ref(), &self.cluster)?;
        if let Some(remote) = self.cluster.reach(&self.source, self.pod.is_some() || self.selection.is_of_pods())? {
            return self.follow_cluster(&remote, out);
        }
        let folder = self.source.folder()?;
        let mut index = self.source.index()?;
        let mut follower = Follower::after(&index, &folder);
        // From the end, until there are as many as were asked for; only their places are kept.
        let mut wanted = Vec::new();
        let mut chosen = Chosen::new(&filter, Messages::Matching);
        for number in (0..index.entries.len()).rev() {
            if wanted.len() >= self.lines {
                break;
            }
            let Some(entry) = index.entries.get(number).copied().filter(|entry| entry.kind() != Kind::Loss) else {
                continue;
            };
            if chosen.read(&mut index, entry)?.is_some() {
                wanted.push(entry);
            }
        }
        let layout = layout(self.output == Format::Wide, ID_WIDTH.max(index.id_width()), has_pods(&mut index));
        if self.output != Format::Json {
            writeln!(out, "{}", layout.heading())?;
        }
        for entry in wanted.into_iter().rev() {
            if let Some(event) = index.event(entry)? {
                self.print(&event, &layout, out)?;
            }
        }
        out.flush()?;
        drop(index);
        if self.no_follow {
            return Ok(());
        }
        loop {
            std::thread::sleep(POLL);
            // What a message is part of may not be written yet: it goes by what it says itself.
            for event in follower.poll()?.iter().filter(|event| filter.matches(event)) {
                self.print(event, &layout, out)?;
            }
            out.flush()?;
        }
    }

    fn follow_cluster(&self, remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
        let layout = layout(self.output == Format::Wide, CLUSTER_ID_WIDTH, true);
        if self.output != Format::Json {
            writeln!(out, "{}", layout.heading())?;
        }
        let watch = !self.no_follow;
        let (pod, messages) = (self.pod.clone(), Messages::Matching);
        let mut ask = Ask { pod, messages, tail: Some(self.lines), watch, ..self.selection.ask() };
        let (mut live, mut tries) = (false, 0);
        loop {
            let answered = remote.records(ask.clone(), |event| {
                match &event {
                    Some(event) => self.print(event, &layout, out)?,
                    None => (live, tries) = (true, 0),
                }
                // What is new is shown as it comes; before that there may be much.
                if live { Ok(out.flush()?) } else { Ok(()) }
            });
            out.flush()?;
            match answered {
                Ok(Ended::Whole) if !watch => return Ok(()),
                Ok(Ended::ByTime) => {}
                // It was there before: an API server that is replaced comes back.
                Err(Failure::Said(..)) if live && tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(AGAIN);
                }
                Err(failure) => return Err(failure),
                Ok(Ended::Whole | Ended::Broken) => {
                    warn("warning: the connection to the cluster broke: records of the meantime are in `nodetap ls`");
                    std::thread::sleep(AGAIN);
                }
            }
            // What was shown is not shown again.
            ask.tail = Some(0);
        }
    }

    fn print(&self, event: &Event, layout: &Layout, out: &mut dyn Write) -> Result<(), Failure> {
        match (self.output, Row::of(event)) {
            (Format::Json, _) => line(event, out)?,
            (_, Some(row)) => writeln!(out, "{}", layout.row(&row))?,
            (_, None) => {}
        }
        Ok(())
    }
}
