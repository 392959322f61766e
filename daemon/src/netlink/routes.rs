//! The routes of this network namespace, as far as two questions need them: would the kernel itself say "no route" to
//! this address, and which source address would it choose? Rules (`ip rule`) are not looked at: all tables count, so
//! that the answer errs towards "there is a route".

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType};
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::event::{PollFd, PollFlags, Timespec};

/// A destination prefix, IPv4 mapped into IPv6 (so its length there is 96 more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    pub address: Ipv6Addr,
    /// 0 to 128.
    pub length: u8,
}

impl Prefix {
    /// The prefix of this length (0 to 32, or to 128) of an address.
    pub fn new(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(v4) => Self { address: v4.to_ipv6_mapped(), length: length.min(32) + 96 },
            IpAddr::V6(v6) => Self { address: v6, length: length.min(128) },
        }
    }

    /// Every address of both families.
    pub const ALL: Self = Self { address: Ipv6Addr::UNSPECIFIED, length: 0 };

    /// Is it one of these?
    pub fn contains(self, address: IpAddr) -> bool {
        let mapped = Self::new(address, 128).address;
        let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
        (mapped.to_bits() ^ self.address.to_bits()) & mask == 0
    }
}

/// Where a prefix leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Packets go out, from this address if it is known.
    Usable(Option<IpAddr>),
    /// Unreachable, prohibited or blackhole.
    Barred,
}

/// The routes, longest prefix wins.
pub type Table = BTreeMap<Prefix, Way>;

/// Reads them from the kernel.
///
/// # Errors
/// What the kernel answers.
pub fn read() -> io::Result<Table> {
    let mut addresses = Vec::new();
    super::dump(NETLINK_ROUTE, RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
        if let RouteNetlinkMessage::NewAddress(address) = message {
            addresses.push(address);
        }
    })?;
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        super::dump(NETLINK_ROUTE, RouteNetlinkMessage::GetRoute(request), |message| {
            if let RouteNetlinkMessage::NewRoute(route) = message {
                routes.push(route);
            }
        })?;
    }
    Ok(table(&routes, &addresses))
}

/// The pure part: what the kernel's lists mean.
fn table(routes: &[RouteMessage], addresses: &[AddressMessage]) -> Table {
    let mut best: BTreeMap<Prefix, (u32, Way)> = BTreeMap::new();
    for route in routes {
        let Some((prefix, metric, way)) = entry(route, addresses) else { continue };
        let better = match best.get(&prefix) {
            None => true,
            // A usable way anywhere means that the kernel may well go it; among those the lower metric is taken.
            Some((_, Way::Barred)) => true,
            Some((known, Way::Usable(_))) => way != Way::Barred && metric < *known,
        };
        if better {
            best.insert(prefix, (metric, way));
        }
    }
    best.into_iter().map(|(prefix, (_, way))| (prefix, way)).collect()
}

fn entry(route: &RouteMessage, addresses: &[AddressMessage]) -> Option<(Prefix, u32, Way)> {
    if route.header.flags.contains(RouteFlags::Dead) {
        return None;
    }
    let family = route.header.address_family;
    let (mut destination, mut source, mut interface, mut metric) = (None, None, None, 0);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::MultiPath(hops) => interface = interface.or(hops.first().map(|hop| hop.interface_index)),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let any = match family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let destination = destination.unwrap_or(any);
    let way = match route.header.kind {
        RouteType::Unicast => {
            Way::Usable(source.or_else(|| interface.and_then(|index| primary(addresses, index, &any))))
        }
        // One's own address is reached from itself; 127.0.0.0/8 carries its preferred source.
        RouteType::Local if route.header.destination_prefix_length >= 32 => Way::Usable(source.or(Some(destination))),
        RouteType::Local => Way::Usable(source),
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Way::Barred,
        _ => return None,
    };
    Some((Prefix::new(destination, route.header.destination_prefix_length), metric, way))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// The first address of an interface that is valid beyond its link.
fn primary(addresses: &[AddressMessage], interface: u32, family: &IpAddr) -> Option<IpAddr> {
    addresses
        .iter()
        .filter(|address| address.header.index == interface && address.header.scope == AddressScope::Universe)
        .flat_map(|address| &address.attributes)
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) | AddressAttribute::Address(ip) if ip.is_ipv4() == family.is_ipv4() => {
                Some(*ip)
            }
            _ => None,
        })
}

/// Tells when routes or addresses change.
#[derive(Debug)]
pub struct Changes {
    socket: netlink_sys::Socket,
}

/// rtnetlink(7) groups: links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes.
const GROUPS: [u32; 5] = [1, 5, 9, 7, 11];

impl Changes {
    /// Begins to listen; what changes from now on is told.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn subscribe() -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Waits for a change, or for the time to be over. Changes that came together are told once.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN)];
        if !matches!(rustix::event::poll(&mut fds, Timespec::try_from(timeout).ok().as_ref()), Ok(ready) if ready > 0) {
            return false;
        }
        // An overrun (ENOBUFS) means that there were changes, too.
        while self.socket.recv_from_full().is_ok() {}
        true
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_reaches_itself() {
        let table = read().unwrap();
        let loopback = Prefix::new("127.0.0.0".parse().unwrap(), 8);
        assert_eq!(table.get(&loopback), Some(&Way::Usable(Some("127.0.0.1".parse().unwrap()))), "{table:?}");
    }
}
