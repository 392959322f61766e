//! A program that a test started: what it has printed so far, how it ended, and its end when the test forgets it.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::wait::{DEADLINE, eventually};

/// Which of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A running program with piped standard input, output and error.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stdin: Option<ChildStdin>,
    out: Arc<Printed>,
    err: Arc<Printed>,
}

/// How a program ended and all that it printed.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code or signal.
    pub status: ExitStatus,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error, as text.
    pub err: String,
}

#[derive(Debug, Default)]
struct Printed {
    state: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take();
        let out = Printed::follow(child.stdout.take().context("no standard output")?);
        let err = Printed::follow(child.stderr.take().context("no standard error")?);
        Ok(Self { child, name, stdin, out, err })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// When the input was closed, by either side.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its standard input is closed")?;
        stdin.write_all(bytes)?;
        Ok(stdin.flush()?)
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until a whole line of `stream` gives something.
    ///
    /// # Errors
    /// When the stream ended or the deadline passed without one; says what was printed.
    pub fn line<T>(&self, stream: Stream, what: &str, mut look: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let printed = self.printed(stream);
        let end = Instant::now() + DEADLINE;
        let mut state = printed.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let whole = state.0.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let text = String::from_utf8_lossy(&state.0[..whole]).into_owned();
            if let Some(found) = text.lines().find_map(&mut look) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.1 || left.is_zero() {
                drop(state);
                bail!(
                    "{} never printed {what}; out: {:?} err: {}",
                    self.name,
                    self.so_far(Stream::Out),
                    self.so_far(Stream::Err)
                );
            }
            state = printed.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What it has printed so far.
    pub fn so_far(&self, stream: Stream) -> String {
        let state = self.printed(stream).state.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&state.0).into_owned()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(self.pid(), signal)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub fn finish(&mut self) -> Result<Finished> {
        self.finish_within(DEADLINE)
    }

    /// Waits for its end, for a program that takes longer than others. Its standard input is closed first.
    ///
    /// # Errors
    /// When it does not end within `deadline`.
    pub fn finish_within(&mut self, deadline: Duration) -> Result<Finished> {
        self.stdin = None;
        let status =
            eventually(deadline, "the program's end", || self.child.try_wait().ok().flatten()).with_context(|| {
                format!("{}; out: {:?} err: {}", self.name, self.so_far(Stream::Out), self.so_far(Stream::Err))
            })?;
        // A grandchild may hold the pipes open for longer: what it prints is not this program's.
        let whole = |printed: &Printed| {
            let state = printed.state.lock().unwrap_or_else(PoisonError::into_inner);
            let wait = printed.changed.wait_timeout_while(state, Duration::from_secs(2), |state| !state.1);
            wait.unwrap_or_else(PoisonError::into_inner).0.0.clone()
        };
        Ok(Finished { status, out: whole(&self.out), err: String::from_utf8_lossy(&whole(&self.err)).into_owned() })
    }

    fn printed(&self, stream: Stream) -> &Printed {
        match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; nothing else can go wrong here that a test could act on.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Finished {
    /// The exit code as a shell shows it: 128 + n for signal n.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

impl Printed {
    fn follow(mut stream: impl Read + Send + 'static) -> Arc<Self> {
        let printed = Arc::new(Self::default());
        let shared = Arc::clone(&printed);
        thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            loop {
                let read = stream.read(&mut buffer).unwrap_or(0);
                let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.0.extend_from_slice(&buffer[..read]);
                state.1 = read == 0;
                shared.changed.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        printed
    }
}

/// Sends a signal to any process.
///
/// # Errors
/// When there is no such process.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no process has the id 0")?;
    rustix::process::kill_process(pid, signal).with_context(|| format!("cannot signal {pid:?}"))
}

/// Processes that hang until this is dropped: one that is killed meanwhile stays killed.
#[derive(Debug)]
pub struct Stopped(Vec<u32>);

impl Stopped {
    /// Stops them, one after the other.
    ///
    /// # Errors
    /// When there is no such process; those before it go on.
    pub fn new(pids: &[u32]) -> Result<Self> {
        let mut stopped = Self(Vec::new());
        for pid in pids {
            send(*pid, Signal::STOP)?;
            stopped.0.push(*pid);
        }
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            // Whoever waits for it may have stopped with it: nsenter does. It may have been killed, too.
            let waiting = parent(*pid);
            [Some(*pid), waiting].into_iter().flatten().for_each(|pid| drop(send(pid, Signal::CONT)));
        }
    }
}

/// The processes whose parent is `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|candidate| parent(*candidate) == Some(pid))
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
