//! `nodetap proxy`: the data plane without the kernel's part, for tests that need no privileges.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::process::Signal;
use serde_json::Value;

use crate::folder::Folder;
use crate::process::{Finished, Process, Stream};
use crate::{nodetap, records};

/// A running proxy, a reverse one before one upstream or a forward one.
#[derive(Debug)]
pub struct Proxy {
    /// The process of nodetap.
    pub process: Process,
    address: SocketAddr,
    out: PathBuf,
    _folder: Folder,
}

/// Where a proxy that was started by other means listens first.
///
/// # Errors
/// When it does not say so.
pub fn address(process: &Process) -> Result<SocketAddr> {
    process.line(Stream::Err, "its address", |line| {
        let (_, address) = line.split_once("listening on ")?;
        address.split([',', ' ']).next()?.parse().ok()
    })
}

impl Proxy {
    /// Starts one before `upstream`, on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn before(upstream: SocketAddr) -> Result<Self> {
        Self::with(upstream, &[])
    }

    /// As [`Proxy::before`], with further options.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn with(upstream: SocketAddr, options: &[&str]) -> Result<Self> {
        Self::start(&["--reverse", &format!("127.0.0.1:0={upstream}")], options)
    }

    /// Starts one that clients ask for their destination, on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn forward(options: &[&str]) -> Result<Self> {
        Self::start(&["--forward", "127.0.0.1:0"], options)
    }

    /// Starts one with these listeners; its address is that of the first.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(listeners: &[&str], options: &[&str]) -> Result<Self> {
        let folder = Folder::new()?;
        let out = folder.join("out");
        let mut command = nodetap::command(&["proxy"]);
        command.args(listeners).arg("--out");
        let process = Process::start(command.arg(&out).args(options))?;
        let address = address(&process)?;
        Ok(Self { process, address, out, _folder: folder })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder of segments.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Ends it by SIGTERM, so that everything is on disk, and returns how it ended.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub fn stop(&mut self) -> Result<Finished> {
        self.process.signal(Signal::TERM)?;
        self.process.finish()
    }

    /// Ends it and returns all records.
    ///
    /// # Errors
    /// As [`records::records`].
    pub fn records(&mut self) -> Result<Vec<Value>> {
        self.stop()?;
        records::records(&self.out)
    }
}
