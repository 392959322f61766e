//! The url of a request as a user would write it, from what was on the wire (RFC 9112 §3.2, §3.3).

use std::fmt::Write;
use std::net::SocketAddr;

use crate::exchange::{Exchange, Protocol};
use crate::head::{Head, RequestLine};
use crate::text::decode;

/// A request's url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Absolute, and nothing but visible ASCII: other bytes are percent-encoded.
    pub text: String,
    /// The raw request target, where it cannot be derived from `text`: it was not in origin form, or held other bytes.
    pub target: Option<String>,
}

/// The url that an exchange's request asks for.
pub fn of(exchange: &Exchange) -> Url {
    of_head(&Head::parse(&exchange.request.head), exchange)
}

/// As [`of`], with the head of the exchange's request parsed already.
pub fn of_head(head: &Head<'_>, exchange: &Exchange) -> Url {
    let scheme = Scheme { websocket: exchange.protocol == Protocol::WebSocket, secure: exchange.tls.is_some() };
    read(head, exchange.connection.server, scheme)
}

/// What goes without saying in a request target in origin form.
#[derive(Debug, Clone, Copy, Default)]
struct Scheme {
    websocket: bool,
    /// It came out of TLS.
    secure: bool,
}

impl Scheme {
    fn name(self) -> &'static str {
        match (self.websocket, self.secure) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "ws",
            (true, true) => "wss",
        }
    }

    fn port(self) -> u16 {
        if self.secure { 443 } else { 80 }
    }
}

fn read(head: &Head<'_>, server: SocketAddr, scheme: Scheme) -> Url {
    let RequestLine { method, target, version } = head.start.request();
    let raw = || Some(decode(target).into_owned());
    if let Some(rest) = behind_scheme(target) {
        // HTTP/2 has no request target: its parts were put together for us (RFC 9113 §8.3.1).
        return match version == b"HTTP/2" {
            true if scheme.websocket => Url { text: format!("{}{}", scheme.name(), visible(rest)), target: None },
            true => Url { text: visible(target), target: None },
            false => Url { text: visible(target), target: raw() },
        };
    }
    let name = scheme.name();
    if method == b"CONNECT" && !target.is_empty() {
        return Url { text: format!("{name}://{}", visible(target)), target: raw() };
    }
    let host = head.fields().find(|field| field.is("host")).map(|field| field.unfolded().into_owned());
    let authority = match host {
        Some(host) if is_authority(&host) => visible(&host),
        _ => address(server, scheme.port()),
    };
    if target.first() == Some(&b'/') {
        let plain = target.iter().all(u8::is_ascii_graphic);
        let text = format!("{name}://{authority}{}", visible(target));
        return Url { text, target: if plain { None } else { raw() } };
    }
    Url { text: format!("{name}://{authority}"), target: raw() }
}

/// `%41` becomes `A`; what is no such escape stays, and what is no UTF-8 afterwards is read as ISO 8859-1.
pub fn percent_decoded(text: &str) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| Some(hex(after.first())? * 16 + hex(after.get(1))?)).flatten();
        match escaped.and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    decode(&bytes).into_owned()
}

/// Host and port of a url, as written there.
pub fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Path and query of a url; `/` when it has none.
pub fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or("/")
}

/// The host of an authority, without port and brackets.
pub fn host(authority: &str) -> &str {
    if let Some(bracketed) = authority.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.contains(':') => host,
        _ => authority,
    }
}

/// What follows the scheme of an absolute target, `://` included (RFC 3986 §3.1).
fn behind_scheme(target: &[u8]) -> Option<&[u8]> {
    let scheme = target.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    target.first().filter(|first| first.is_ascii_alphabetic())?;
    target.get(scheme..).filter(|rest| rest.starts_with(b"://"))
}

fn is_authority(host: &[u8]) -> bool {
    !host.is_empty() && host.iter().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\\"<>".contains(byte))
}

/// As it stands in a url: the port that goes without saying goes.
fn address(server: SocketAddr, unsaid: u16) -> String {
    let text = server.to_string();
    let short = text.strip_suffix(&format!(":{unsaid}")).map(ToOwned::to_owned);
    short.unwrap_or(text)
}

fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_graphic() {
            text.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(head: &str, server: &str, scheme: Scheme) -> (String, Option<String>) {
        let url = read(&Head::parse(head.as_bytes()), server.parse().unwrap(), scheme);
        (url.text, url.target)
    }

    #[test]
    fn what_came_out_of_tls_or_became_a_websocket_says_so_in_its_scheme() {
        let secure = Scheme { secure: true, ..Scheme::default() };
        let (ws, wss) = (Scheme { websocket: true, ..Scheme::default() }, Scheme { websocket: true, secure: true });
        for (head, server, scheme, text) in [
            ("GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "10.0.0.1:443", secure, "https://x/a"),
            ("GET /a HTTP/1.0\r\n\r\n", "10.0.0.1:443", secure, "https://10.0.0.1/a"),
            ("GET /a HTTP/1.0\r\n\r\n", "10.0.0.1:80", secure, "https://10.0.0.1:80/a"),
            ("GET /a HTTP/1.1\r\nHost: x:81\r\n\r\n", "10.0.0.1:81", ws, "ws://x:81/a"),
            ("GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "10.0.0.1:443", wss, "wss://x/a"),
            ("GET https://x/y?z HTTP/2\r\n\r\n", "10.0.0.1:443", secure, "https://x/y?z"),
            ("GET http://x/y HTTP/2\r\n\r\n", "10.0.0.1:80", Scheme::default(), "http://x/y"),
            ("CONNECT https://x/chat HTTP/2\r\n:protocol: websocket\r\n\r\n", "10.0.0.1:443", wss, "wss://x/chat"),
        ] {
            assert_eq!(url(head, server, scheme), (text.to_owned(), None), "{head:?}");
        }
    }

    #[test]
    fn every_form_of_request_target_gives_an_absolute_url() {
        let some = |text: &str| Some(text.to_owned());
        for (head, server, text, target) in [
            ("GET /a?b#c HTTP/1.1\r\nHOST: x.y:81\r\n\r\n", "10.0.0.1:80", "http://x.y:81/a?b#c", None),
            ("GET /a HTTP/1.0\r\n\r\n", "10.0.0.1:80", "http://10.0.0.1/a", None),
            ("GET /a HTTP/1.0\r\n\r\n", "10.0.0.1:8080", "http://10.0.0.1:8080/a", None),
            ("GET /a HTTP/1.0\r\n\r\n", "[::1]:80", "http://[::1]/a", None),
            ("GET /a HTTP/1.1\r\nHost: \r\n\r\n", "[::1]:8080", "http://[::1]:8080/a", None),
            ("GET /a HTTP/1.1\r\nHost: a b/c\r\n\r\n", "[::1]:8080", "http://[::1]:8080/a", None),
            ("GET http://x/y HTTP/1.1\r\nHost: z\r\n\r\n", "10.0.0.1:80", "http://x/y", some("http://x/y")),
            ("CONNECT x:443 HTTP/1.1\r\nHost: z\r\n\r\n", "10.0.0.1:80", "http://x:443", some("x:443")),
            ("OPTIONS * HTTP/1.1\r\nHost: z\r\n\r\n", "10.0.0.1:80", "http://z", some("*")),
            ("GET /\u{fc} x HTTP/1.1\r\nHost: z\r\n\r\n", "10.0.0.1:80", "http://z/%C3%BC%20x", some("/\u{fc} x")),
            ("", "10.0.0.1:80", "http://10.0.0.1", some("")),
        ] {
            assert_eq!(url(head, server, Scheme::default()), (text.to_owned(), target), "{head:?}");
        }
    }

    #[test]
    fn a_url_falls_into_its_parts() {
        for (url, authority_is, host_is, path_is) in [
            ("http://a:80/b?c", "a:80", "a", "/b?c"),
            ("http://[::1]:80/b", "[::1]:80", "::1", "/b"),
            ("http://a", "a", "a", "/"),
            ("http://u:p@a?q", "a", "a", "?q"),
        ] {
            assert_eq!((authority(url), host(authority(url)), path(url)), (authority_is, host_is, path_is));
        }
    }
}
