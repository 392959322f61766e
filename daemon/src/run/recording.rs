//! The recording of one run: where it goes, who watches it meanwhile, and what is said about it at the end.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodetap_core::exchange::{Event, Loss, Target};
use nodetap_core::line::line;
use nodetap_core::record::Record;
use nodetap_core::style::Style;
use nodetap_core::ulid::Ulid;
use nodetap_proxy::sink::Sink;
use nodetap_proxy::tap::Limits;

use super::Failure;
use super::passed::PassedThrough;
use super::{metrics, options};
use crate::child::Identity;
use crate::commands::{export, output};
use crate::probes::Counts;
use crate::store::lines::Lines;
use crate::store::{self, Observer, Owner, Recorder, Unseen, create_private, folder};
use crate::telemetry::Serving;

/// Reasons of losses that only the end of a run knows.
const RING_FULL: &str = "kernel_ring_full";
const MAP_FULL: &str = "kernel_map_full";
const STEERED_FAILED: &str = "steered_failed";
const AGENT_AWAY: &str = "agent_away";
const STRAY: &str = "stray";
const CUT_AT_EXIT: &str = "cut_at_exit";

/// What the data plane writes to.
#[derive(Debug, Clone)]
pub(crate) struct RecordingSink {
    recorder: Recorder,
    passed: Arc<PassedThrough>,
}

impl Sink for RecordingSink {
    fn record(&self, event: Event) {
        // What does not fit is counted by the recorder.
        self.recorder.record(event);
    }

    fn lost(&self, reason: &'static str, exchanges: u64, bytes: u64) {
        self.recorder.lost(reason, exchanges, bytes);
    }

    fn passed_through(&self, reason: &'static str) {
        self.passed.add(reason);
    }
}

/// A recording in progress.
#[derive(Debug)]
pub(crate) struct Recording {
    recording: store::Recording,
    passed: Arc<PassedThrough>,
    folder: PathBuf,
    har: Option<PathBuf>,
    owner: Option<Owner>,
    quiet: bool,
    /// As long as it is here, metrics are served.
    _metrics: Option<Serving>,
}

/// How the run ended, beside what was recorded.
#[derive(Debug)]
pub(crate) struct Aftermath {
    /// Processes of the command that still run.
    pub others: usize,
    /// Tunnels that did not end in time.
    pub cut: u64,
    /// Connections that arrived without a known destination and were reset.
    pub strays: u64,
    pub counts: Option<Counts>,
    /// Connects in other network namespaces.
    pub elsewhere: u64,
}

impl Aftermath {
    /// Connections that the user wanted left alone, or that were made where we are not.
    fn left_alone(&self) -> u64 {
        self.elsewhere + self.counts.map_or(0, |counts| counts.direct.ignored + counts.ignored_inbound)
    }

    /// What is missing in the recording though no record was lost: reasons and numbers, also of nothing.
    fn losses(&self) -> [(&'static str, u64); 6] {
        let of_kernel = |number: fn(&Counts) -> u64| self.counts.as_ref().map_or(0, number);
        [
            (RING_FULL, of_kernel(|counts| counts.ring_full)),
            (MAP_FULL, of_kernel(|counts| counts.map_full)),
            (STEERED_FAILED, of_kernel(|counts| counts.steered_failed)),
            (AGENT_AWAY, of_kernel(|counts| counts.away_inbound)),
            (STRAY, self.strays),
            (CUT_AT_EXIT, self.cut),
        ]
    }
}

impl Recording {
    /// Makes the folder and starts the recorder.
    ///
    /// # Errors
    /// When something cannot be written.
    pub(crate) fn start(
        options: &options::Recording,
        target: &Arc<Target>,
        id: Ulid,
        identity: Option<&Identity>,
    ) -> Result<(Self, RecordingSink), Failure> {
        let folder = match &options.out {
            Some(folder) => folder.clone(),
            None => base(identity)?.join(id.to_string()),
        };
        let mut observers = Vec::new();
        if !options.quiet {
            observers.push(to_stderr(output::style(io::stderr().is_terminal()), options.messages));
        }
        let owner = identity.map(|identity| Owner { uid: identity.uid, gid: identity.gid });
        if let Some(path) = &options.json {
            let file = create_private(path, owner).map_err(|source| Failure::Output { path: path.clone(), source })?;
            observers.push(to_json(file));
        }
        let settings = store::Settings {
            max_store: options.max_store,
            owner,
            ..store::Settings::new(folder.clone(), Arc::clone(target))
        };
        let (recorder, recording) =
            Recorder::start(settings, observers).map_err(|source| Failure::Output { path: folder.clone(), source })?;
        let passed = Arc::new(PassedThrough::default());
        let metrics = options.metrics.map(|address| metrics::serve(address, recording.so_far(), Arc::clone(&passed)));
        let recording = Self {
            recording,
            passed: Arc::clone(&passed),
            folder,
            har: options.har.clone(),
            owner,
            quiet: options.quiet,
            _metrics: metrics.transpose()?,
        };
        Ok((recording, RecordingSink { recorder, passed }))
    }

    /// Writes what is left, exports what was asked for, and says what it came to.
    pub(crate) fn end(self, aftermath: &Aftermath) {
        for (reason, number) in aftermath.losses() {
            self.recording.lost(reason, number);
        }
        let totals = self.recording.close();
        // Before anything is said: a terminal that stands still does not keep the file from being written.
        let har = self.har.as_ref().map(|path| (path, export::har_file(&self.folder, path, self.owner)));
        let mut out = io::stderr().lock();
        for error in &totals.errors {
            let _ = writeln!(out, "nodetap: {error}");
        }
        if let Some((path, Err(error))) = har {
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
        if self.quiet {
            return;
        }
        if aftermath.others > 0 {
            let text = "still run; what they do from now on is not recorded";
            let _ = writeln!(out, "nodetap: {} processes of the command {text}", aftermath.others);
        }
        let number = aftermath.left_alone();
        if number > 0 {
            let _ = writeln!(out, "nodetap: {number} connections were left alone, as asked or in other namespaces");
        }
        if let Some(reasons) = self.passed.said() {
            let text = "TLS connections that were to be opened were passed through untouched";
            let _ = writeln!(out, "nodetap: {text}: {reasons}; `nodetap ls` shows them");
        }
        let _ = writeln!(out, "nodetap: {}", summary(&totals, &self.folder));
    }
}

/// What taps keep.
pub(crate) fn limits(options: &options::Recording) -> Limits {
    let body = usize::try_from(options.max_body).unwrap_or(usize::MAX);
    let Limits { waiting, .. } = Limits::default();
    // What the streams of one connection keep together: whoever wants larger bodies wants more than one of them.
    Limits { body, waiting: waiting.max(body.saturating_mul(4)), ..Limits::default() }
}

/// The folder of recordings of whoever the command runs as: who called sudo finds them without sudo.
fn base(identity: Option<&Identity>) -> Result<PathBuf, Failure> {
    let nowhere = |why: String| Failure::Usage(format!("{why}: say where to record with --out DIR"));
    let Some(identity) = identity else {
        return folder::default_base().map_err(|_| nowhere("neither XDG_STATE_HOME nor HOME is set".to_owned()));
    };
    let home = &identity.home;
    if !home.is_dir() {
        return Err(nowhere(format!("`{}` has no home folder ({})", identity.name, home.display())));
    }
    folder::base(None, Some(home)).map_err(|error| Failure::Usage(error.to_string()))
}

fn summary(totals: &store::Totals, folder: &Path) -> String {
    let exchanges = totals.inbound_exchanges + totals.outbound_exchanges;
    let connections = totals.inbound_connections + totals.outbound_connections;
    let messages = match totals.messages {
        0 => String::new(),
        number => format!(" with {number} messages"),
    };
    format!(
        "{exchanges} exchanges ({} in, {} out){messages} and {connections} other connections recorded; \
         `nodetap ls` shows them, from {}",
        totals.inbound_exchanges,
        totals.outbound_exchanges,
        folder.display()
    )
}

fn lost(loss: &Loss) -> String {
    let Loss { exchanges: number, bytes, reason, .. } = loss;
    match reason.as_ref() {
        RING_FULL => format!("the kernel had no room for {number} events"),
        MAP_FULL => format!("the kernel had no room for {number} map entries"),
        STEERED_FAILED => format!("{number} connections were refused because nodetap could not take them"),
        AGENT_AWAY => format!("{number} connections went past nodetap, which did not answer in time"),
        STRAY => format!("{number} connections arrived without a known destination and were reset"),
        CUT_AT_EXIT => format!("{number} connections did not end in time and were reset"),
        _ => format!("lost {number} records ({bytes} bytes): {reason}; `nodetap ls --losses` says when"),
    }
}

/// A line for each record; for messages only if they are asked for: there may be thousands of them a second.
fn to_stderr(style: Style, messages: bool) -> Observer {
    let mut lines = Lines::new(io::stderr());
    let wanted = move |event: &&Event| messages || !matches!(event, Event::Message(_));
    Observer::new("stderr", move |event| match Some(event).filter(wanted).and_then(|event| line(event, style)) {
        Some(text) => lines.put(|out| out.write_all(text.as_bytes())),
        None => Ok(()),
    })
}

/// Records as JSON lines.
fn to_json(file: File) -> Observer {
    let mut lines = Lines::new(file);
    Observer::new("json", move |event| lines.put(|out| Ok(serde_json::to_writer(out, &Record::from(event))?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::read::Index;

    #[test]
    fn what_only_the_end_of_a_run_knows_stands_among_the_losses_also_of_a_quiet_one() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("recording");
        let options = options::Recording {
            out: Some(folder.clone()),
            har: None,
            json: None,
            messages: false,
            quiet: true,
            max_body: 1,
            max_store: 1 << 20,
            metrics: None,
            workers: None,
        };
        let (recording, _sink) = Recording::start(&options, &Target::command("app"), Ulid::from(1), None).unwrap();
        let counts = Counts { ring_full: 1, map_full: 2, steered_failed: 3, away_inbound: 6, ..Counts::default() };
        recording.end(&Aftermath { others: 0, cut: 5, strays: 4, counts: Some(counts), elsewhere: 0 });

        let mut index = Index::read(&folder).unwrap();
        let entries = std::mem::take(&mut index.entries);
        let losses: BTreeMap<String, u64> = entries
            .into_iter()
            .filter_map(|entry| match index.event(entry).unwrap() {
                Some(Event::Loss(loss)) => Some((loss.reason.into_owned(), loss.exchanges)),
                _ => None,
            })
            .collect();
        let expected =
            [(RING_FULL, 1), (MAP_FULL, 2), (STEERED_FAILED, 3), (STRAY, 4), (CUT_AT_EXIT, 5), (AGENT_AWAY, 6)];
        assert_eq!(losses, expected.map(|(reason, number)| (reason.to_owned(), number)).into());
    }
}
