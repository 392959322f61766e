//! Every TCP socket that listens in this network namespace, by `sock_diag(7)`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

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
}

/// All of them, by cookie.
///
/// # Errors
/// What the kernel answers; `ENOENT` where `sock_diag` is not built in.
pub fn listeners() -> io::Result<BTreeMap<u64, Listener>> {
    let mut found = BTreeMap::new();
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let request = SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::LISTEN,
            socket_id,
        });
        super::dump(NETLINK_SOCK_DIAG, request, |message| {
            let SockDiagMessage::InetResponse(response) = message else { return };
            let id = &response.header.socket_id;
            let cookie = u64::from_ne_bytes(id.cookie);
            let v6only = response.nlas.iter().any(|nla| matches!(nla, Nla::SkV6Only(true)));
            let address = SocketAddr::new(id.source_address, id.source_port);
            found.insert(cookie, Listener { address, cookie, inode: response.header.inode, v6only });
        })?;
    }
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
