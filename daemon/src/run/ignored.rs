//! What the user wants left alone: networks and names. Names are looked up again from time to time.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs};

use crate::netlink::routes::Prefix;

/// One `--ignore-host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ignored {
    Network(Prefix),
    Name(String),
}

impl Ignored {
    /// An address, a network in CIDR notation, or else a name.
    ///
    /// # Errors
    /// When it is none of these, with what was expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
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

    /// The prefixes that it means now. A name that cannot be resolved means nothing for the moment.
    pub(super) fn prefixes(&self) -> Vec<Prefix> {
        match self {
            Self::Network(prefix) => vec![*prefix],
            Self::Name(name) => match (name.as_str(), 0).to_socket_addrs() {
                Ok(found) => found.map(|address| Prefix::new(address.ip(), 128)).collect(),
                Err(error) => {
                    tracing::warn!(name, %error, "--ignore-host: cannot resolve the name for now");
                    Vec::new()
                }
            },
        }
    }
}

/// All prefixes that these mean now.
pub(super) fn prefixes(ignored: &[Ignored]) -> BTreeSet<Prefix> {
    ignored.iter().flat_map(Ignored::prefixes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_networks_and_names_are_told_apart() {
        let network = |address: &str, length| Ok(Ignored::Network(Prefix::new(address.parse().unwrap(), length)));
        assert_eq!(Ignored::parse("10.0.0.1"), network("10.0.0.1", 32));
        assert_eq!(Ignored::parse("10.0.0.0/8"), network("10.0.0.0", 8));
        assert_eq!(Ignored::parse("fd00::/8"), network("fd00::", 8));
        assert_eq!(Ignored::parse("db.internal"), Ok(Ignored::Name("db.internal".into())));
        for wrong in ["", "10.0.0.0/33", "fd00::/129", "a b", "db.internal/8"] {
            assert!(Ignored::parse(wrong).is_err(), "{wrong}");
        }
    }
}
