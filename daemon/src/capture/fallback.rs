//! The fallback of a pod's reverse listeners: whoever of the pod's programs listens behind them answers in their place
//! when we do not. Here it is made and given the programs' sockets; what happens in the kernel is told in
//! [`crate::probes::fallback`]. It refuses to know which pods have one.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::namespace::Namespace;
use super::processes::socket_inode;
use super::{Error, Hooks};
use crate::netlink::listeners::Listener;
use crate::probes::fallback::Place;

pub use crate::probes::fallback::{Bypassed, Fallback, Way};
pub use crate::probes::pins::{Generation, Pins};

impl Hooks {
    /// Makes a fallback in a network namespace, and pins it. `group`: a control group with all of the pod's programs
    /// (its directory in the mounted hierarchy).
    ///
    /// # Errors
    /// When there is no such group, or the kernel refuses; nothing of it stays then.
    pub fn fall_back(
        &self,
        namespace: &dyn Namespace,
        group: &Path,
        pins: Generation,
        ways: &[Way<'_>],
    ) -> Result<Fallback, Error> {
        let group = File::open(group).map_err(Error::io("open the pod's control group"))?;
        let place = Place { netns: namespace.file(), cookie: namespace.cookie(), group: group.as_fd(), pins };
        Ok(self.probes.fall_back(place, ways)?)
    }
}

/// Gives a fallback the listening sockets of these processes, by their inodes; how many it took. Whoever restarts puts its
/// own there by itself.
pub fn put(fallback: &Fallback, listeners: &[Listener], pids: &[u32]) -> usize {
    let mut wanted: Vec<&Listener> = listeners.iter().filter(|listener| listener.device == 0).collect();
    let mut taken = 0;
    for pid in pids {
        if wanted.is_empty() {
            break;
        }
        // A process that just ended shows nothing.
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let link = fs::read_link(entry.path()).ok();
            let Some(inode) = link.and_then(|link| socket_inode(link.to_str()?)) else { continue };
            let Some(at) = wanted.iter().position(|listener| listener.inode == inode) else { continue };
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let socket = number.ok_or(io::ErrorKind::InvalidData.into()).and_then(|number| of_process(*pid, number));
            let address: SocketAddr = wanted[at].address;
            match socket.and_then(|socket| fallback.put(address, &socket)) {
                Ok(()) => {
                    taken += 1;
                    wanted.swap_remove(at);
                }
                Err(error) => tracing::debug!(%error, pid, %address, "a listener that has no fallback"),
            }
        }
    }
    taken
}

/// A descriptor of another process: the same socket, not a copy. It takes CAP_SYS_PTRACE.
fn of_process(pid: u32, number: i32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(pidfd_getfd(process, number, PidfdGetfdFlags::empty())?)
}
