//! The addresses of this network namespace.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

/// All of them, of every interface, but for those of loopback.
///
/// # Errors
/// What the kernel answers.
pub fn read() -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    super::dump(NETLINK_ROUTE, RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
        if let RouteNetlinkMessage::NewAddress(message) = message {
            found.extend(own(&message).filter(|address| !address.is_loopback()));
        }
    })?;
    Ok(found)
}

/// On a point-to-point link `Address` is the other side's, and `Local` ours.
fn own(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::AddressFamily;

    use super::*;

    fn message(attributes: Vec<AddressAttribute>) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.attributes = attributes;
        message
    }

    #[test]
    fn on_a_point_to_point_link_the_local_address_is_ours() {
        let (ours, peer) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let both = message(vec![AddressAttribute::Address(peer), AddressAttribute::Local(ours)]);
        assert_eq!(own(&both), Some(ours));
        assert_eq!(own(&message(vec![AddressAttribute::Address(peer)])), Some(peer));
    }

    #[test]
    fn loopback_is_not_told() {
        assert!(read().unwrap().iter().all(|address| !address.is_loopback()));
    }
}
