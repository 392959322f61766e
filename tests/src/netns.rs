//! A network namespace of a test's own. It has a loopback device and what the test adds; it knows no route.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

/// The device that leads to a joined namespace.
pub const WIRE: &str = "wire0";

/// A named network namespace, removed at the end.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, with loopback up.
    ///
    /// # Errors
    /// Without root, or where the kernel refuses.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nodetap-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn file(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// `ip ARG…` inside it.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        let mut whole = vec!["-netns", &self.name];
        whole.extend(arguments);
        ip(&whole)
    }

    /// Joins it to `other` by a pair of devices, [`WIRE`] in both, up and with these addresses (`10.7.0.1/24`).
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn join(&self, address: &str, other: &Self, its_address: &str) -> Result<()> {
        self.ip(&["link", "add", WIRE, "type", "veth", "peer", "name", WIRE, "netns", &other.name])?;
        for (namespace, address) in [(self, address), (other, its_address)] {
            namespace.ip(&["addr", "add", address, "dev", WIRE])?;
            namespace.ip(&["link", "set", WIRE, "up"])?;
        }
        Ok(())
    }

    /// The same command, inside it. Unlike `ip netns exec` this leaves the mounts as they are.
    pub fn enter(&self, command: &Command) -> Command {
        let mut entered = Command::new("nsenter");
        entered.arg(format!("--net={}", self.file().display())).arg("--");
        entered.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entered.env(name, value),
                None => entered.env_remove(name),
            };
        }
        entered
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(ip(&["netns", "del", &self.name]));
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(arguments).output().context("cannot start ip")?;
    if !done.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
