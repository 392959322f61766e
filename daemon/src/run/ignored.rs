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

    /// The prefixes that it means now.
    ///
    /// # Errors
    /// When a name cannot be resolved, with what the resolver said.
    pub(super) fn prefixes(&self) -> Result<BTreeSet<Prefix>, String> {
        match self {
            Self::Network(prefix) => Ok(BTreeSet::from([*prefix])),
            Self::Name(name) => match (name.as_str(), 0).to_socket_addrs() {
                Ok(found) => Ok(found.map(|address| Prefix::new(address.ip(), 128)).collect()),
                Err(error) => Err(format!("--ignore-host: cannot resolve `{name}`: {error}")),
            },
        }
    }
}

/// What is left alone, and what each part of it meant when it was last looked up with success.
#[derive(Debug, Clone, Default)]
pub(super) struct IgnoredHosts(Vec<(Ignored, BTreeSet<Prefix>)>);

impl IgnoredHosts {
    /// Looks everything up for the first time.
    ///
    /// # Errors
    /// When a text means nothing, or a name cannot be resolved: what is to be left alone must be known beforehand.
    pub(super) fn resolve(texts: &[String]) -> Result<Self, String> {
        let resolve = |text: &String| {
            let ignored = Ignored::parse(text)?;
            let prefixes = ignored.prefixes()?;
            Ok((ignored, prefixes))
        };
        texts.iter().map(resolve).collect::<Result<_, String>>().map(Self)
    }

    /// Looks the names up again. One that cannot be resolved keeps what it meant.
    pub(super) fn refresh(&mut self) {
        for (ignored, prefixes) in &mut self.0 {
            match ignored.prefixes() {
                Ok(found) => *prefixes = found,
                Err(error) => tracing::warn!("{error}; its addresses stay as they were"),
            }
        }
    }

    /// All prefixes.
    pub(super) fn prefixes(&self) -> BTreeSet<Prefix> {
        self.0.iter().flat_map(|(_, prefixes)| prefixes).copied().collect()
    }

    /// Is there anything to look up again?
    pub(super) fn has_names(&self) -> bool {
        self.0.iter().any(|(ignored, _)| matches!(ignored, Ignored::Name(_)))
    }
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
        assert!(IgnoredHosts::resolve(&["a.name.that.is.not.there.invalid".into()]).is_err());
        for wrong in ["", "10.0.0.0/33", "fd00::/129", "a b", "db.internal/8"] {
            assert!(Ignored::parse(wrong).is_err(), "{wrong}");
        }
    }
}
