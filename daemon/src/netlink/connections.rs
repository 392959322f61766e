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
    /// Bytes wait to be read.
    pub unread: bool,
    /// Payload bytes that came, and that went, so far.
    pub received: u64,
    pub sent: u64,
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
        owes: past.as_ref().is_none_or(|past| past.received > 0 && past.came < past.sent),
        unread: response.header.recv_queue > 0,
        received: past.as_ref().map_or(0, |past| past.received),
        sent: past.as_ref().map_or(0, |past| past.bytes),
        interface: id.interface_id,
    }
}

/// What `struct tcp_info` of linux/tcp.h tells of the bytes on a connection.
struct Past {
    /// How long ago the last were sent, and the last came.
    sent: Duration,
    came: Duration,
    received: u64,
    /// Sent, those that were sent again too.
    bytes: u64,
}

impl Past {
    /// `tcpi_last_data_sent`, `tcpi_last_data_recv` (both in milliseconds), `tcpi_bytes_received`, and `tcpi_bytes_sent`
    /// (Linux 4.19).
    const PLACES: (usize, usize, usize, usize) = (44, 52, 128, 200);

    fn read(info: &[u8]) -> Option<Self> {
        let ago = |at: usize| {
            let milliseconds = u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?);
            Some(Duration::from_millis(milliseconds.into()))
        };
        let number = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
        let (sent, came, received, bytes) = Self::PLACES;
        Some(Self {
            sent: ago(sent)?,
            came: ago(came)?,
            received: number(received)?,
            bytes: number(bytes).unwrap_or(0),
        })
    }
}

impl Connection {
    /// Ends it: our side reads ECONNABORTED, the other gets a reset. It takes CAP_NET_ADMIN.
    ///
    /// # Errors
    /// `NotFound` when it is gone; `ENOTSUP` where the kernel was built without it (CONFIG_INET_DIAG_DESTROY).
    pub fn destroy(&self) -> io::Result<()> {
        let (family, socket_id) = self.id();
        sockets::destroy(family, StateFlags::ESTABLISHED, socket_id)
    }

    /// Looks at it once more. It goes through no table: a few microseconds.
    ///
    /// # Errors
    /// `NotFound` when it is gone.
    pub fn again(&self) -> io::Result<Self> {
        let (family, socket_id) = self.id();
        let response = sockets::one(family, StateFlags::ESTABLISHED, ExtensionFlags::INFO, socket_id)?;
        Ok(connection(&response))
    }

    fn id(&self) -> (u8, SocketId) {
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
        (family, socket_id)
    }

    /// One of which nothing more is known, for tests.
    #[cfg(test)]
    pub(crate) fn of(local: SocketAddr, remote: SocketAddr) -> Self {
        let (cookie, cgroup, idle, owes) = (0, 0, Duration::ZERO, false);
        Self { local, remote, cookie, cgroup, idle, owes, unread: false, received: 0, sent: 0, interface: 0 }
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
    fn one_connection_is_looked_at_alone_and_told_when_it_is_gone() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (mut client, server) = pair(address);
            let before = find(&server).unwrap();
            client.write_all(b"four").unwrap();
            let now = before.again().unwrap();
            assert_eq!((now.received - before.received, now.sent, now.unread), (4, 0, true));
            assert_eq!((now.local, now.cookie), (before.local, before.cookie));
            now.destroy().unwrap();
            assert_eq!(before.again().unwrap_err().kind(), io::ErrorKind::NotFound);
        }
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
