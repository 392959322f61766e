//! The paths from a client to the server that are compared. Everything that serves or forwards has one worker.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path as FilePath;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::started::{self, Started};

/// What stands between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Nginx,
    Mitmdump,
    Proxy,
    ProxyRecording,
    RunInbound,
    RunOutbound,
}

impl Kind {
    pub(crate) const ALL: [Kind; 7] = [
        Kind::Direct,
        Kind::Nginx,
        Kind::Mitmdump,
        Kind::Proxy,
        Kind::ProxyRecording,
        Kind::RunInbound,
        Kind::RunOutbound,
    ];

    /// As it stands in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Nginx => "nginx proxy_pass",
            Kind::Mitmdump => "mitmdump -w",
            Kind::Proxy => "nodetap proxy, no records",
            Kind::ProxyRecording => "nodetap proxy, recording",
            Kind::RunInbound => "nodetap run, inbound",
            Kind::RunOutbound => "nodetap run, outbound",
        }
    }
}

/// The server at the end of all paths, but for the one that `nodetap run` starts itself: an nginx with two files.
#[derive(Debug)]
pub(crate) struct Site {
    _server: Started,
    port: u16,
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
        let port = started::free_port()?;
        let server = Started::new(&mut started::nginx(folder, "server", &serving(port, &root))?)?;
        started::listening(&format!("127.0.0.1:{port}"))?;
        Ok(Self { _server: server, port, root })
    }
}

/// One path, ready for load.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) kind: Kind,
    /// `http://HOST:PORT`.
    pub(crate) base: String,
    /// What stands in the middle; nothing on the direct path.
    middle: Option<Started>,
    /// A shell under `nodetap run`, through which clients are started there.
    shell: Option<Shell>,
}

#[derive(Debug)]
struct Shell {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Path {
    pub(crate) fn start(
        kind: Kind,
        site: &Site,
        nodetap: &FilePath,
        mitmdump: &FilePath,
        folder: &FilePath,
    ) -> Result<Self> {
        let upstream = format!("127.0.0.1:{}", site.port);
        let port = started::free_port()?;
        let own = format!("127.0.0.1:{port}");
        let out = folder.join(format!("{kind:?}"));
        let mut path = Self { kind, base: format!("http://{own}"), middle: None, shell: None };
        match kind {
            Kind::Direct => path.base = format!("http://{upstream}"),
            Kind::Nginx => {
                let servers = format!(
                    "upstream site {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}\n\
                     server {{ listen {own}; location / {{ proxy_pass http://site; proxy_http_version 1.1;\n\
                     proxy_set_header Connection \"\"; proxy_max_temp_file_size 0; }} }}"
                );
                path.middle = Some(Started::new(&mut started::nginx(folder, "proxy", &servers)?)?);
            }
            Kind::Mitmdump => {
                let mut command = Command::new(mitmdump);
                command.args(["-q", "--mode", &format!("reverse:http://{upstream}"), "--listen-host", "127.0.0.1"]);
                command.args(["--listen-port", &port.to_string(), "-w"]).arg(&out);
                path.middle = Some(quiet(&mut command)?);
            }
            Kind::Proxy | Kind::ProxyRecording => {
                let mut command = Command::new(nodetap);
                command.args(["proxy", "--workers", "1", "--quiet", "--reverse", &format!("{own}={upstream}")]);
                command.arg("--out").arg(&out);
                if kind == Kind::Proxy {
                    command.arg("--no-record");
                }
                path.middle = Some(quiet(&mut command)?);
            }
            Kind::RunInbound => {
                let server = started::nginx(folder, "under-run", &serving(port, &site.root))?;
                let mut command = run(nodetap, &out);
                command.arg(server.get_program()).args(server.get_args());
                path.middle = Some(quiet(&mut command)?);
            }
            Kind::RunOutbound => {
                path.base = format!("http://{upstream}");
                let mut command = run(nodetap, &out);
                command.arg("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
                let mut started = Started::new(&mut command)?;
                path.shell = Some(Shell {
                    commands: started.child.stdin.take().context("no standard input")?,
                    answers: BufReader::new(started.child.stdout.take().context("no standard output")?),
                });
                path.middle = Some(started);
            }
        }
        started::listening(path.base.trim_start_matches("http://"))?;
        Ok(path)
    }

    /// The process in the middle.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.middle.as_ref().map(Started::pid)
    }

    /// Runs a client on this path, and returns what it printed. Its arguments hold no blank.
    pub(crate) fn client(&mut self, program: &str, arguments: &[&str]) -> Result<String> {
        const END: &str = "END-OF-CLIENT";
        let Some(shell) = &mut self.shell else {
            return crate::process::output(Command::new(program).args(arguments));
        };
        writeln!(shell.commands, "{program} {} < /dev/null; echo; echo {END}", arguments.join(" "))?;
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
}

impl Drop for Path {
    fn drop(&mut self) {
        // The end of its input ends the shell, and with it the run.
        self.shell = None;
    }
}

fn run(nodetap: &FilePath, out: &FilePath) -> Command {
    let mut command = Command::new(nodetap);
    command.args(["run", "--workers", "1", "--quiet", "--out"]).arg(out).arg("--");
    command
}

fn quiet(command: &mut Command) -> Result<Started> {
    Started::new(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}

fn serving(port: u16, root: &str) -> String {
    format!("server {{ listen 127.0.0.1:{port}; root {root}; }}")
}
