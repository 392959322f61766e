//! Programs that the demo and the bench have started: ended in an orderly way when they are forgotten.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;

/// How long a program may take to come up or to go.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running program.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
}

impl Started {
    /// Starts a program; what it prints goes where `command` says.
    pub(crate) fn new(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {}", process::line(command)))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            process::output(Command::new("kill").args(["-TERM", &self.pid().to_string()]))?;
            until("a program's end", || self.has_ended())?;
        }
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.stop().is_err() {
            // It does not listen; then without asking.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A folder that is removed at the end.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// An empty folder under the system's temporary one, which servers that have dropped their privileges can reach.
    pub(crate) fn new(purpose: &str) -> Result<Self> {
        let place = std::env::temp_dir().join(format!("nodetap-{purpose}-{}", std::process::id()));
        std::fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        Ok(Self(place))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing of value is in it.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Waits until `done`.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while !done() {
        if Instant::now() > end {
            bail!("waited {DEADLINE:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Waits until something listens at an address.
pub(crate) fn listening(address: &str) -> Result<()> {
    until(&format!("a listener at {address}"), || std::net::TcpStream::connect(address).is_ok())
}

/// A port of both loopback addresses on which nothing listens.
pub(crate) fn free_port() -> Result<u16> {
    loop {
        let one = TcpListener::bind("127.0.0.1:0")?;
        let port = one.local_addr()?.port();
        if TcpListener::bind(("::1", port)).is_ok() {
            return Ok(port);
        }
    }
}

/// An nginx of one worker with its own configuration and files in `folder`; `servers` are its server blocks.
pub(crate) fn nginx(folder: &Path, name: &str, servers: &str) -> Result<Command> {
    let own = folder.join(name);
    std::fs::create_dir_all(&own)?;
    let here = own.display();
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        temporary.push_str(&format!("{kind}_temp_path {here}/{kind};\n"));
    }
    // One process and no master: what it costs is what this process costs.
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {here}/pid; error_log {here}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 300;\n\
         {temporary}{servers}\n}}\n"
    );
    let file = own.join("nginx.conf");
    std::fs::write(&file, text)?;
    let mut command = Command::new(process::find("nginx").context("no nginx")?);
    command.arg("-p").arg(&own).arg("-c").arg(&file).arg("-e").arg(own.join("error.log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}
