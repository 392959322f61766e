//! Networks and addresses as annotations name them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// All addresses that begin with the same bits. What lies beyond them is zero, so that equal networks are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    length: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is no address and no network like 10.0.0.0/8 or fd00::/8")]
    NotANetwork(String),
    #[error("{0:?}: the length of a prefix is a number up to {1}")]
    Length(String, u8),
}

impl Network {
    /// The network of this length around an address; longer than the address has bits: the address alone. IPv4 that is
    /// written as IPv6 (`::ffff:10.0.0.0/104`) is IPv4.
    pub fn new(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4, length.min(32)),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) if length >= 96 => Self::v4(v4, length.min(128) - 96),
                _ => {
                    let length = length.min(128);
                    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                    Self { address: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), length }
                }
            },
        }
    }

    fn v4(v4: Ipv4Addr, length: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Self { address: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), length }
    }

    /// One address.
    pub fn host(address: IpAddr) -> Self {
        Self::new(address, 128)
    }

    /// Its first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits its addresses have in common: up to 32 (IPv4) or 128.
    pub fn length(self) -> u8 {
        self.length
    }

    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Self::new(address, self.length).address == self.address
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::NotANetwork(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(Error::Length(text.to_owned(), most));
            }
            Some(digits) => match digits.parse::<u8>() {
                Ok(length) if length <= most => length,
                _ => return Err(Error::Length(text.to_owned(), most)),
            },
        };
        Ok(Self::new(address, length))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl TryFrom<String> for Network {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn equal_networks_are_equal_however_they_are_written() {
        assert_eq!(network("10.1.2.3/8"), network("10.0.0.0/8"));
        assert_eq!(network("10.1.2.3"), network("10.1.2.3/32"));
        assert_eq!(network("::ffff:10.1.2.3/104"), network("10.0.0.0/8"));
        assert_eq!(network("fd00::1/8"), network("fd00::/8"));
        assert_eq!(network("0.0.0.0/0").to_string(), "0.0.0.0/0");
        assert_eq!(network("::/0").to_string(), "::/0");
        assert_ne!(network("0.0.0.0/0"), network("::/0"));
    }

    #[test]
    fn it_contains_what_begins_with_its_bits() {
        let contains = |text: &str, address: &str| network(text).contains(address.parse().unwrap());
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(!contains("0.0.0.0/0", "fd00::1"));
        assert!(contains("fd00::/9", "fd7f::1"));
        assert!(!contains("fd00::/9", "fd80::1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "web", "*"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
