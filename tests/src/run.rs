//! `nodetap run -- CMD`, as a test holds it: its process, the folder it records into, and what CMD's cgroup holds, so
//! that nothing outlives the test even when nodetap itself was killed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::folder::Folder;
use crate::process::{self, Finished, Process};
use crate::wait::{DEADLINE, eventually};
use crate::{leftovers, nodetap, records};

/// How a run is to be started.
#[derive(Debug, Default)]
pub struct Options {
    options: Vec<String>,
    behind: Vec<String>,
    namespace: Option<PathBuf>,
    out: Option<PathBuf>,
    environment: Vec<(String, Option<OsString>)>,
}

/// A running `nodetap run`.
#[derive(Debug)]
pub struct Run {
    /// The process of nodetap itself.
    pub process: Process,
    folder: Folder,
    out: PathBuf,
    /// CMD's cgroup, once it was seen.
    cgroup: Option<PathBuf>,
}

impl Options {
    /// Adds an option before the `--`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// Has nodetap started by this program (`nohup`) with its arguments, which must become it: its process id is nodetap's.
    #[must_use]
    pub fn behind(mut self, words: &[&str]) -> Self {
        self.behind = words.iter().map(ToString::to_string).collect();
        self
    }

    /// Runs in the network namespace of this file.
    #[must_use]
    pub fn in_namespace(mut self, file: &Path) -> Self {
        self.namespace = Some(file.to_path_buf());
        self
    }

    /// Sets a variable for nodetap, and so for CMD.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), Some(value.into())));
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.push((name.to_owned(), None));
        self
    }

    /// Records into this folder and not into one of the run's own.
    #[must_use]
    pub fn out(mut self, folder: &Path) -> Self {
        self.out = Some(folder.to_path_buf());
        self
    }

    /// Starts `nodetap run … -- CMD`; the program, its arguments and what is set in its environment are those of
    /// `command`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self, command: &Command) -> Result<Run> {
        let folder = Folder::new()?;
        let out = self.out.unwrap_or_else(|| folder.join("out"));
        let mut words: Vec<OsString> = self.behind.into_iter().map(OsString::from).collect();
        if let Some(file) = &self.namespace {
            // Unlike `ip netns exec` this leaves /sys, and so the cgroups, as they are.
            words.extend(["nsenter".into(), format!("--net={}", file.display()).into()]);
        }
        words.push(nodetap::binary().into());
        let mut words = words.into_iter();
        let mut whole = Command::new(words.next().context("a command has a first word")?);
        whole.args(words).env_remove("XDG_STATE_HOME").env_remove("SUDO_USER").env("NO_COLOR", "1");
        for (name, value) in &self.environment {
            match value {
                Some(value) => whole.env(name, value),
                None => whole.env_remove(name),
            };
        }
        whole.arg("run").arg("--out").arg(&out).args(&self.options).arg("--");
        whole.arg(command.get_program()).args(command.get_args());
        whole.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ok(Run { process: Process::start(&mut whole)?, folder, out, cgroup: None })
    }
}

impl Run {
    /// `nodetap run --out DIR -- CMD`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &Command) -> Result<Self> {
        Options::default().start(command)
    }

    /// The folder of segments.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// A folder that lives as long as the run.
    pub fn scratch(&self) -> &Path {
        &self.folder
    }

    /// CMD's process id, once it runs: the child of nodetap that has left nodetap's own cgroup.
    ///
    /// # Errors
    /// When there is none within the deadline.
    pub fn command_pid(&mut self) -> Result<u32> {
        let own = self.process.pid();
        let found = eventually(DEADLINE, "CMD in a cgroup of its own", || {
            let ours = leftovers::cgroup_of(own)?;
            process::children(own).into_iter().find_map(|child| {
                leftovers::cgroup_of(child).filter(|cgroup| *cgroup != ours).map(|cgroup| (child, cgroup))
            })
        });
        let (pid, cgroup) = found.with_context(|| self.process.so_far(process::Stream::Err))?;
        self.cgroup = Some(cgroup);
        Ok(pid)
    }

    /// CMD's cgroup folder.
    ///
    /// # Errors
    /// As [`Run::command_pid`].
    pub fn cgroup(&mut self) -> Result<PathBuf> {
        self.command_pid()?;
        self.cgroup.clone().context("no cgroup was seen")
    }

    /// Waits for the end of CMD and of nodetap.
    ///
    /// # Errors
    /// When they do not end within the deadline.
    pub fn finish(&mut self) -> Result<Finished> {
        self.process.finish()
    }

    /// Asks CMD to end by SIGTERM to nodetap, and waits.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub fn stop(&mut self) -> Result<Finished> {
        self.process.signal(rustix::process::Signal::TERM)?;
        self.process.finish()
    }

    /// The exchanges that were recorded.
    ///
    /// # Errors
    /// As [`records::exchanges`].
    pub fn exchanges(&self) -> Result<Vec<Value>> {
        records::exchanges(&self.out)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.cgroup.is_none() && !self.process.has_ended() {
            let own = self.process.pid();
            let ours = leftovers::cgroup_of(own);
            self.cgroup = process::children(own)
                .into_iter()
                .find_map(leftovers::cgroup_of)
                .filter(|cgroup| Some(cgroup) != ours.as_ref());
        }
        // A stopped nodetap cannot clean up; a killed one has not: what is in CMD's cgroup goes here.
        if !self.process.has_ended() {
            drop(self.process.signal(rustix::process::Signal::KILL));
        }
        if let Some(cgroup) = &self.cgroup {
            leftovers::kill_cgroup(cgroup);
        }
    }
}
