//! The url of a request as a user would write it, from what was on the wire (RFC 9112 §3.2, §3.3).

use std::fmt::Write;
use std::net::SocketAddr;

use crate::exchange::Exchange;
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
    let head = Head::parse(&exchange.request.head);
    of_head(&head, exchange.connection.server)
}

/// As [`of`], from a parsed head and the address that was called.
pub fn of_head(head: &Head<'_>, server: SocketAddr) -> Url {
    let RequestLine { method, target, .. } = head.start.request();
    let raw = || Some(decode(target).into_owned());
    if is_absolute(target) {
        return Url { text: visible(target), target: raw() };
    }
    if method == b"CONNECT" && !target.is_empty() {
        return Url { text: format!("http://{}", visible(target)), target: raw() };
    }
    let host = head.fields().find(|field| field.is("host")).map(|field| field.unfolded().into_owned());
    let authority = match host {
        Some(host) if is_authority(&host) => visible(&host),
        _ => address(server),
    };
    if target.first() == Some(&b'/') {
        let plain = target.iter().all(u8::is_ascii_graphic);
        let text = format!("http://{authority}{}", visible(target));
        return Url { text, target: if plain { None } else { raw() } };
    }
    Url { text: format!("http://{authority}"), target: raw() }
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

/// `scheme://` at the beginning (RFC 3986 §3.1).
fn is_absolute(target: &[u8]) -> bool {
    let scheme = target.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    scheme > 0
        && target.first().is_some_and(u8::is_ascii_alphabetic)
        && target.get(scheme..).is_some_and(|rest| rest.starts_with(b"://"))
}

fn is_authority(host: &[u8]) -> bool {
    !host.is_empty() && host.iter().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\\"<>".contains(byte))
}

/// As it stands in a url: the port that goes without saying goes.
fn address(server: SocketAddr) -> String {
    let text = server.to_string();
    if server.port() == 80 { text.trim_end_matches("80").trim_end_matches(':').to_owned() } else { text }
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

    fn url(head: &str, server: &str) -> (String, Option<String>) {
        let url = of_head(&Head::parse(head.as_bytes()), server.parse().unwrap());
        (url.text, url.target)
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
            assert_eq!(url(head, server), (text.to_owned(), target), "{head:?}");
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
