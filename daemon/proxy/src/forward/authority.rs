//! Where a client wants to go: a host and a port, as CONNECT, SOCKS and absolute-form requests name them. Strict, for
//! what two programs read differently is a hole (RFC 9110 §17.1, RFC 3986 §3.2). It resolves nothing.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The longest name of a host (RFC 1035 §2.3.4, with a dot at its end).
const LONGEST: usize = 254;

/// A host: a name that has to be resolved, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// As the client wrote it.
    Name(String),
    Address(IpAddr),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    pub host: Host,
    /// Never 0.
    pub port: u16,
}

/// Why a text is no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no host")]
    NoHost,
    #[error("the host is longer than {LONGEST} bytes")]
    TooLong,
    #[error("the host has a character that no host has")]
    Character,
    #[error("the host looks like an IPv4 address and is none")]
    LikeIpv4,
    #[error("the brackets do not hold an IPv6 address")]
    Brackets,
    #[error("an IPv6 address with a zone means something on its own host only")]
    Zone,
    #[error("there is no port")]
    NoPort,
    #[error("the port is no number from 1 to 65535")]
    Port,
    #[error("there is a user in it")]
    User,
}

impl Authority {
    /// `host:port`, as in the target of CONNECT (RFC 9110 §9.3.6).
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        Self::with_default(text, None)
    }

    /// `host` or `host:port`, as in the target of a request (RFC 9110 §4.2.1).
    ///
    /// # Errors
    /// When it is anything else. An empty port counts as none.
    pub fn with_default(text: &[u8], default: Option<u16>) -> Result<Self, Error> {
        if text.contains(&b'@') {
            return Err(Error::User);
        }
        let (host, rest) = match text.strip_prefix(b"[") {
            Some(inner) => {
                let end = inner.iter().position(|byte| *byte == b']').ok_or(Error::Brackets)?;
                let (inner, rest) = inner.split_at(end);
                (Host::ipv6(inner)?, rest.get(1..).unwrap_or_default())
            }
            None => {
                let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
                let (host, rest) = text.split_at(end);
                (Host::parse(host)?, rest)
            }
        };
        let port = match (rest, default) {
            ([] | [b':'], Some(default)) => default,
            ([] | [b':'], None) => return Err(Error::NoPort),
            ([b':', digits @ ..], _) => port(digits)?,
            // Behind the bracket of an address.
            _ => return Err(Error::Brackets),
        };
        Ok(Self { host, port })
    }
}

/// An authority as it may be shown: a user and password are nobody's business.
pub fn shown(text: &[u8]) -> String {
    let user = text.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
    let (user, rest) = text.split_at(user);
    let user = if user.is_empty() { "" } else { "…@" };
    format!("{user}{}", String::from_utf8_lossy(rest).escape_debug())
}

impl Host {
    /// A name or an IPv4 address; or an IPv6 address without brackets, as SOCKS may carry one.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let name = match text {
            [] => return Err(Error::NoHost),
            _ if text.len() > LONGEST => return Err(Error::TooLong),
            _ if text.contains(&b':') => return Self::ipv6(text),
            _ => std::str::from_utf8(text).map_err(|_| Error::Character)?,
        };
        if let Ok(address) = name.parse() {
            return Ok(Self::Address(address));
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !name.bytes().all(fits) || name.starts_with('.') || name.contains("..") {
            return Err(Error::Character);
        }
        // `127.1` and `2130706433` are addresses to some programs and names to others.
        let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
            return Err(Error::LikeIpv4);
        }
        Ok(Self::Name(name.to_owned()))
    }

    fn ipv6(text: &[u8]) -> Result<Self, Error> {
        if text.contains(&b'%') {
            return Err(Error::Zone);
        }
        let address = std::str::from_utf8(text).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
        address.map(|address| Self::Address(address.into())).ok_or(Error::Brackets)
    }
}

fn port(digits: &[u8]) -> Result<u16, Error> {
    // Five digits, leading zeros included: `+80` and `000000080` are no ports.
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Error::Port);
    }
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok());
    number.filter(|port| *port != 0).ok_or(Error::Port)
}

impl From<SocketAddr> for Authority {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Address(address.ip()), port: address.port() }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read_as_they_stand() {
        for (text, host, port) in [
            ("example.com:443", Host::Name("example.com".into()), 443),
            ("Example.COM.:1", Host::Name("Example.COM.".into()), 1),
            ("my_service.ns.svc:65535", Host::Name("my_service.ns.svc".into()), 65535),
            ("x:00080", Host::Name("x".into()), 80),
            ("10.0.0.1:80", Host::Address([10, 0, 0, 1].into()), 80),
            ("[::1]:80", Host::Address(Ipv6Addr::LOCALHOST.into()), 80),
            ("[::ffff:127.0.0.1]:80", Host::Address("::ffff:127.0.0.1".parse().unwrap()), 80),
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), Ok(Authority { host, port }), "{text}");
        }
    }

    #[test]
    fn what_two_programs_could_read_differently_is_no_authority() {
        for (text, error) in [
            ("", Error::NoHost),
            (":80", Error::NoHost),
            ("example.com", Error::NoPort),
            ("example.com:", Error::NoPort),
            ("[::1]", Error::NoPort),
            ("example.com:0", Error::Port),
            ("example.com:65536", Error::Port),
            ("example.com:+80", Error::Port),
            ("example.com:80a", Error::Port),
            ("example.com:000080", Error::Port),
            ("example.com: 80", Error::Port),
            ("::1:80", Error::NoHost),
            ("a:b:80", Error::Port),
            ("[::1", Error::Brackets),
            ("[]:80", Error::Brackets),
            ("[1.2.3.4]:80", Error::Brackets),
            ("[::1]x:80", Error::Brackets),
            ("[fe80::1%eth0]:80", Error::Zone),
            ("user@example.com:80", Error::User),
            ("user:password@example.com:80", Error::User),
            ("exa mple:80", Error::Character),
            ("exa/mple:80", Error::Character),
            ("exämple:80", Error::Character),
            (".example:80", Error::Character),
            ("a..b:80", Error::Character),
            ("a\0b:80", Error::Character),
            ("127.1:80", Error::LikeIpv4),
            ("2130706433:80", Error::LikeIpv4),
            ("0x7f.0x1:80", Error::LikeIpv4),
            ("1.2.3.4.:80", Error::LikeIpv4),
            ("256.1.1.1:80", Error::LikeIpv4),
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), Err(error), "{text}");
        }
        let long = format!("{}:80", "a".repeat(LONGEST + 1));
        assert_eq!(Authority::parse(long.as_bytes()), Err(Error::TooLong));
    }

    #[test]
    fn a_user_and_password_are_not_shown() {
        for (text, expected) in
            [("u:s3cret@a:1", "…@a:1"), ("u@s3cret@a", "…@a"), ("@", "…@"), ("a\n:1", "a\\n:1"), ("", "")]
        {
            assert_eq!(shown(text.as_bytes()), expected);
        }
    }

    #[test]
    fn a_port_may_be_left_out_where_there_is_a_default() {
        for text in ["h", "h:", "h:80"] {
            assert_eq!(Authority::with_default(text.as_bytes(), Some(80)).unwrap().port, 80, "{text}");
        }
        assert_eq!(Authority::with_default(b"[::1]", Some(80)).unwrap().to_string(), "[::1]:80");
    }
}
