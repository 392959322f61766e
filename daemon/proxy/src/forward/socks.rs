//! SOCKS 4, 4a (the protocol's memos) and 5 (RFC 1928, with user and password by RFC 1929): bytes to values and back.
//! Each reader says `None` while its message is not whole, and never reads beyond it. A user and a password are passed
//! over: they are nobody's business here, and never recorded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::authority::{Authority, Host};

/// The longest user or name of a SOCKS 4 request, in bytes without the zero behind it.
const TEXT: usize = 255;
/// The most bytes of any message.
pub(super) const LONGEST: usize = 8 + 2 * (TEXT + 1);

const CONNECT: u8 = 1;

/// A message, and how many bytes it was.
pub(super) type Read<T> = Result<Option<(T, usize)>, Error>;

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("of the SOCKS commands only CONNECT is served, and not {0}")]
    Command(u8),
    #[error("the user or the host of the SOCKS request is longer than {TEXT} bytes")]
    TooLong,
    #[error("the SOCKS client offers no method of authentication that is served")]
    Methods,
    #[error("the SOCKS message has the version {0}")]
    Version(u8),
    #[error("the SOCKS request has an address of the unknown type {0}")]
    AddressType(u8),
    #[error("the SOCKS request names no host: {0}")]
    Host(super::authority::Error),
    #[error("the SOCKS request names the port 0")]
    Port,
}

/// A request of SOCKS 4 or 4a.
pub(super) fn request4(bytes: &[u8]) -> Read<Authority> {
    let &[_, command, p1, p2, a, b, c, d, ref rest @ ..] = bytes else { return Ok(None) };
    if command != CONNECT {
        return Err(Error::Command(command));
    }
    let Some(user) = text(rest)? else { return Ok(None) };
    let (host, length) = match [a, b, c, d] {
        [0, 0, 0, last] if last != 0 => {
            let Some(name) = text(rest.get(user.len() + 1..).unwrap_or_default())? else { return Ok(None) };
            (Host::parse(name).map_err(Error::Host)?, user.len() + name.len() + 2)
        }
        octets => (Host::Address(octets.into()), user.len() + 1),
    };
    let port = port(p1, p2)?;
    Ok(Some((Authority { host, port }, 8 + length)))
}

/// Up to the zero, without it.
fn text(bytes: &[u8]) -> Result<Option<&[u8]>, Error> {
    match bytes.iter().take(TEXT + 1).position(|byte| *byte == 0) {
        Some(end) => Ok(bytes.get(..end)),
        None if bytes.len() > TEXT => Err(Error::TooLong),
        None => Ok(None),
    }
}

fn port(high: u8, low: u8) -> Result<u16, Error> {
    match u16::from_be_bytes([high, low]) {
        0 => Err(Error::Port),
        port => Ok(port),
    }
}

/// How a client of SOCKS 5 is to say who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    None,
    UserPassword,
}

impl Method {
    /// What the client is told.
    pub(super) fn answer(self) -> [u8; 2] {
        [5, if self == Self::None { 0 } else { 2 }]
    }
}

/// No method that is offered will do.
pub(super) const NO_METHOD: [u8; 2] = [5, 0xff];
/// Any user and any password will do.
pub(super) const WELCOME: [u8; 2] = [1, 0];
/// This is not RFC 1929.
pub(super) const UNWELCOME: [u8; 2] = [1, 1];

/// The methods that a client of SOCKS 5 offers.
pub(super) fn greeting(bytes: &[u8]) -> Read<Method> {
    let &[_, count, ref rest @ ..] = bytes else { return Ok(None) };
    let Some(methods) = rest.get(..usize::from(count)) else { return Ok(None) };
    let method = match methods {
        methods if methods.contains(&0) => Method::None,
        methods if methods.contains(&2) => Method::UserPassword,
        _ => return Err(Error::Methods),
    };
    Ok(Some((method, 2 + methods.len())))
}

/// User and password (RFC 1929 §2); only their length is of interest.
pub(super) fn credentials(bytes: &[u8]) -> Read<()> {
    match bytes {
        [version, ..] if *version != 1 => Err(Error::Version(*version)),
        [_, user, rest @ ..] => {
            let Some(password) = rest.get(usize::from(*user)) else { return Ok(None) };
            let length = 3 + usize::from(*user) + usize::from(*password);
            Ok((bytes.len() >= length).then_some(((), length)))
        }
        _ => Ok(None),
    }
}

/// A request of SOCKS 5.
pub(super) fn request5(bytes: &[u8]) -> Read<Authority> {
    match bytes {
        [version, ..] if *version != 5 => return Err(Error::Version(*version)),
        [_, command, ..] if *command != CONNECT => return Err(Error::Command(*command)),
        [_, _, _, kind, ..] if !matches!(kind, 1 | 3 | 4) => return Err(Error::AddressType(*kind)),
        _ => {}
    }
    let (host, rest, length) = match bytes {
        [_, _, _, 1, a, b, c, d, rest @ ..] => (Ok(Host::Address([*a, *b, *c, *d].into())), rest, 10),
        [_, _, _, 4, rest @ ..] => {
            let Some((octets, rest)) = rest.split_first_chunk::<16>() else { return Ok(None) };
            (Ok(Host::Address((*octets).into())), rest, 22)
        }
        [_, _, _, 3, count, rest @ ..] => {
            let Some((name, rest)) = rest.split_at_checked(usize::from(*count)) else { return Ok(None) };
            (Host::parse(name), rest, 7 + name.len())
        }
        _ => return Ok(None),
    };
    let &[high, low, ..] = rest else { return Ok(None) };
    let port = port(high, low)?;
    Ok(Some((Authority { host: host.map_err(Error::Host)?, port }, length)))
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is connected, from this address.
    Granted(SocketAddr),
    /// Anything that has no code of its own.
    Failed,
    /// By rule: a loop.
    NotAllowed,
    NetworkUnreachable,
    /// Also: its name has no address.
    HostUnreachable,
    Refused,
    /// Nobody answered in time ("TTL expired").
    TimedOut,
    CommandNotServed,
    AddressTypeNotServed,
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        match error {
            Error::Command(_) => Self::CommandNotServed,
            Error::AddressType(_) => Self::AddressTypeNotServed,
            Error::TooLong | Error::Methods | Error::Version(_) | Error::Host(_) | Error::Port => Self::Failed,
        }
    }
}

impl Reply {
    /// As SOCKS 4 says it: granted, or not.
    pub(super) fn encode4(self) -> Vec<u8> {
        let (code, bound) = match self {
            Self::Granted(SocketAddr::V4(bound)) => (0x5a, Some(bound)),
            Self::Granted(SocketAddr::V6(_)) => (0x5a, None),
            _ => (0x5b, None),
        };
        let (port, address) = bound.map_or((0, Ipv4Addr::UNSPECIFIED), |bound| (bound.port(), *bound.ip()));
        [&[0, code][..], &port.to_be_bytes(), &address.octets()].concat()
    }

    /// As SOCKS 5 says it (RFC 1928 §6).
    pub(super) fn encode5(self) -> Vec<u8> {
        let code = match self {
            Self::Granted(_) => 0,
            Self::Failed => 1,
            Self::NotAllowed => 2,
            Self::NetworkUnreachable => 3,
            Self::HostUnreachable => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
            Self::CommandNotServed => 7,
            Self::AddressTypeNotServed => 8,
        };
        let bound = match self {
            Self::Granted(bound) => bound,
            _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        };
        let mut reply = vec![5, code, 0];
        match bound.ip() {
            IpAddr::V4(v4) => {
                reply.push(1);
                reply.extend(v4.octets());
            }
            IpAddr::V6(v6) => {
                reply.push(4);
                reply.extend(Ipv6Addr::octets(&v6));
            }
        }
        reply.extend(bound.port().to_be_bytes());
        reply
    }
}

#[cfg(test)]
mod tests;
