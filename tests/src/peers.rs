//! Programs in several languages that say what their sockets say (`tests/peers`): built once, and then commands like any
//! other. How they are run, with nodetap or without, is the test's.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::process::{Process, Stream};

/// A language with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Raw system calls.
    C,
    /// Its own resolver and its own poller.
    Go,
    /// Connects only.
    Java,
    /// libuv.
    Node,
    /// The distribution's interpreter.
    Python,
}

/// Those that can serve.
pub const SERVERS: [Peer; 4] = [Peer::C, Peer::Go, Peer::Node, Peer::Python];

impl Peer {
    /// The command `peer ARG…`; compiles it on first use.
    ///
    /// # Errors
    /// When its compiler is missing or fails.
    pub fn command(self, arguments: &[&str]) -> Result<Command> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut command = match self {
            Peer::C => Command::new(built(&source.join("peer.c"), |out, source| {
                let mut gcc = Command::new("gcc");
                gcc.args(["-O1", "-Wall", "-o"]).arg(out).arg(source);
                gcc
            })?),
            Peer::Go => Command::new(go(&source.join("peer.go"))?),
            Peer::Java => java(&source.join("Peer.java"), "Peer")?,
            Peer::Node => interpreted("node", &source.join("peer.js")),
            Peer::Python => interpreted("/usr/bin/python3", &source.join("peer.py")),
        };
        command.args(arguments);
        Ok(command)
    }
}

/// The command `fetch URL` in a language that has no interpreter for it; compiles it on first use.
///
/// # Errors
/// When its compiler is missing or fails, or there is none.
pub fn fetch(peer: Peer, url: &str) -> Result<Command> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let mut command = match peer {
        Peer::Go => Command::new(go(&source.join("fetch.go"))?),
        Peer::Java => java(&source.join("Fetch.java"), "Fetch")?,
        Peer::C | Peer::Node | Peer::Python => bail!("no compiled fetch in {peer:?}"),
    };
    command.arg(url);
    Ok(command)
}

/// Waits until a serving peer has printed its port.
///
/// # Errors
/// When it ended before, or did not within the deadline.
pub fn port(process: &Process) -> Result<u16> {
    process.line(Stream::Out, "its port", |line| line.strip_prefix("port ")?.parse().ok())
}

fn interpreted(interpreter: &str, script: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(script);
    command
}

/// The program that Go makes of one file.
///
/// # Errors
/// When Go is missing or fails.
pub fn go(source: &Path) -> Result<PathBuf> {
    built(source, |out, source| {
        let mut go = Command::new("go");
        go.env("GOFLAGS", "").env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
        go.args(["build", "-o"]).arg(out).arg(source);
        go
    })
}

/// The command that runs a class of one Java file.
///
/// # Errors
/// When Java's compiler is missing or fails.
pub fn java(source: &Path, class: &str) -> Result<Command> {
    let classes = built(source, |out, source| {
        let mut javac = Command::new("javac");
        javac.arg("-d").arg(out).arg(source);
        javac
    })?;
    let mut java = Command::new("java");
    java.args(["-XX:TieredStopAtLevel=1", "-cp"]).arg(classes).arg(class);
    Ok(java)
}

/// What `compile` makes of `source`, kept beside the test binaries under a name that changes with the source.
fn built(source: &Path, compile: impl FnOnce(&Path, &Path) -> Command) -> Result<PathBuf> {
    // One compiler at a time: several tests ask for the same peer at once.
    static COMPILING: Mutex<()> = Mutex::new(());
    let _one = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hash = DefaultHasher::new();
    std::fs::read(source).with_context(|| format!("no {}", source.display()))?.hash(&mut hash);
    let folder = std::env::current_exe()?.parent().context("a test binary stands in a folder")?.join("peers");
    let name = source.file_name().context("a source has a name")?.to_string_lossy().replace('.', "-");
    let place = folder.join(format!("{name}-{:016x}", hash.finish()));
    if place.exists() {
        return Ok(place);
    }
    std::fs::create_dir_all(&folder)?;
    let building = folder.join(format!("{name}-{}", std::process::id()));
    let done = compile(&building, source).output().with_context(|| format!("no compiler for {}", source.display()))?;
    if !done.status.success() {
        bail!("{} does not compile: {}", source.display(), String::from_utf8_lossy(&done.stderr));
    }
    std::fs::rename(&building, &place)?;
    Ok(place)
}
