//! The recording of one run: where it goes, who watches it meanwhile, and what is said about it at the end.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use nodetap_core::exchange::{Event, Loss};
use nodetap_core::line::line;
use nodetap_core::record::Record;
use nodetap_core::style::Style;
use nodetap_core::ulid::Ulid;
use nodetap_proxy::sink::Sink;
use nodetap_proxy::tap::Limits;

use super::Failure;
use super::options;
use crate::child::Identity;
use crate::commands::{export, output};
use crate::probes::Counts;
use crate::store::lines::Lines;
use crate::store::{self, Observer, Owner, Recorder, Unseen, create_private, folder};

/// What the data plane writes to.
#[derive(Debug, Clone)]
pub(super) struct RecordingSink(Recorder);

impl Sink for RecordingSink {
    fn record(&self, event: Event) {
        // What does not fit is counted by the recorder.
        self.0.record(event);
    }

    fn lost(&self, reason: &'static str, exchanges: u64, bytes: u64) {
        self.0.lost(reason, exchanges, bytes);
    }
}

/// A recording in progress.
#[derive(Debug)]
pub(super) struct Recording {
    recording: store::Recording,
    folder: PathBuf,
    har: Option<PathBuf>,
    owner: Option<Owner>,
    quiet: bool,
}

/// How the run ended, beside what was recorded.
#[derive(Debug)]
pub(super) struct Aftermath {
    /// Processes of the command that still run.
    pub others: usize,
    /// Tunnels that did not end in time.
    pub cut: u64,
    pub counts: Option<Counts>,
}

impl Recording {
    /// Makes the folder and starts the recorder.
    ///
    /// # Errors
    /// When something cannot be written.
    pub(super) fn start(
        options: &options::Recording,
        target: &str,
        id: Ulid,
        identity: Option<&Identity>,
    ) -> Result<(Self, RecordingSink), Failure> {
        let folder = match &options.out {
            Some(folder) => folder.clone(),
            None => base(identity).map_err(|error| Failure::Usage(error.to_string()))?.join(id.to_string()),
        };
        let mut observers = Vec::new();
        if !options.quiet {
            observers.push(to_stderr(output::style(io::stderr().is_terminal())));
        }
        let owner = identity.map(|identity| Owner { uid: identity.uid, gid: identity.gid });
        if let Some(path) = &options.json {
            let file = create_private(path, owner).map_err(|source| Failure::Output { path: path.clone(), source })?;
            observers.push(to_json(file));
        }
        let settings = store::Settings {
            max_store: options.max_store,
            owner,
            ..store::Settings::new(folder.clone(), target.to_owned())
        };
        let (recorder, recording) =
            Recorder::start(settings, observers).map_err(|source| Failure::Output { path: folder.clone(), source })?;
        let recording = Self { recording, folder, har: options.har.clone(), owner, quiet: options.quiet };
        Ok((recording, RecordingSink(recorder)))
    }

    /// Writes what is left, exports what was asked for, and says what it came to.
    pub(super) fn end(self, aftermath: &Aftermath) {
        let totals = self.recording.close();
        let mut out = io::stderr().lock();
        for error in &totals.errors {
            let _ = writeln!(out, "nodetap: {error}");
        }
        if let Some(path) = &self.har
            && let Err(error) = export::har_file(&self.folder, path, self.owner)
        {
            let _ = writeln!(out, "nodetap: the HAR file {}: {error}", path.display());
        }
        // What was lost is said even to those who want quiet: nothing is lost in silence.
        for loss in &totals.lost {
            let _ = writeln!(out, "nodetap: {}", lost(loss));
        }
        for Unseen { observer, records, reason } in &totals.unseen {
            let text = format!("lost on the way to {observer}: {reason}; the recording has them");
            let _ = writeln!(out, "nodetap: {records} lines were {text}");
        }
        if aftermath.cut > 0 {
            let _ = writeln!(out, "nodetap: {} connections did not end in time and were reset", aftermath.cut);
        }
        if self.quiet {
            return;
        }
        if aftermath.others > 0 {
            let text = "still run; what they do from now on is not recorded";
            let _ = writeln!(out, "nodetap: {} processes of the command {text}", aftermath.others);
        }
        if let Some(counts) = aftermath.counts.filter(|counts| counts.ring_full + counts.map_full > 0) {
            let (events, entries) = (counts.ring_full, counts.map_full);
            let _ = writeln!(out, "nodetap: the kernel had no room for {events} events and {entries} map entries");
        }
        if let Some(failed) = aftermath.counts.map(|counts| counts.steered_failed).filter(|failed| *failed > 0) {
            let _ = writeln!(out, "nodetap: {failed} connections were refused because nodetap could not take them");
        }
        let _ = writeln!(out, "nodetap: {}", summary(&totals, &self.folder));
    }
}

/// What taps keep.
pub(super) fn limits(options: &options::Recording) -> Limits {
    Limits { body: usize::try_from(options.max_body).unwrap_or(usize::MAX), ..Limits::default() }
}

/// The folder of recordings of whoever the command runs as: who called sudo finds them without sudo.
fn base(identity: Option<&Identity>) -> Result<PathBuf, folder::Error> {
    match identity {
        Some(identity) => folder::base(None, Some(&identity.home)),
        None => folder::default_base(),
    }
}

fn summary(totals: &store::Totals, folder: &Path) -> String {
    let exchanges = totals.inbound_exchanges + totals.outbound_exchanges;
    let connections = totals.inbound_connections + totals.outbound_connections;
    format!(
        "{exchanges} exchanges ({} in, {} out) and {connections} other connections recorded; \
         `nodetap ls` shows them, from {}",
        totals.inbound_exchanges,
        totals.outbound_exchanges,
        folder.display()
    )
}

fn lost(loss: &Loss) -> String {
    format!("lost {} records ({} bytes): {}; `nodetap ls --losses` says when", loss.exchanges, loss.bytes, loss.reason)
}

/// A line for each record.
fn to_stderr(style: Style) -> Observer {
    let mut lines = Lines::new(io::stderr());
    Observer::new("stderr", move |event| match line(event, style) {
        Some(text) => lines.put(|out| out.write_all(text.as_bytes())),
        None => Ok(()),
    })
}

/// Records as JSON lines.
fn to_json(file: File) -> Observer {
    let mut lines = Lines::new(file);
    Observer::new("json", move |event| lines.put(|out| Ok(serde_json::to_writer(out, &Record::from(event))?)))
}
