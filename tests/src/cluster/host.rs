//! A machine of a test's own: network, mount, pid, host name, IPC and control group namespaces, with a node's address and
//! folders. Any number of them stand side by side, because nothing of theirs has a name outside. It knows nothing of
//! Kubernetes.
//!
//! It ends with the value or, for a value that lives as long as the test binary, with that, however that ends: `keeper.sh`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::inside::Inside;
use crate::folder::Folder;
use crate::process::{children, send};
use crate::wait::{DEADLINE, eventually};
use crate::{client, leftovers};

/// The address of the machine.
pub const ADDRESS: &str = "10.77.0.1";
/// Its other address.
pub const ADDRESS6: &str = "fd77::1";

/// The namespaces that a program enters which is to run on the machine.
const ENTERED: &[&str] = &["--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid"];

/// The machine.
#[derive(Debug)]
pub struct Host {
    keeper: Child,
    stdin: Option<ChildStdin>,
    name: String,
    folder: PathBuf,
    first: u32,
    served: Mutex<BTreeMap<String, Served>>,
}

/// A program that runs until the machine ends, or a test ends it.
#[derive(Debug)]
struct Served {
    command: Command,
    pid: u32,
}

impl Host {
    /// Makes one.
    ///
    /// # Errors
    /// Without root, or where the kernel refuses.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("machine-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // The keeper removes it, because it may live longer than we do.
        let folder = Folder::new()?.keep();
        let (keeper, machine) = (folder.join("keeper.sh"), folder.join("machine.sh"));
        std::fs::write(&keeper, include_str!("keeper.sh"))?;
        std::fs::write(&machine, include_str!("machine.sh"))?;
        let log = File::create(folder.join("machine.log"))?;
        let mut command = Command::new("sh");
        command.arg(&keeper).arg(&folder).arg(&name).arg(&machine);
        // What a terminal sends to us is not for it: it has to clean up after us.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = command.spawn().context("cannot start a shell")?;
        let stdin = keeper.stdin.take();
        let out = keeper.stdout.take().context("no standard output")?;
        let mut host = Self { keeper, stdin, name, folder, first: 0, served: Mutex::default() };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        ensure!(line == "ready\n", "no machine can be made: {}", host.log("machine"));
        // unshare, and the first process of the new pid namespace.
        let found = children(host.keeper.id()).into_iter().find_map(|unshare| children(unshare).first().copied());
        host.first = found.context("the machine has no first process")?;
        Ok(host)
    }

    /// A folder for files of the machine, under the same path inside and outside.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file that only the machine sees (`/run/netns/…`), by a path that works outside, too.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        PathBuf::from(format!("/proc/{}/root", self.first)).join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// The file that stands for its network namespace.
    pub fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.first))
    }

    /// The root of its control groups v2 as programs on the machine name it.
    ///
    /// # Errors
    /// When there is no control group v2.
    pub fn cgroups(&self) -> Result<PathBuf> {
        leftovers::cgroup_root().context("no cgroup v2 is mounted")
    }

    /// The root of its control groups v2 as it is named outside.
    ///
    /// # Errors
    /// When there is no control group v2.
    pub fn cgroups_from_outside(&self) -> Result<PathBuf> {
        Ok(self.cgroups()?.join(&self.name))
    }

    /// The same command, on the machine. The process that it starts is not the command's own: see [`Host::start`].
    pub fn enter(&self, command: &Command) -> Command {
        let mut words = self.words(ENTERED);
        if let Some(folder) = command.get_current_dir() {
            words.push(format!("--wdns={}", folder.display()));
        }
        // It enters the pid namespace by a fork: who kills the parent means the child.
        words.extend(["--", "setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        prefixed(&words, command)
    }

    /// The same command, in the machine's network but with the files and processes of the test.
    pub fn enter_network(&self, command: &Command) -> Command {
        let mut words = self.words(&["--net"]);
        words.push("--".to_owned());
        prefixed(&words, command)
    }

    /// Starts a program on the machine.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, command: &Command) -> Result<Inside> {
        Inside::start(&mut self.enter(command))
    }

    /// Starts a program on the machine that runs until the machine ends, and prints into [`Host::log`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn serve(&self, name: &str, command: Command) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.folder.join(format!("{name}.log")))?;
        let mut entered = self.enter(&command);
        entered.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = entered.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id();
        // It ends with the machine, and then somebody must take note of it.
        std::thread::spawn(move || drop(child.wait()));
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.insert(name.to_owned(), Served { command, pid });
        Ok(())
    }

    /// Sends a signal to a program that was started by [`Host::serve`].
    ///
    /// # Errors
    /// When there is none of this name, or it is gone.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let outer = served.get(name).with_context(|| format!("{name} does not run"))?.pid;
        let pid = children(outer).first().copied().with_context(|| format!("{name} has ended: {}", self.log(name)))?;
        send(pid, signal)
    }

    /// Starts a program again that was started by [`Host::serve`] and has ended or was killed.
    ///
    /// # Errors
    /// When there is none of this name, or it cannot be started.
    pub fn serve_again(&self, name: &str) -> Result<()> {
        let known = self.served.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Served { command, pid } = known.with_context(|| format!("{name} was never started"))?;
        eventually(DEADLINE, "the end of what ran before", || children(pid).is_empty().then_some(()))?;
        self.serve(name, command)
    }

    /// Runs a shell script on the machine, with `$1` and so on, and returns what it printed.
    ///
    /// # Errors
    /// When it ends with another code than 0: what it printed stands in the error.
    pub fn script(&self, text: &str, arguments: &[&str]) -> Result<String> {
        let mut shell = Command::new("sh");
        shell.args(["-euc", text, "sh"]).args(arguments);
        output(&mut self.enter(&shell))
    }

    /// The end of what a program has printed that was started by [`Host::serve`].
    pub fn log(&self, name: &str) -> String {
        const LINES: usize = 12;
        let text = std::fs::read(self.folder.join(format!("{name}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        format!("{name} said: {}", lines[lines.len().saturating_sub(LINES)..].join("\n"))
    }

    /// Connects from the machine's network.
    ///
    /// # Errors
    /// What the kernel says: refused, unreachable.
    pub fn dial(&self, address: SocketAddr) -> Result<TcpStream> {
        dial(&self.netns(), address)
    }

    /// Waits until something accepts connections at an address of the machine's network.
    ///
    /// # Errors
    /// When nothing does within the deadline; `name` is the log to look into.
    pub fn listening(&self, name: &str, address: &str) -> Result<()> {
        let address: SocketAddr = address.parse()?;
        eventually(DEADLINE, &format!("{name} at {address}"), || self.dial(address).ok())
            .map(drop)
            .with_context(|| self.log(name))
    }

    fn words(&self, namespaces: &[&str]) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), format!("--target={}", self.first)];
        words.extend(namespaces.iter().map(|namespace| (*namespace).to_owned()));
        words
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The keeper does the rest; when it cannot, waiting for ever would hide what failed before.
        self.stdin = None;
        drop(eventually(Duration::from_secs(20), "the machine's end", || self.keeper.try_wait().ok().flatten()));
    }
}

/// Connects from a network namespace.
///
/// # Errors
/// What the kernel says: refused, unreachable.
pub fn dial(netns: &Path, address: SocketAddr) -> Result<TcpStream> {
    let file = File::open(netns).with_context(|| format!("no namespace {}", netns.display()))?;
    // A thread of its own: it need not find the way back.
    let connecting = std::thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        client::connect(address)
    });
    Ok(connecting.join().map_err(|_| anyhow!("the connecting thread panicked"))??)
}

/// `command` after other words; its environment stays.
pub(super) fn prefixed(words: &[String], command: &Command) -> Command {
    let mut whole = Command::new(words.first().map_or(OsStr::new("env"), OsStr::new));
    whole.args(words.iter().skip(1)).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    whole
}

/// Runs a command to its end and returns what it printed.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    if !done.status.success() {
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let said = [done.stdout, done.stderr].concat();
        bail!("{name} {} ended with {}: {}", words.join(" "), done.status, String::from_utf8_lossy(&said).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
