//! Every TCP socket that listens in this network namespace, by `sock_diag(7)`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, StateFlags};

use super::sockets;

/// One listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    /// The kernel's identifier of the socket, the same that its hooks see.
    pub cookie: u64,
    /// For `/proc/PID/fd`.
    pub inode: u32,
    /// Bound with IPV6_V6ONLY.
    pub v6only: bool,
    /// Bound to the device with this index; 0: to none.
    pub device: u32,
    /// The control group (version 2) of whoever made it; 0 where the kernel does not tell (before Linux 5.8).
    pub cgroup: u64,
}

/// All of them, by cookie.
///
/// # Errors
/// What the kernel answers; `ENOENT` where `sock_diag` is not built in.
pub fn listeners() -> io::Result<BTreeMap<u64, Listener>> {
    let mut found = BTreeMap::new();
    sockets::dump(StateFlags::LISTEN, &ExtensionFlags::empty(), |response| {
        let id = &response.header.socket_id;
        let cookie = u64::from_ne_bytes(id.cookie);
        let v6only = response.nlas.iter().any(|nla| matches!(nla, Nla::SkV6Only(true)));
        let address = SocketAddr::new(id.source_address, id.source_port);
        let (inode, device) = (response.header.inode, id.interface_id);
        found.insert(cookie, Listener { address, cookie, inode, v6only, device, cgroup: sockets::cgroup(response) });
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listening_socket_of_this_process_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let local = listener.local_addr().unwrap();
            let found = listeners().unwrap();
            assert!(found.values().any(|listener| listener.address == local), "{local} in {found:?}");
        }
    }
}
