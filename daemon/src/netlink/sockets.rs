//! The TCP sockets of this network namespace, by `sock_diag(7)`, and the end of single ones.

use std::io;

use netlink_packet_core::Nla as _;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

/// INET_DIAG_CGROUP_ID of linux/inet_diag.h.
const CGROUP_ID: u16 = 21;

/// Every socket in these states, both families.
pub(super) fn dump(
    states: StateFlags,
    extensions: &ExtensionFlags,
    mut each: impl FnMut(&InetResponse),
) -> io::Result<()> {
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let request = request(family, states.clone(), extensions.clone(), socket_id);
        super::dump(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(request), |message| {
            if let SockDiagMessage::InetResponse(response) = message {
                each(&response);
            }
        })?;
    }
    Ok(())
}

/// One socket.
pub(super) fn one(
    family: u8,
    states: StateFlags,
    extensions: ExtensionFlags,
    socket_id: SocketId,
) -> io::Result<InetResponse> {
    let request = SockDiagMessage::InetRequest(request(family, states, extensions, socket_id));
    match super::ask(NETLINK_SOCK_DIAG, request)? {
        SockDiagMessage::InetResponse(response) => Ok(*response),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The control group of whoever made the socket, or of the listener that it came from; 0 when the kernel does not tell.
pub(super) fn cgroup(response: &InetResponse) -> u64 {
    let value = response.nlas.iter().find_map(|nla| match nla {
        Nla::Other(other) if other.kind() == CGROUP_ID && other.value_len() == 8 => {
            let mut bytes = [0; 8];
            other.emit_value(&mut bytes);
            Some(u64::from_ne_bytes(bytes))
        }
        _ => None,
    });
    value.unwrap_or(0)
}

/// Ends one socket, as `ss --kill` does: its program reads ECONNABORTED, its peer gets a reset.
pub(super) fn destroy(family: u8, states: StateFlags, socket_id: SocketId) -> io::Result<()> {
    let request = request(family, states, ExtensionFlags::empty(), socket_id);
    super::order(NETLINK_SOCK_DIAG, SockDiagDestroy::new(SockDiagMessage::InetRequest(request)))
}

fn request(family: u8, states: StateFlags, extensions: ExtensionFlags, socket_id: SocketId) -> InetRequest {
    InetRequest { family, protocol: IPPROTO_TCP, extensions, states, socket_id }
}
