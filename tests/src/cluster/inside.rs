//! A program that was started on a cluster's machine, as seen from the test.

use std::ops::{Deref, DerefMut};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::process::{Process, children, send};
use crate::wait::{DEADLINE, eventually};

/// As [`Process`], but its process id and signals are the program's, not those of what has led it into its namespaces.
#[derive(Debug)]
pub struct Inside {
    process: Process,
    pid: u32,
}

impl Inside {
    /// Starts a command that was made to enter a machine.
    pub(super) fn start(entered: &mut Command) -> Result<Self> {
        let mut process = Process::start(entered)?;
        let outer = process.pid();
        let found = eventually(DEADLINE, "a program inside", || match children(outer).first() {
            Some(pid) => Some(Some(*pid)),
            None => process.has_ended().then_some(None),
        })?;
        // One that has come and gone already has no process that could be asked for anything.
        Ok(Self { pid: found.unwrap_or(outer), process })
    }

    /// Its process id as the test sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(self.pid, signal)
    }

    /// Its process id on the machine, as programs there see it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn pid_inside(&self) -> Result<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).context("no NSpid")?;
        Ok(line.split_whitespace().last().context("NSpid is empty")?.parse()?)
    }
}

impl Deref for Inside {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Inside {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
