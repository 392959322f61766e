//! `nodetap export`: a recording as one file that other programs read, written as it is read.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use nodetap_core::exchange::Event;
use nodetap_core::filter::Filter;
use nodetap_core::har;

use super::ls::{for_each, json, line};
use super::output::{Failure, report};
use super::remote::{Cluster, Remote};
use super::select::{Selection, Source, warn_of_losses};
use crate::query::Ask;
use crate::query::ask::Messages;
use crate::query::chosen::{Chosen, Grouped, messages};
use crate::store::read::Index;
use crate::store::{Owner, create_private};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// JSON lines: every record as it is, messages of exchanges among them, bodies raw
    Jsonl,
    /// HAR 1.2: exchanges only, with their messages; bodies without content codings
    Har,
}

/// Write a recording for other programs
#[derive(Debug, Clone, Args)]
pub struct Export {
    /// The records of this pod: of the cluster, or of the folder that is named
    #[arg(value_name = "POD")]
    pod: Option<String>,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    selection: Selection,
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    format: Kind,
    /// File to write (only you can read it) [default: stdout]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Export {
    pub fn run(&self) -> ExitCode {
        report(self.export())
    }

    fn export(&self) -> Result<(), Failure> {
        let filter = self.selection.filter(self.pod.as_ref(), &self.cluster)?;
        if let Some(remote) = self.cluster.reach(&self.source, self.pod.is_some() || self.selection.is_of_pods())? {
            return self.export_cluster(&remote);
        }
        let mut index = self.source.index()?;
        warn_of_losses(&index);
        match self.to.as_ref().filter(|path| path.as_os_str() != "-") {
            None => write(self.format, &mut index, &filter, BufWriter::new(io::stdout().lock())),
            Some(path) => {
                let file = create_private(path, None).map_err(|error| cannot_write(path, error))?;
                write(self.format, &mut index, &filter, BufWriter::new(file))
            }
        }
    }

    fn export_cluster(&self, remote: &Remote) -> Result<(), Failure> {
        let messages = if self.format == Kind::Har { Messages::Grouped } else { Messages::All };
        let ask = Ask { pod: self.pod.clone(), messages, ..self.selection.ask() };
        match self.to.as_ref().filter(|path| path.as_os_str() != "-") {
            None => write_cluster(self.format, remote, ask, BufWriter::new(io::stdout().lock())),
            Some(path) => {
                let file = create_private(path, None).map_err(|error| cannot_write(path, error))?;
                write_cluster(self.format, remote, ask, BufWriter::new(file))
            }
        }
    }
}

fn write_cluster(kind: Kind, remote: &Remote, ask: Ask, mut out: impl Write) -> Result<(), Failure> {
    if kind == Kind::Jsonl {
        remote.records(ask, |event| event.map_or(Ok(()), |event| line(&event, &mut out)))?;
        return Ok(out.flush()?);
    }
    let mut har = har::Writer::new(out, env!("CARGO_PKG_VERSION"))?;
    let mut grouped = Grouped::default();
    remote.records(ask, |event| match event.and_then(|event| grouped.add(event)) {
        Some((exchange, messages)) => har.write(&exchange, messages.into_iter().map(Ok::<_, Failure>)),
        None => Ok(()),
    })?;
    if let Some((exchange, messages)) = grouped.last() {
        har.write(&exchange, messages.into_iter().map(Ok::<_, Failure>))?;
    }
    har.finish()?;
    Ok(())
}

/// Writes all exchanges of a folder into a HAR file (what `nodetap run --har` does at its end); it belongs to `owner`.
pub fn har_file(folder: &Path, path: &Path, owner: Option<Owner>) -> Result<(), Failure> {
    let mut index = Index::read(folder)?;
    let file = create_private(path, owner).map_err(|error| cannot_write(path, error))?;
    write(Kind::Har, &mut index, &Filter::default(), BufWriter::new(file))
}

fn cannot_write(path: &Path, error: io::Error) -> Failure {
    Failure::new(format!("{} cannot be written: {error}", path.display()))
}

fn write(kind: Kind, index: &mut Index, filter: &Filter, mut out: impl Write) -> Result<(), Failure> {
    let chosen = |messages| Chosen::new(filter, messages);
    match kind {
        Kind::Jsonl => {
            json(index, chosen(Messages::All), false, &mut out)?;
            out.flush()?;
        }
        Kind::Har => {
            let mut har = har::Writer::new(out, env!("CARGO_PKG_VERSION"))?;
            for_each(index, chosen(Messages::None), false, |index, event| match event {
                Event::Exchange(exchange) => {
                    let messages = messages(index, exchange.id).map(|message| message.map_err(Failure::from));
                    har.write(&exchange, messages)
                }
                Event::Connection(_) | Event::Loss(_) | Event::Message(_) => Ok(()),
            })?;
            har.finish()?;
        }
    }
    Ok(())
}
