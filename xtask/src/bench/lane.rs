//! One path from a client to the server: started, used by clients, ended. It knows no command line of what stands in the
//! middle.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::losses::Losses;
use super::middle::Middle;
use crate::process;
use crate::started::{self, Started};

/// Microseconds per request below which the load cannot have passed a process.
const LEAST_CPU: f64 = 0.1;

/// How what stands in the middle is started.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// It works in one process.
    Alone,
    /// It works in processes that it starts.
    Family,
    /// It is a `nodetap run` of a shell, through which clients are started there.
    WithShell,
    /// Nobody reads what it prints, nor this FIFO.
    Unread(PathBuf),
}

/// One path, ready for load.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: &'static str,
    /// `HOST:PORT` that clients call.
    pub(super) called: String,
    /// A shell under `nodetap run`, through which clients are started there.
    shell: Option<Shell>,
    /// What stands in the middle; nothing on the direct path.
    middle: Option<Started>,
    is_family: bool,
    errors: Errors,
}

#[derive(Debug)]
struct Shell {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Where the middle's standard error goes.
#[derive(Debug)]
enum Errors {
    File(PathBuf),
    /// A pipe that nobody reads before the end, as the FIFO with the lines.
    Unread {
        pipe: Option<ChildStderr>,
        _fifo: File,
    },
}

impl Lane {
    /// The path without anything in the middle.
    pub(super) fn direct(name: &'static str, called: &str) -> Self {
        Self {
            name,
            called: called.to_owned(),
            shell: None,
            middle: None,
            is_family: false,
            errors: Errors::File(PathBuf::new()),
        }
    }

    /// Starts what stands in the middle, and waits until it listens; what it says goes to a file in `folder`.
    pub(super) fn start(
        name: &'static str,
        called: &str,
        mut command: Command,
        start: Start,
        folder: &Path,
    ) -> Result<Self> {
        let errors = folder.join(format!("{}.err", name.replace('/', "-")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&errors)?);
        let mut lane = Self::direct(name, called);
        lane.is_family = matches!(start, Start::Family);
        lane.errors = Errors::File(errors.clone());
        match start {
            Start::Alone | Start::Family => lane.middle = Some(Started::new(&mut command)?),
            Start::WithShell => lane.start_with_shell(&mut command)?,
            Start::Unread(fifo) => lane.start_unread(&mut command, &fifo)?,
        }
        lane.until_it_listens().with_context(|| {
            let said = std::fs::read_to_string(&errors).unwrap_or_default();
            format!("{name} did not come up: {}", said.trim())
        })?;
        Ok(lane)
    }

    fn until_it_listens(&mut self) -> Result<()> {
        let (middle, called) = (&mut self.middle, &self.called);
        let has_ended = |middle: &mut Option<Started>| middle.as_mut().is_some_and(Started::has_ended);
        started::until(&format!("a listener at {called}"), || {
            has_ended(middle) || std::net::TcpStream::connect(called).is_ok()
        })?;
        ensure!(!has_ended(middle), "it has ended");
        Ok(())
    }

    fn start_with_shell(&mut self, command: &mut Command) -> Result<()> {
        let mut started = Started::new(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        self.shell = Some(Shell {
            commands: started.child.stdin.take().context("no standard input")?,
            answers: BufReader::new(started.child.stdout.take().context("no standard output")?),
        });
        self.middle = Some(started);
        Ok(())
    }

    fn start_unread(&mut self, command: &mut Command, fifo: &Path) -> Result<()> {
        process::output(Command::new("mkfifo").arg(fifo))?;
        // Open for both, so that no open waits.
        let fifo = File::options().read(true).write(true).open(fifo)?;
        let mut started = Started::new(command.stderr(Stdio::piped()))?;
        self.errors = Errors::Unread { pipe: started.child.stderr.take(), _fifo: fifo };
        self.middle = Some(started);
        Ok(())
    }

    fn middle(&self) -> Option<Middle> {
        let pid = self.middle.as_ref()?.pid();
        Some(if self.is_family { Middle::Family(pid) } else { Middle::Process(pid) })
    }

    /// What `load` gives, and the microseconds of processor time that the middle used for each request of it, with what
    /// it did afterwards because of them; no time on the direct path. `requests` reads their number.
    pub(super) fn used_during<T>(
        &mut self,
        requests: impl FnOnce(&T) -> f64,
        load: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<(T, Option<f64>)> {
        let settled = |middle: Middle| {
            middle.settle()?;
            middle.processor_time()
        };
        let middle = self.middle();
        let before = middle.map(settled).transpose()?;
        let result = load(self)?;
        let after = middle.map(settled).transpose()?;
        let requests = Some(requests(&result)).filter(|requests| *requests > 0.0);
        let used = before.zip(after).map(|(before, after)| (after - before) * 1e6);
        let cpu = used.zip(requests).map(|(used, requests)| used / requests);
        ensure!(cpu.is_none_or(|cpu| cpu >= LEAST_CPU), "{}: the load went past it ({cpu:?} µs)", self.name);
        Ok((result, cpu))
    }

    /// Mebibytes of memory of the middle, once it rests: now, and the most so far.
    pub(super) fn memory(&self) -> Result<Option<(f64, f64)>> {
        let Some(middle) = self.middle() else { return Ok(None) };
        middle.settle()?;
        Ok(Some((middle.memory()?, middle.peak_memory()?)))
    }

    /// Runs a client on this path, and returns what it printed. No argument holds a quotation mark.
    pub(super) fn client(&mut self, program: &str, arguments: &[String]) -> Result<String> {
        const END: &str = "END-OF-CLIENT";
        let Some(shell) = &mut self.shell else {
            return process::output(Command::new(program).args(arguments));
        };
        writeln!(shell.commands, "{program} '{}' < /dev/null 2>&1; echo; echo {END}", arguments.join("' '"))?;
        shell.commands.flush()?;
        let mut text = String::new();
        let mut line = String::new();
        while shell.answers.read_line(&mut line)? > 0 {
            if line.trim_end() == END {
                return Ok(text);
            }
            text.push_str(&line);
            line.clear();
        }
        bail!("the shell under nodetap has ended: {text}")
    }

    /// Ends the middle, and returns what it says was lost.
    pub(super) fn end(&mut self) -> Result<Losses> {
        // The end of its input ends the shell, and with it the run.
        self.shell = None;
        let reading = match &mut self.errors {
            Errors::Unread { pipe, .. } => pipe.take().map(|mut pipe| {
                thread::spawn(move || {
                    let mut bytes = Vec::new();
                    pipe.read_to_end(&mut bytes).map(|_| bytes)
                })
            }),
            Errors::File(_) => None,
        };
        if let Some(middle) = &mut self.middle {
            middle.stop()?;
        }
        let said = match (&self.errors, reading) {
            (_, Some(reading)) => reading.join().map_err(|_| anyhow!("the reader of a pipe panicked"))??,
            (Errors::File(file), None) if self.middle.is_some() => std::fs::read(file)?,
            _ => Vec::new(),
        };
        Ok(Losses::said(&String::from_utf8_lossy(&said)))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Without this the middle would wait for its shell, or for a reader of what it still has to say.
        drop(self.end());
    }
}
