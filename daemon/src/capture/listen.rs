//! The listeners that steered connections of one target arrive at. All on loopback addresses of its network namespace, on
//! ports that no program expects.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::random;
use super::steer::Role;
use crate::probes;

/// Outbound listeners a family. One address and port takes about 28,000 connections at a time from one client address.
const OUTBOUND: usize = 4;
/// Connections that wait for accept(); the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// All listeners of one target.
#[derive(Debug)]
pub(super) struct Listeners {
    outbound4: Vec<TcpListener>,
    outbound6: Vec<TcpListener>,
    inbound4: TcpListener,
    /// `None`, as `outbound6` is empty: this namespace has no ::1.
    inbound6: Option<TcpListener>,
    ephemeral: [u16; 2],
}

impl Listeners {
    /// Opens them in this thread's network namespace. One without IPv6 has none for IPv6, and its IPv6 is not steered.
    ///
    /// # Errors
    /// When IPv4 loopback is not to be had.
    pub(super) fn open() -> io::Result<Self> {
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        let several = |address| (0..OUTBOUND).map(|_| bind_aside(address)).collect::<io::Result<Vec<_>>>();
        let (outbound6, inbound6) = match (several(v6), bind_aside(v6)) {
            (Ok(outbound), Ok(inbound)) => (outbound, Some(inbound)),
            (Err(error), _) | (_, Err(error)) => {
                tracing::info!(%error, "no IPv6 loopback: IPv6 is left alone");
                (Vec::new(), None)
            }
        };
        Ok(Self { outbound4: several(v4)?, outbound6, inbound4: bind_aside(v4)?, inbound6, ephemeral: ephemeral() })
    }

    /// What the hooks are told.
    pub(super) fn ports(&self) -> probes::Listeners {
        let (outbound4, outbound6) = (ports(&self.outbound4), ports(&self.outbound6));
        probes::Listeners { outbound4, outbound6, ephemeral: self.ephemeral }
    }

    /// The listeners that `sk_lookup` assigns, with "is it IPv6".
    pub(super) fn inbound(&self) -> impl Iterator<Item = (bool, &TcpListener)> {
        std::iter::once((false, &self.inbound4)).chain(self.inbound6.iter().map(|listener| (true, listener)))
    }

    /// What each of [`Listeners::into_all`] is for, in its order.
    pub(super) fn roles(&self) -> Vec<Role> {
        let outbound = ports(&self.outbound4).into_iter().chain(ports(&self.outbound6));
        let inbound = self.inbound().filter_map(|(_, listener)| listener.local_addr().ok());
        outbound.map(|port| Role::Outbound { port }).chain(inbound.map(|own| Role::Inbound { own })).collect()
    }

    /// All of them.
    pub(super) fn into_all(self) -> Vec<TcpListener> {
        self.outbound4.into_iter().chain(self.outbound6).chain([self.inbound4]).chain(self.inbound6).collect()
    }
}

fn ports(listeners: &[TcpListener]) -> Vec<u16> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).map(|address| address.port()).collect()
}

/// Ports above those that the kernel gives to programs by default.
const ASIDE: std::ops::RangeInclusive<u16> = 61_000..=65_535;
/// Ports that are tried there before the kernel may choose.
const ATTEMPTS: u32 = 64;

/// A listener of our own, on a port that no program is likely to have had a moment ago, or to expect closed.
fn bind_aside(address: IpAddr) -> io::Result<TcpListener> {
    let width = u128::from(ASIDE.end() - ASIDE.start()) + 1;
    let aside = (0..ATTEMPTS).find_map(|_| {
        let port = ASIDE.start() + u16::try_from(random() % width).unwrap_or(0);
        bind(SocketAddr::new(address, port)).ok()
    });
    aside.map_or_else(|| bind(SocketAddr::new(address, 0)), Ok)
}

/// A listening socket.
///
/// # Errors
/// What the kernel answers to socket, bind and listen.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port that a run before us had may be taken again at once; two listeners at a time are still refused.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// `ip_local_port_range` of the network namespace that this thread is in, for both families; else the kernel's default.
fn ephemeral() -> [u16; 2] {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().filter_map(|port| port.parse().ok());
    ports.next().zip(ports.next()).map_or([32_768, 60_999], |(first, last)| [first, last])
}
