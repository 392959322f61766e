//! What all reading commands have in common: which folder, which records.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nodetap_core::exchange::Event;
use nodetap_core::filter::Filter;
use nodetap_core::row::Row;

use super::output::{Failure, warn};
use super::remote::Cluster;
use crate::query::Ask;
use crate::query::read::now;
use crate::store::folder::{default_base, newest};
use crate::store::read::{Index, Kind};

/// The folder that is read.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Source {
    /// Folder of recorded segments, or one segment [default: the newest recording]
    #[arg(long, value_name = "DIR")]
    pub(super) from: Option<PathBuf>,
}

impl Source {
    pub(super) fn folder(&self) -> Result<PathBuf, Failure> {
        match &self.from {
            Some(folder) => Ok(folder.clone()),
            None => Ok(newest(&default_base()?)?),
        }
    }

    /// All records; what is damaged is said on stderr.
    pub(super) fn index(&self) -> Result<Index, Failure> {
        let index = Index::read(&self.folder()?)?;
        index.warnings.iter().for_each(|warning| warn(&format!("warning: {warning}")));
        Ok(index)
    }
}

/// Whoever looks at records is told that some are missing.
pub(super) fn warn_of_losses(index: &Index) {
    if index.entries.iter().any(|entry| entry.id().is_none()) {
        warn("warning: records were lost; `nodetap ls --losses` says when and why");
    }
}

/// Are there pods among the targets? Those of one recording are all pods, or none of them is: the newest tells.
pub(super) fn has_pods(index: &mut Index) -> bool {
    let newest = index.entries.iter().rev().find(|entry| entry.kind() != Kind::Loss).copied();
    // What cannot be read is reported where it is wanted.
    let event = newest.and_then(|entry| index.event(entry).ok().flatten());
    event.as_ref().is_some_and(is_of_pod)
}

pub(super) fn is_of_pod(event: &Event) -> bool {
    Row::of(event).is_some_and(|row| row.pod().is_some())
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    #[default]
    Table,
    Wide,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Direction {
    #[value(alias = "inbound")]
    In,
    #[value(alias = "outbound")]
    Out,
}

/// Which records are wanted; each option narrows. How messages are chosen stands in [`crate::query::chosen`].
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Selection {
    /// Host or host:port, `*` and `?` allowed; may be repeated
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    host: Vec<String>,
    /// Method; may be repeated
    #[arg(long, value_name = "METHOD", value_delimiter = ',')]
    method: Vec<String>,
    /// Status: 200, 2xx, 400-499, or none; may be repeated
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,
    /// What the path begins with; or a pattern for all of it when it holds `*` or `?`
    #[arg(long, value_name = "PATH")]
    path: Vec<String>,
    /// Not older than: 10m, 2h, or a time like 2026-11-22T23:25:39Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Regular expression, looked for in heads, bodies (decoded ones too) and messages
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
    /// As seen by the recorded program
    #[arg(long, value_name = "DIRECTION")]
    direction: Option<Direction>,
    /// Labels of pods, as kubectl has them: app=web,tier!=db
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
}

impl Selection {
    /// Of the records in a folder.
    pub(super) fn filter(&self, pod: Option<&String>, cluster: &Cluster) -> Result<Filter, Failure> {
        let ask = Ask { pod: pod.cloned(), namespace: cluster.namespace.clone(), ..self.ask() };
        ask.filter(now()).map_err(Failure::bad_input)
    }

    /// The same as a question.
    pub(super) fn ask(&self) -> Ask {
        Ask {
            selector: self.selector.clone(),
            hosts: self.host.clone(),
            methods: self.method.clone(),
            statuses: self.status.clone(),
            paths: self.path.clone(),
            since: self.since.clone(),
            grep: self.grep.clone(),
            direction: self.direction.map(|direction| match direction {
                Direction::In => "inbound".to_owned(),
                Direction::Out => "outbound".to_owned(),
            }),
            ..Ask::default()
        }
    }

    /// Are pods meant? Only they have labels.
    pub(super) fn is_of_pods(&self) -> bool {
        self.selector.is_some()
    }
}
