//! The test tiers: what each needs of the machine, and whether this machine has it. A tier is a test binary of the
//! `nodetap-tests` package with the feature of its name, and one of the `nodetap` package for tests of single modules;
//! what its tests do is not known here.

use std::fs;
use std::process::Command;

use crate::process;

/// A tier, from the least to the most that it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Anybody, anywhere.
    None,
    /// Root, and a kernel that makes network namespaces.
    Netns,
    /// Root, cgroup v2, and a kernel that loads and attaches the programs.
    Kernel,
    /// The same, and the parts of a cluster.
    Cluster,
    /// The same, and the parts of a mesh.
    Mesh,
    /// The parts of a cluster, and that a kubelet and containers run here.
    Node,
}

pub(crate) const ALL: [Tier; 6] = [Tier::None, Tier::Netns, Tier::Kernel, Tier::Cluster, Tier::Mesh, Tier::Node];

impl Tier {
    /// The name of its test binary, and of the feature that it is built with.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tier::None => "none",
            Tier::Netns => "netns",
            Tier::Kernel => "kernel",
            Tier::Cluster => "cluster",
            Tier::Mesh => "mesh",
            Tier::Node => "node",
        }
    }

    /// How many of its tests run at a time.
    pub(crate) fn at_once(self) -> u32 {
        match self {
            // More than the processors: these tests wait for other programs most of the time.
            Tier::None | Tier::Netns | Tier::Kernel | Tier::Cluster => 4,
            Tier::Mesh => 2,
            // Each has a cluster with a kubelet of its own. An agent that gets no processor for a second is taken for one
            // that hangs, and replaced.
            Tier::Node => 1,
        }
    }

    /// Why this tier cannot run here; `None` when it can.
    pub(crate) fn lacks(self) -> Option<String> {
        match self {
            Tier::None => None,
            Tier::Netns => lacks_namespaces(),
            Tier::Kernel => lacks_namespaces().or_else(lacks_kernel),
            Tier::Cluster => lacks_namespaces().or_else(lacks_kernel).or_else(|| lacks_programs(&["iptables"])),
            Tier::Mesh => Tier::Cluster.lacks().or_else(|| lacks_programs(&["ip6tables", "nft"])),
            Tier::Node => Tier::Cluster.lacks().or_else(|| lacks_programs(&["containerd", "runc"])),
        }
    }
}

fn lacks_namespaces() -> Option<String> {
    if !process::is_root() {
        return Some("it needs root".to_owned());
    }
    let name = format!("nodetap-try-{}", std::process::id());
    if let Err(error) = process::output(Command::new("ip").args(["netns", "add", &name])) {
        return Some(format!("no network namespace can be made: {error:#}"));
    }
    process::output(Command::new("ip").args(["netns", "del", &name])).err().map(|error| format!("{error:#}"))
}

fn lacks_programs(names: &[&str]) -> Option<String> {
    names.iter().find(|name| process::find(name).is_none()).map(|name| format!("{name} is not installed"))
}

fn lacks_kernel() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if !mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup2")) {
        return Some("no cgroup v2 is mounted".to_owned());
    }
    if !fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) {
        return Some("the kernel has no BTF".to_owned());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit());
    if (number(parts.next()), number(parts.next())) < (5, 15) {
        return Some(format!("kernel {} is older than 5.15", release.trim()));
    }
    None
}
