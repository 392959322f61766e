//! Where a test puts processes: network namespaces and control groups of its own, gone with the values.
#![allow(dead_code, reason = "not every tier uses all of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Long enough for anything that happens at all on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Calls `look` until it gives something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("place-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A named network namespace with loopback up.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let namespace = Self { name: name() };
        ip(&["netns", "add", &namespace.name]);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// One with a device that has this address (`10.7.1.1/24`).
    pub(crate) fn with(address: &str) -> Self {
        let namespace = Self::new();
        namespace.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "peer"]);
        namespace.ip(&["addr", "add", address, "dev", "eth0"]);
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub(crate) fn file(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    pub(crate) fn ip(&self, arguments: &[&str]) {
        ip(&[&["-netns", &self.name], arguments].concat());
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.name]).output());
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().unwrap();
    assert!(done.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A folder of the cgroup2 tree.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) path: PathBuf,
}

impl Group {
    pub(crate) fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut fields = mounts.lines().map(|line| line.split(' ').skip(1));
        let root = fields.find_map(|mut fields| fields.next().filter(|_| fields.next() == Some("cgroup2"))).unwrap();
        let path = Path::new(root).join(name());
        fs::create_dir(&path).unwrap();
        Self { path }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fn remove(folder: &Path) {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter(|entry| entry.path().is_dir()).for_each(|entry| remove(&entry.path()));
            drop(fs::remove_dir(folder));
        }
        drop(fs::write(self.path.join("cgroup.kill"), "1"));
        let end = Instant::now() + Duration::from_secs(5);
        while self.path.exists() && Instant::now() < end {
            remove(&self.path);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A running program, killed at the end.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    file: PathBuf,
}

impl Program {
    /// Starts it in this control group and, if there is one, this namespace, and waits until it is there.
    pub(crate) fn start(group: &Path, namespace: Option<&Namespace>, command: &[&str]) -> Self {
        let program = Self::spawn(group, namespace, command);
        program.running();
        program
    }

    /// The same without waiting.
    pub(crate) fn spawn(group: &Path, namespace: Option<&Namespace>, command: &[&str]) -> Self {
        let mut inside = entering(group);
        if let Some(namespace) = namespace {
            inside.arg("nsenter").arg(format!("--net={}", namespace.file().display())).arg("--");
        }
        let child = inside.args(command).stdin(Stdio::null()).spawn().unwrap();
        Self { child, file: fs::canonicalize(which(command[0])).unwrap() }
    }

    /// Waits until it is where it belongs.
    pub(crate) fn running(&self) {
        let link = format!("/proc/{}/exe", self.pid());
        eventually("the program runs", || (fs::read_link(&link).ok()? == self.file).then_some(()));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A shell that goes into the control group, then becomes what is added as arguments.
pub(crate) fn entering(group: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo 0 > \"$1/cgroup.procs\" && shift && exec \"$@\"", "sh"]).arg(group);
    shell
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap();
    path.split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.exists()).unwrap()
}
