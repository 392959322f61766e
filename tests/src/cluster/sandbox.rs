//! What a pod is on its machine, made and removed without a kubelet: a network namespace with a cable and addresses, and
//! control groups. What stands in the API server is not known here.

use std::path::PathBuf;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::host::Host;

/// Addresses end in a byte between 1 and this.
const LAST: u32 = 250;
const SCRIPT: &str = include_str!("sandbox.sh");
/// Ends everything in a pod's control group and removes it, then its network.
const REMOVE: &str = r#"
if [ -d "$1" ]; then
    echo 1 > "$1/cgroup.kill"
    for try in $(seq 500); do
        find "$1" -depth -type d -exec rmdir {} + 2> /dev/null && break
        sleep 0.01
    done
fi
[ "$3" = - ] && exit 0
ip link del "v$2" || true
if [ -e "/run/netns/$3.user" ]; then umount "/run/netns/$3.user"; rm "/run/netns/$3.user"; fi
ip netns del "$3"
"#;
/// Ends everything in a container's control group and removes it.
const END: &str = r#"
echo 1 > "$1/cgroup.kill"
for try in $(seq 500); do rmdir "$1" 2> /dev/null && break; sleep 0.01; done
"#;

/// A pod's place on the machine.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    pub(super) number: u32,
    /// The pod's control group, as the machine names it.
    pub(super) cgroup: PathBuf,
    /// The name of its network namespace; `-` for the machine's own.
    pub(super) netns: String,
    pub(super) users: bool,
    /// The sandbox's id.
    pub(super) id: String,
}

impl Sandbox {
    pub(super) fn address(&self) -> String {
        format!("10.77.{}.{}", 1 + self.number / LAST, 1 + self.number % LAST)
    }

    pub(super) fn address6(&self) -> String {
        format!("fd77::1:{:x}", self.number)
    }

    /// Whether it has a network of its own.
    pub(super) fn networked(&self) -> bool {
        self.netns != "-"
    }
}

/// Makes many at once; the second of each pair are the ids of containers.
pub(super) fn make(host: &Host, sandboxes: &[(Sandbox, Vec<String>)]) -> Result<()> {
    let line = |(sandbox, containers): &(Sandbox, Vec<String>)| {
        let groups = std::iter::once(&sandbox.id).chain(containers);
        let groups: Vec<String> = groups.map(|id| sandbox.cgroup.join(id).display().to_string()).collect();
        let users = if sandbox.users { "yes" } else { "no" };
        let (number, netns, address, address6) =
            (sandbox.number, &sandbox.netns, sandbox.address(), sandbox.address6());
        format!("{number} {netns} {users} {address} {address6} {}", groups.join(" "))
    };
    let lines: Vec<String> = sandboxes.iter().map(line).collect();
    host.script(SCRIPT, &[&lines.join("\n")]).map(drop)
}

/// Ends and removes one, with all containers.
pub(super) fn remove(host: &Host, sandbox: &Sandbox) -> Result<()> {
    let cgroup = sandbox.cgroup.display().to_string();
    host.script(REMOVE, &[&cgroup, &sandbox.number.to_string(), &sandbox.netns]).map(drop)
}

/// Ends everything of a container, and makes another control group.
pub(super) fn replace(host: &Host, sandbox: &Sandbox, old: &str, new: &str) -> Result<()> {
    host.script(END, &[&sandbox.cgroup.join(old).display().to_string()])?;
    add(host, sandbox, new)
}

/// Makes the control group of one more container.
pub(super) fn add(host: &Host, sandbox: &Sandbox, id: &str) -> Result<()> {
    host.script("mkdir \"$1\"", &[&sandbox.cgroup.join(id).display().to_string()]).map(drop)
}

/// What containerd would call a container: 64 hexadecimal digits, which nothing else has.
pub(super) fn id(uid: &str, name: &str, generation: u32) -> String {
    Sha256::digest(format!("{uid} {name} {generation}")).iter().map(|byte| format!("{byte:02x}")).collect()
}
