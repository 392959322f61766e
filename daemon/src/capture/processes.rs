//! Which process of the target listens where, for the records of inbound connections.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nodetap_core::exchange::Process;

/// The listening processes, as last seen.
#[derive(Debug, Default)]
pub(super) struct Processes {
    listening: Mutex<HashMap<SocketAddr, Process>>,
}

impl Processes {
    /// Who takes a connection to `local`: the listener on that address, or on all of them.
    pub(super) fn listening(&self, local: SocketAddr) -> Option<Process> {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let listening = self.table();
        std::iter::once(local.ip()).chain(any).find_map(|ip| listening.get(&SocketAddr::new(ip, local.port())).cloned())
    }

    /// Is something known of this endpoint?
    pub(super) fn knows(&self, endpoint: SocketAddr) -> bool {
        self.table().contains_key(&endpoint)
    }

    /// Finds the owners of the listening sockets with these inodes among the processes `pids`.
    pub(super) fn learn(&self, sockets: &[(SocketAddr, u32)], pids: &[u32]) {
        for pid in pids {
            // A process that just ended, or that belongs to another user, shows nothing.
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let Some(inode) = fs::read_link(entry.path()).ok().and_then(|link| socket_inode(link.to_str()?)) else {
                    continue;
                };
                for (endpoint, _) in sockets.iter().filter(|(_, wanted)| *wanted == inode) {
                    let mut table = self.table();
                    // The first is the oldest: of a server with workers, the one that opened the socket.
                    table.entry(*endpoint).or_insert_with(|| Process { pid: *pid, name: name(*pid) });
                }
            }
        }
    }

    /// Forgets an endpoint on which nobody listens any more.
    pub(super) fn forget(&self, endpoint: SocketAddr) {
        self.table().remove(&endpoint);
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SocketAddr, Process>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From the text of a link in `/proc/PID/fd` (proc(5)).
pub(super) fn socket_inode(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}
