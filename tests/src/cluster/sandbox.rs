//! What a pod is on its machine, made and removed without a kubelet: a network namespace with a cable and addresses, and
//! control groups. What stands in the API server is not known here.

use std::path::PathBuf;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::host::Host;

/// Addresses end in a byte between 1 and this.
const LAST: u32 = 250;
const SCRIPT: &str = include_str!("sandbox.sh");
/// Ends everything in control groups, one a line, and removes them with those below them.
const END: &str = r#"
left=$1
for cgroup in $left; do
    if [ -d "$cgroup" ]; then echo 1 > "$cgroup/cgroup.kill"; fi
done
tries=500
while
    still=
    for cgroup in $left; do if [ -d "$cgroup" ]; then still="$still $cgroup"; fi; done
    left=$still
    [ -n "$left" ] && [ "$tries" -gt 0 ]
do
    find $left -depth -type d -exec rmdir {} + 2> /dev/null || sleep 0.01
    tries=$((tries - 1))
done
"#;
/// Removes the networks of pods, one line a pod: NUMBER NETNS.
const UNPLUG: &str = r#"
echo "$2" | while read -r number netns; do
    if [ -e "/run/netns/$netns.user" ]; then umount "/run/netns/$netns.user"; rm "/run/netns/$netns.user"; fi
done
# A cable may be gone already.
echo "$2" | while read -r number netns; do echo "link del v$number"; done | ip -force -batch - || true
echo "$2" | while read -r number netns; do echo "netns del $netns"; done | ip -batch -
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

/// Ends and removes them, with all containers.
pub(super) fn remove<'a>(host: &Host, sandboxes: impl IntoIterator<Item = &'a Sandbox>) -> Result<()> {
    let sandboxes: Vec<&Sandbox> = sandboxes.into_iter().collect();
    let groups: Vec<String> = sandboxes.iter().map(|sandbox| sandbox.cgroup.display().to_string()).collect();
    let networked = sandboxes.iter().filter(|sandbox| sandbox.networked());
    let networks: Vec<String> = networked.map(|sandbox| format!("{} {}", sandbox.number, sandbox.netns)).collect();
    let script = if networks.is_empty() { END.to_owned() } else { [END, UNPLUG].concat() };
    host.script(&script, &[&groups.join("\n"), &networks.join("\n")]).map(drop)
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
