//! The paths from a client to the server that are compared: started, used by clients, ended. It knows no command line of
//! what stands in the middle.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path as FilePath, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use super::kind::Kind;
use super::lanes::{Parts, Programs, serving};
use super::losses::Losses;
use crate::process;
use crate::started::{self, Started};

/// The server at the end of all paths, but for those that `nodetap run` starts itself: an nginx with two files.
#[derive(Debug)]
pub(crate) struct Site {
    _server: Started,
    address: String,
    root: String,
}

impl Site {
    /// Starts it with a file of 1 KiB, and one of so many mebibytes.
    pub(crate) fn start(folder: &FilePath, mebibytes: u64) -> Result<Self> {
        let root = folder.join("site");
        std::fs::create_dir_all(&root)?;
        std::fs::write(root.join("1k"), vec![b'x'; 1024])?;
        // A file with a hole: what is read is zeros, and no disk is asked.
        File::create(root.join("large"))?.set_len(mebibytes << 20)?;
        let root = root.display().to_string();
        let address = format!("127.0.0.1:{}", started::free_port()?);
        let server = Started::new(&mut started::nginx(folder, "server", &serving(&address, &root))?)?;
        started::listening(&address)?;
        Ok(Self { _server: server, address, root })
    }
}

/// One path, ready for load.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) kind: Kind,
    /// `http://HOST:PORT`.
    pub(crate) base: String,
    /// A shell under `nodetap run`, through which clients are started there.
    shell: Option<Shell>,
    /// What stands in the middle; nothing on the direct path.
    middle: Option<Started>,
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

impl Path {
    pub(crate) fn start(kind: Kind, site: &Site, programs: &Programs, folder: &FilePath) -> Result<Self> {
        let own = format!("127.0.0.1:{}", started::free_port()?);
        let parts = Parts { programs, folder, own: &own, upstream: &site.address, root: &site.root };
        let called = if matches!(kind, Kind::Direct | Kind::RunOutbound) { &site.address } else { &own };
        let errors = folder.join(format!("{kind:?}.err"));
        let mut path = Self {
            kind,
            base: format!("http://{called}"),
            shell: None,
            middle: None,
            errors: Errors::File(errors.clone()),
        };
        if let Some(mut command) = parts.command(kind)? {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(errors)?);
            match kind {
                Kind::RunOutbound => path.start_with_shell(&mut command)?,
                Kind::RunUnread => path.start_unread(&mut command, &parts.fifo())?,
                _ => path.middle = Some(Started::new(&mut command)?),
            }
        }
        started::listening(called).with_context(|| format!("{} did not come up", kind.name()))?;
        Ok(path)
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

    fn start_unread(&mut self, command: &mut Command, fifo: &FilePath) -> Result<()> {
        process::output(Command::new("mkfifo").arg(fifo))?;
        // Open for both, so that no open waits.
        let fifo = File::options().read(true).write(true).open(fifo)?;
        let mut started = Started::new(command.stderr(Stdio::piped()))?;
        self.errors = Errors::Unread { pipe: started.child.stderr.take(), _fifo: fifo };
        self.middle = Some(started);
        Ok(())
    }

    /// The process in the middle.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.middle.as_ref().map(Started::pid)
    }

    /// Runs a client on this path, and returns what it printed. Its arguments hold no blank.
    pub(crate) fn client(&mut self, program: &str, arguments: &[String]) -> Result<String> {
        const END: &str = "END-OF-CLIENT";
        let Some(shell) = &mut self.shell else {
            return process::output(Command::new(program).args(arguments));
        };
        writeln!(shell.commands, "{program} {} < /dev/null 2>&1; echo; echo {END}", arguments.join(" "))?;
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
    pub(crate) fn end(&mut self) -> Result<Losses> {
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

impl Drop for Path {
    fn drop(&mut self) {
        // Without this the middle would wait for its shell, or for a reader of what it still has to say.
        drop(self.end());
    }
}
