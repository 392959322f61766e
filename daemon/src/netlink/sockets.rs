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

/// Every socket in these states, both families. The kernel goes through its tables of all network namespaces for each: a
/// millisecond (they grow with the machine's memory) that is saved where this one has no socket of that family.
pub(super) fn dump(
    states: StateFlags,
    extensions: &ExtensionFlags,
    mut each: impl FnMut(&InetResponse),
) -> io::Result<()> {
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        if has_none(family) {
            continue;
        }
        let request = request(family, states.clone(), extensions.clone(), socket_id);
        super::dump(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(request), |message| {
            if let SockDiagMessage::InetResponse(response) = message {
                each(&response);
            }
        })?;
    }
    Ok(())
}

/// Does this network namespace have no TCP socket of that family, as far as can be told?
fn has_none(family: u8) -> bool {
    let (file, line) = match family {
        AF_INET => ("/proc/thread-self/net/sockstat", "TCP:"),
        _ => ("/proc/thread-self/net/sockstat6", "TCP6:"),
    };
    let is_zero = || std::fs::read_to_string(file).is_ok_and(|text| in_use(&text, line) == Some(0));
    // It is a sum over the processors, which sockets that come and go meanwhile may falsify once.
    is_zero() && is_zero()
}

/// What `sockstat` says of a protocol: sockets that listen, connect or are connected.
fn in_use(text: &str, line: &str) -> Option<u64> {
    let counts = text.lines().find_map(|one| one.strip_prefix(line))?;
    counts.split_ascii_whitespace().skip_while(|word| *word != "inuse").nth(1)?.parse().ok()
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_in_use_are_read_by_protocol() {
        let text = "sockets: used 7\nTCP: inuse 3 orphan 0 tw 5 alloc 9 mem 1\nUDP: inuse 2 mem 0\n";
        assert_eq!((in_use(text, "TCP:"), in_use(text, "UDP:")), (Some(3), Some(2)));
        assert_eq!((in_use(text, "TCP6:"), in_use("TCP: orphan 0\n", "TCP:")), (None, None));
    }

    #[test]
    fn a_family_with_a_socket_is_not_left_out() {
        for (family, address) in [(AF_INET, "127.0.0.1:0"), (AF_INET6, "[::1]:0")] {
            let _listener = TcpListener::bind(address).unwrap();
            assert!(!has_none(family), "{address}");
        }
    }
}
