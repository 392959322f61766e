//! What the user wants left alone: networks, names and ports. Names are looked up again from time to time, by whoever
//! asks.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use nodetap_core::exchange::Direction;

use crate::netlink::routes::Prefix;
use crate::probes::Maps;

/// One `--ignore-host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    Network(Prefix),
    Name(String),
}

impl Ignored {
    /// An address, a network in CIDR notation, or else a name.
    ///
    /// # Errors
    /// When it is none of these, with what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        match (address.parse::<IpAddr>(), length) {
            (Ok(address), None) => Ok(Self::Network(Prefix::new(address, 128))),
            (Ok(address), Some(length)) => {
                let most = if address.is_ipv4() { 32 } else { 128 };
                let length = length.parse::<u8>().ok().filter(|length| *length <= most);
                length
                    .map(|length| Self::Network(Prefix::new(address, length)))
                    .ok_or_else(|| format!("`{text}`: the length of a prefix is a number up to {most}"))
            }
            (Err(_), None) if !text.is_empty() && !text.contains(char::is_whitespace) => {
                Ok(Self::Name(text.to_owned()))
            }
            _ => Err(format!("`{text}` is no address, no network (10.0.0.0/8) and no name")),
        }
    }

    /// The prefixes that it means now.
    ///
    /// # Errors
    /// When a name cannot be resolved, with what the resolver said.
    pub fn prefixes(&self) -> Result<BTreeSet<Prefix>, String> {
        match self {
            Self::Network(prefix) => Ok(BTreeSet::from([*prefix])),
            Self::Name(name) => match (name.as_str(), 0).to_socket_addrs() {
                Ok(found) => Ok(found.map(|address| Prefix::new(address.ip(), 128)).collect()),
                Err(error) => Err(format!("cannot resolve `{name}`: {error}")),
            },
        }
    }
}

/// What is left alone, and what each part of it meant when it was last looked up with success.
#[derive(Debug, Clone, Default)]
pub struct IgnoredHosts(Vec<(Ignored, BTreeSet<Prefix>)>);

impl IgnoredHosts {
    /// Looks everything up for the first time.
    ///
    /// # Errors
    /// When a text means nothing, or a name cannot be resolved: what is to be left alone must be known beforehand.
    pub fn resolve(texts: &[String]) -> Result<Self, String> {
        let resolve = |text: &String| {
            let ignored = Ignored::parse(text)?;
            let prefixes = ignored.prefixes()?;
            Ok((ignored, prefixes))
        };
        texts.iter().map(resolve).collect::<Result<_, String>>().map(Self)
    }

    /// Looks the names up again. One that cannot be resolved keeps what it meant.
    pub fn refresh(&mut self) {
        for (ignored, prefixes) in &mut self.0 {
            match ignored.prefixes() {
                Ok(found) => *prefixes = found,
                Err(error) => tracing::warn!("{error}; its addresses stay as they were"),
            }
        }
    }

    /// All prefixes.
    pub fn prefixes(&self) -> BTreeSet<Prefix> {
        self.0.iter().flat_map(|(_, prefixes)| prefixes).copied().collect()
    }

    /// Is there anything to look up again?
    pub fn has_names(&self) -> bool {
        self.0.iter().any(|(ignored, _)| matches!(ignored, Ignored::Name(_)))
    }
}

/// What is left alone of one direction. Inbound: the clients' addresses and the target's ports; outbound: the servers'
/// addresses and ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    pub prefixes: BTreeSet<Prefix>,
    pub ports: BTreeSet<u16>,
}

impl Ignore {
    /// Is a connection left alone whose other end has this address, and which goes to this port?
    pub fn covers(&self, address: IpAddr, port: u16) -> bool {
        self.ports.contains(&port) || self.prefixes.iter().any(|prefix| prefix.contains(address))
    }
}

/// The hooks' lists of one target.
#[derive(Debug)]
pub struct Ignoring {
    maps: Arc<Maps>,
    /// As the hooks have them.
    inbound: Mutex<Ignore>,
    outbound: Mutex<Ignore>,
}

impl Ignoring {
    pub(super) fn nothing(maps: Arc<Maps>) -> Self {
        Self { maps, inbound: Mutex::default(), outbound: Mutex::default() }
    }

    /// What is left alone of a direction from now on, instead of what was before. What is in both is left alone all the
    /// time.
    ///
    /// # Errors
    /// When the hooks do not take all of it; what they have taken stays, and the next call completes it.
    pub fn set(&self, direction: Direction, wanted: &Ignore) -> io::Result<()> {
        let list = match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        };
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        let Ignore { prefixes, ports } = &mut *list;
        change(prefixes, &wanted.prefixes, |prefix, ignored| self.maps.ignore(direction, prefix, ignored))?;
        change(ports, &wanted.ports, |port, ignored| self.maps.ignore_port(direction, port, ignored))
    }
}

/// Brings `known` to `wanted`, entry by entry.
fn change<T: Ord + Copy>(
    known: &mut BTreeSet<T>,
    wanted: &BTreeSet<T>,
    mut tell: impl FnMut(T, bool) -> io::Result<()>,
) -> io::Result<()> {
    for new in wanted.difference(known).copied().collect::<Vec<_>>() {
        tell(new, true)?;
        known.insert(new);
    }
    for gone in known.difference(wanted).copied().collect::<Vec<_>>() {
        tell(gone, false)?;
        known.remove(&gone);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_alone_is_known_by_its_address_or_its_port() {
        let prefix = |text: &str| Ignored::parse(text).unwrap().prefixes().unwrap();
        let prefixes = ["10.8.0.0/13", "fd00::/8", "192.0.2.7"].iter().flat_map(|text| prefix(text)).collect();
        let ignore = Ignore { prefixes, ports: BTreeSet::from([25]) };
        for (address, port, expected) in [
            ("10.15.255.255", 80, true),
            ("10.16.0.0", 80, false),
            ("::ffff:10.8.0.1", 80, true),
            ("fd12::1", 80, true),
            ("fe00::1", 80, false),
            ("192.0.2.7", 80, true),
            ("192.0.2.6", 80, false),
            ("192.0.2.6", 25, true),
        ] {
            assert_eq!(ignore.covers(address.parse().unwrap(), port), expected, "{address} {port}");
        }
        for address in ["192.0.2.7", "2001:db8::1", "127.0.0.1"] {
            assert!(Prefix::ALL.contains(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn addresses_networks_and_names_are_told_apart() {
        let network = |address: &str, length| Ok(Ignored::Network(Prefix::new(address.parse().unwrap(), length)));
        assert_eq!(Ignored::parse("10.0.0.1"), network("10.0.0.1", 32));
        assert_eq!(Ignored::parse("10.0.0.0/8"), network("10.0.0.0", 8));
        assert_eq!(Ignored::parse("fd00::/8"), network("fd00::", 8));
        assert_eq!(Ignored::parse("db.internal"), Ok(Ignored::Name("db.internal".into())));
        assert!(IgnoredHosts::resolve(&["a.name.that.is.not.there.invalid".into()]).is_err());
        for wrong in ["", "10.0.0.0/33", "fd00::/129", "a b", "db.internal/8"] {
            assert!(Ignored::parse(wrong).is_err(), "{wrong}");
        }
    }
}
