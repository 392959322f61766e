//! The command lines of what stands in the middle. Everything that forwards has one worker, and everything that could
//! write a log is told not to.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::kind::Kind;
use crate::bench::Ground;
use crate::bench::site::serving;
use crate::started;

/// What a lane is built from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) ground: Ground<'a>,
    /// `HOST:PORT` that clients call, when it is not the site itself.
    pub(super) own: &'a str,
    /// `HOST:PORT` of the site.
    pub(super) upstream: &'a str,
    /// The folder that the site serves.
    pub(super) root: &'a str,
}

impl Parts<'_> {
    /// What stands in the middle; nothing on the direct path.
    pub(super) fn command(&self, kind: Kind) -> Result<Option<Command>> {
        let Ground { programs, folder, .. } = self.ground;
        let out = folder.join(format!("{kind:?}"));
        let command = match kind {
            Kind::Direct => return Ok(None),
            Kind::Nginx => self.proxy_pass()?,
            Kind::Mitmdump => {
                let (host, port) = self.own.split_once(':').context("an address without a port")?;
                let mut command = Command::new(programs.mitmdump()?);
                command.args(["-q", "--mode", &format!("reverse:http://{}", self.upstream)]);
                command.args(["--listen-host", host, "--listen-port", port, "-w"]).arg(&out);
                command
            }
            Kind::Proxy => self.reverse(&out, &["--no-record"])?,
            Kind::ProxyRecording => self.reverse(&out, &[])?,
            Kind::RunInbound => self.serving_under(run(Command::new(programs.nodetap()?), &["--quiet"], &out))?,
            Kind::RunFullDisk => {
                std::fs::create_dir_all(&out)?;
                self.serving_under(run(on_small_disk(&out, programs.nodetap()?), &["--quiet"], &out.join("run")))?
            }
            Kind::RunUnread => {
                let fifo = self.fifo();
                let json = fifo.to_str().context("the folder's name is not UTF-8")?;
                self.serving_under(run(Command::new(programs.nodetap()?), &["--json", json], &out))?
            }
            Kind::RunOutbound => {
                let mut command = run(Command::new(programs.nodetap()?), &["--quiet"], &out);
                command.arg("sh");
                command
            }
        };
        Ok(Some(command))
    }

    /// The FIFO that [`Kind::RunUnread`] writes its lines to.
    pub(super) fn fifo(&self) -> PathBuf {
        self.ground.folder.join("lines")
    }

    /// Connections to the site are kept, and no body waits on a disk: nginx at its best.
    fn proxy_pass(&self) -> Result<Command> {
        let servers = format!(
            "upstream site {{ server {}; keepalive 64; keepalive_requests 1000000000; keepalive_timeout 300; }}\n\
             server {{ listen {}; location / {{ proxy_pass http://site; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_max_temp_file_size 0; }} }}",
            self.upstream, self.own
        );
        started::nginx(self.ground.folder, "proxy", &servers)
    }

    fn reverse(&self, out: &Path, options: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.ground.programs.nodetap()?);
        let pair = format!("{}={}", self.own, self.upstream);
        command.args(["proxy", "--workers", "1", "--quiet", "--reverse", &pair]).args(options).arg("--out").arg(out);
        Ok(command)
    }

    /// Adds the server that a run starts: an nginx like the site.
    fn serving_under(&self, mut run: Command) -> Result<Command> {
        let name = format!("under-{}", self.own);
        let server = started::nginx(self.ground.folder, &name, &serving(self.own, self.root))?;
        run.arg(server.get_program()).args(server.get_args());
        Ok(run)
    }
}

fn run(mut nodetap: Command, options: &[&str], out: &Path) -> Command {
    nodetap.args(["run", "--workers", "1"]).args(options).arg("--out").arg(out).arg("--");
    nodetap
}

/// A program that sees a file system of a mebibyte at `place`. It is mounted for this program alone and goes with it,
/// whatever becomes of the bench; the program keeps the process id.
fn on_small_disk(place: &Path, program: &Path) -> Command {
    let mount = "mount -t tmpfs -o size=1m,mode=0755 tmpfs \"$1\" && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mount, "sh"]).arg(place).arg(program);
    command
}
