//! What can be said to `nodetap proxy`.

use std::net::{SocketAddr, ToSocketAddrs};

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use crate::run::options::Recording;
use crate::trust;

/// `nodetap proxy`.
#[derive(Debug, Clone, Args)]
pub struct Proxy {
    #[command(flatten)]
    pub recording: Recording,
    #[command(flatten)]
    pub tls_out: trust::Options,
    #[command(flatten)]
    pub tls_in: trust::InboundOptions,
    /// Listen on ADDR for clients of a forward proxy: HTTP, CONNECT, SOCKS 4, 4a and 5; may be repeated
    #[arg(long, required_unless_present = "reverse", value_name = "ADDR", value_parser = resolve)]
    pub forward: Vec<SocketAddr>,
    /// Listen on ADDR and pass everything on to UPSTREAM; may be repeated
    #[arg(long, value_name = "ADDR=UPSTREAM", value_parser = reverse)]
    pub reverse: Vec<Reverse>,
    /// What clients are expected to speak; what arrives is served whatever was said
    #[arg(long, value_name = "PROTOCOL")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Seconds that a destination of --forward may take to be resolved and to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub connect_timeout: u16,
    /// Pass on without recording
    #[arg(long)]
    pub no_record: bool,
}

/// A listener and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reverse {
    pub listen: SocketAddr,
    pub upstream: SocketAddr,
}

/// What clients speak to the proxy: the inbound side before the colon, the outbound side behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    Tcp,
    Http,
    Socks,
    TcpHttp,
    TcpSocks,
}

impl ValueEnum for ProxyProtocol {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Tcp, Self::Http, Self::Socks, Self::TcpHttp, Self::TcpSocks]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

impl ProxyProtocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Socks => "socks",
            Self::TcpHttp => "tcp:http",
            Self::TcpSocks => "tcp:socks",
        }
    }
}

impl Proxy {
    /// Does what was said make sense together?
    ///
    /// # Errors
    /// One sentence that says what does not, and what would.
    pub fn check(&self) -> Result<(), String> {
        let Some(protocol) = self.proxy_protocol else { return Ok(()) };
        let (forward, reverse) = (!self.forward.is_empty(), !self.reverse.is_empty());
        let instead = match (protocol, forward, reverse) {
            (ProxyProtocol::Tcp, true, _) => "a forward proxy is asked by HTTP or SOCKS: say http or socks",
            (ProxyProtocol::Http | ProxyProtocol::Socks, _, true) => {
                "what arrives at --reverse is passed on as it is: say tcp, or with --forward tcp:http or tcp:socks"
            }
            (ProxyProtocol::TcpHttp | ProxyProtocol::TcpSocks, true, false) => "without --reverse say http or socks",
            (ProxyProtocol::TcpHttp | ProxyProtocol::TcpSocks, false, _) => "without --forward say tcp",
            _ => return Ok(()),
        };
        Err(format!("--proxy-protocol {}: {instead}", protocol.name()))
    }
}

fn reverse(text: &str) -> Result<Reverse, String> {
    let (listen, upstream) =
        text.split_once('=').ok_or("expected ADDR=UPSTREAM, for example 127.0.0.1:4143=127.0.0.1:8080")?;
    Ok(Reverse { listen: resolve(listen)?, upstream: resolve(upstream)? })
}

/// `8080` and `:8080` mean this host, as for other tools.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix(':').unwrap_or(text);
    let text = match bare.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => text.to_owned(),
    };
    let mut found = text.to_socket_addrs().map_err(|error| format!("cannot resolve `{text}`: {error}"))?;
    found.next().ok_or_else(|| format!("`{text}` has no address"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        proxy: Proxy,
    }

    fn said(words: &[&str]) -> Proxy {
        Line::try_parse_from([&["proxy"], words].concat()).unwrap().proxy
    }

    #[test]
    fn a_reverse_names_a_listener_and_an_upstream() {
        let expected = Reverse { listen: "127.0.0.1:4143".parse().unwrap(), upstream: "[::1]:8080".parse().unwrap() };
        assert_eq!(reverse("4143=[::1]:8080"), Ok(expected));
        assert_eq!(reverse(":4143=[::1]:8080"), Ok(expected));
        assert!(reverse("4143").is_err());
        assert!(reverse("4143=nowhere:x").is_err());
    }

    #[test]
    fn one_listener_at_least_is_named() {
        assert!(Line::try_parse_from(["proxy"]).is_err());
        let both = said(&["--forward", "4140", "--forward", "[::1]:4140", "--reverse", "4143=8080"]);
        assert_eq!((both.forward.len(), both.reverse.len()), (2, 1));
        assert_eq!(both.forward[0], "127.0.0.1:4140".parse().unwrap());
    }

    #[test]
    fn a_protocol_must_fit_the_listeners() {
        let (forward, reverse) = (["--forward", "1"], ["--reverse", "2=3"]);
        let dual = [forward, reverse].concat();
        for (listeners, fits) in [
            (&forward[..], &["http", "socks"][..]),
            (&reverse[..], &["tcp"][..]),
            (&dual[..], &["tcp:http", "tcp:socks"][..]),
        ] {
            for protocol in ["tcp", "http", "socks", "tcp:http", "tcp:socks"] {
                let checked = said(&[listeners, &["--proxy-protocol", protocol]].concat()).check();
                assert_eq!(checked.is_ok(), fits.contains(&protocol), "{listeners:?} {protocol}: {checked:?}");
            }
        }
        assert!(Line::try_parse_from(["proxy", "--forward", "1", "--proxy-protocol", "quic"]).is_err());
    }
}
