//! The servers that real clients talk to (`tests/peers/origin`, `grpc_peer.py`, `websocket_peer.py`): each says what it
//! has seen, which is what a client's lines and nodetap's records are held against.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::folder::Folder;
use crate::process::{Process, Stream};
use crate::{installed, peers};

/// The HTTP server, with a git repository.
#[derive(Debug)]
pub struct Origin {
    process: Process,
    port: u16,
    /// How many lines were read before.
    read: usize,
    _repositories: Folder,
}

impl Origin {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start() -> Result<Self> {
        let repositories = Folder::new()?;
        repository(&repositories)?;
        let process = Process::start(python("origin/origin.py")?.arg(&*repositories))?;
        let port = peers::port(&process)?;
        Ok(Self { process, port, read: 1, _repositories: repositories })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has seen since it was asked last, once none of the `kinds` (`exchange`, `connection`) is under way.
    ///
    /// # Errors
    /// When it is gone, or something stays under way.
    pub fn seen(&mut self, kinds: &str) -> Result<Vec<Value>> {
        let marks = self.lines().iter().filter(|line| line.contains("\"mark\"")).count();
        self.process.write(format!("{kinds}\n").as_bytes())?;
        let mut found = 0;
        self.process.line(Stream::Out, "a mark", |line| {
            found = if line.starts_with("port") { 0 } else { found + usize::from(line.contains("\"mark\"")) };
            (found > marks).then_some(())
        })?;
        let lines = self.lines();
        let new = lines.get(self.read..).unwrap_or_default();
        let mut seen: Vec<Value> = new.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
        self.read = lines.len();
        let mark = seen.pop().context("a mark is a line")?;
        ensure!(mark["quiet"] == true, "{kinds} still under way: {}", self.process.so_far(Stream::Err));
        Ok(seen)
    }

    fn lines(&self) -> Vec<String> {
        self.process.so_far(Stream::Out).lines().map(str::to_owned).collect()
    }
}

/// Starts `grpc_peer.py` or `websocket_peer.py`; returns its port, too.
///
/// # Errors
/// When it does not come up.
pub fn serving(script: &str) -> Result<(Process, u16)> {
    let process = Process::start(python(script)?.arg("serve"))?;
    let port = peers::port(&process)?;
    Ok((process, port))
}

/// A script of `tests/peers`, run by the interpreter that has the packages.
///
/// # Errors
/// When that is not installed.
pub fn python(script: &str) -> Result<Command> {
    let mut command = Command::new(installed::python()?);
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script));
    Ok(command)
}

/// A repository with many small files and one that does not compress.
fn repository(folder: &Path) -> Result<()> {
    let work = folder.join("work");
    std::fs::create_dir_all(work.join("many"))?;
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::fs::write(work.join("noise"), (0..600_000).map(|_| noise()).collect::<Vec<u8>>())?;
    for number in 0..50 {
        std::fs::write(work.join("many").join(number.to_string()), format!("file {number}\n"))?;
    }
    let git = |arguments: &[&str]| -> Result<()> {
        let mut git = Command::new("git");
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder).args(["-C"]).arg(&work);
        git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]).args(arguments);
        let done = git.output().context("cannot start git: run `cargo xtask setup --for test`")?;
        ensure!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    git(&["init", "-q"])?;
    git(&["add", "."])?;
    git(&["commit", "-q", "-m", "all"])?;
    git(&["clone", "-q", "--bare", ".", "../repository.git"])
}
