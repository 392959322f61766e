//! Every TCP connection that is established in this network namespace, and the end of idle ones.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetResponse, SocketId, StateFlags};

use super::sockets;

/// One end of an established connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// The kernel's identifier of the socket, the same that its hooks see.
    pub cookie: u64,
    /// As [`super::listeners::Listener::cgroup`]; an accepted connection has that of its listener.
    pub cgroup: u64,
    /// For how long no byte came or went; nothing while some are on their way.
    pub idle: Duration,
    /// What came last is not answered yet: its bytes are newer than those that were sent, by the kernel's clock, which
    /// has steps of up to 10 milliseconds.
    pub owes: bool,
    interface: u32,
}

/// All of them.
///
/// # Errors
/// What the kernel answers; `ENOENT` where `sock_diag` is not built in.
pub fn connections() -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    sockets::dump(StateFlags::ESTABLISHED, &ExtensionFlags::INFO, |response| found.push(connection(response)))?;
    Ok(found)
}

fn connection(response: &InetResponse) -> Connection {
    let id = &response.header.socket_id;
    let past = response.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(info) => Past::read(info),
        _ => None,
    });
    let waiting = response.header.recv_queue > 0 || response.header.send_queue > 0;
    Connection {
        local: SocketAddr::new(id.source_address, id.source_port),
        remote: SocketAddr::new(id.destination_address, id.destination_port),
        cookie: u64::from_ne_bytes(id.cookie),
        cgroup: sockets::cgroup(response),
        idle: past.as_ref().filter(|_| !waiting).map(|past| past.sent.min(past.came)).unwrap_or_default(),
        owes: past.is_none_or(|past| past.received > 0 && past.came < past.sent),
        interface: id.interface_id,
    }
}

/// What `struct tcp_info` of linux/tcp.h tells of the bytes on a connection.
struct Past {
    /// How long ago the last were sent, and the last came.
    sent: Duration,
    came: Duration,
    received: u64,
}

impl Past {
    /// `tcpi_last_data_sent`, `tcpi_last_data_recv` (both in milliseconds) and `tcpi_bytes_received`.
    const PLACES: (usize, usize, usize) = (44, 52, 128);

    fn read(info: &[u8]) -> Option<Self> {
        let ago = |at: usize| {
            let milliseconds = u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?);
            Some(Duration::from_millis(milliseconds.into()))
        };
        let (sent, came, received) = Self::PLACES;
        let received = u64::from_ne_bytes(info.get(received..received + 8)?.try_into().ok()?);
        Some(Self { sent: ago(sent)?, came: ago(came)?, received })
    }
}

impl Connection {
    /// Ends it: our side reads ECONNABORTED, the other gets a reset. It takes CAP_NET_ADMIN.
    ///
    /// # Errors
    /// `NotFound` when it is gone; `ENOTSUP` where the kernel was built without it (CONFIG_INET_DIAG_DESTROY).
    pub fn destroy(&self) -> io::Result<()> {
        let family = match self.local.ip() {
            IpAddr::V4(_) => AF_INET,
            IpAddr::V6(_) => AF_INET6,
        };
        let socket_id = SocketId {
            source_port: self.local.port(),
            destination_port: self.remote.port(),
            source_address: self.local.ip(),
            destination_address: self.remote.ip(),
            interface_id: self.interface,
            // With the cookie no other connection can be meant, whatever became of this one.
            cookie: self.cookie.to_ne_bytes(),
        };
        sockets::destroy(family, StateFlags::ESTABLISHED, socket_id)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    fn pair(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn find(stream: &TcpStream) -> Option<Connection> {
        let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        connections().unwrap().into_iter().find(|found| found.local == local && found.remote == remote)
    }

    #[test]
    fn both_ends_of_a_connection_of_this_process_are_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (client, server) = pair(address);
            let (one, other) = (find(&client).unwrap(), find(&server).unwrap());
            assert_ne!(one.cookie, other.cookie);
            drop((client, server));
        }
    }

    #[test]
    fn an_answer_that_is_owed_is_told() {
        let (mut client, mut server) = pair("127.0.0.1:0");
        assert!(!find(&server).unwrap().owes);
        std::thread::sleep(Duration::from_millis(20));
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0; 1]).unwrap();
        assert!(find(&server).unwrap().owes);
        std::thread::sleep(Duration::from_millis(20));
        server.write_all(b"x").unwrap();
        assert!(!find(&server).unwrap().owes);
    }

    #[test]
    fn one_that_has_bytes_to_read_is_not_idle() {
        let (mut client, server) = pair("127.0.0.1:0");
        let begun = Instant::now();
        while find(&server).unwrap().idle < Duration::from_millis(30) {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
        client.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(find(&server).unwrap().idle, Duration::ZERO);
    }
}
