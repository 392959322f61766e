//! What a proxy must do to a message that it forwards (RFC 9110 §7.6, RFC 9112 §3.2), in one place, without I/O. What is
//! not named here passes as it came: path and query, bodies, and the lines of every field that is for the ends.

use std::borrow::Cow;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, MAX_FORWARDS, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, request, response};
use nodetap_core::exchange::Outcome;

use crate::forward::authority::{Authority, shown};

/// What we call ourselves in `Via` (RFC 9110 §7.6.3); a comment behind it tells one nodetap from the next.
const PSEUDONYM: &str = "nodetap";
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP: u16 = 80;

/// A request that is to be forwarded.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) to: Authority,
    /// The client asks to go on as a WebSocket on this connection.
    pub(super) upgrade: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects: bool,
}

/// An answer of our own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) text: Cow<'static, str>,
    pub(super) kind: &'static str,
    /// How the exchange is recorded, with the text as its reason.
    pub(super) outcome: Outcome,
}

impl Answer {
    pub(super) fn new(outcome: Outcome, status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into(), kind: "text/plain; charset=utf-8", outcome }
    }

    /// The request is wrong.
    pub(super) fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Outcome::Malformed, StatusCode::BAD_REQUEST, text)
    }

    /// Nothing is wrong with the request, but it is none that this proxy serves.
    fn unserved(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Outcome::Refused, StatusCode::BAD_REQUEST, text)
    }

    /// What was asked for is done.
    fn done(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Outcome::Complete, StatusCode::OK, text)
    }
}

/// Makes a request of a client into the one that its server gets. `bare`: its target was a URL without a path, which the
/// parsed one does not tell.
///
/// # Errors
/// When it is answered here: because it is wrong, or because it was sent to the last proxy it may reach.
pub(super) fn request(parts: &mut request::Parts, bare: bool, instance: &str) -> Result<Admitted, Box<Answer>> {
    let old = parts.version == Version::HTTP_10;
    check_host(&parts.headers, old)?;
    let (to, host) = target(parts)?;
    if passed_here(&parts.headers, instance) {
        let text = "This request has passed this proxy before: its names or its variables lead in a circle.";
        return Err(Answer::new(Outcome::Refused, StatusCode::LOOP_DETECTED, text).into());
    }
    max_forwards(parts)?;
    let upgrade = !old && asks_for_websocket(&parts.headers);
    let trailers = !old && lists(&parts.headers, &TE, "trailers");
    let expects = !old && lists(&parts.headers, &EXPECT, "100-continue");
    if old {
        // RFC 9110 §10.1.1: an expectation of HTTP/1.0 is none.
        parts.headers.remove(EXPECT);
    }
    strip(&mut parts.headers);
    parts.headers.remove(PROXY_AUTHORIZATION);
    let mut options = Vec::new();
    if trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
        options.push("TE");
    }
    if upgrade {
        parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        options.push("Upgrade");
    }
    if let Ok(options) = HeaderValue::from_str(&options.join(", "))
        && !options.is_empty()
    {
        parts.headers.insert(CONNECTION, options);
    }
    parts.headers.insert(HOST, host);
    add_via(&mut parts.headers, parts.version, instance);
    parts.uri = match bare && parts.method == Method::OPTIONS {
        true => Uri::from_static("*"),
        false => origin_form(&parts.uri),
    };
    parts.version = Version::HTTP_11;
    Ok(Admitted { to, upgrade, expects })
}

/// Makes a response of a server into the one that the client gets.
pub(super) fn response(parts: &mut response::Parts, instance: &str) {
    // A length beside a transfer coding is wrong, and not what the body was framed by (RFC 9112 §6.3).
    if parts.headers.contains_key(TRANSFER_ENCODING) {
        parts.headers.remove(CONTENT_LENGTH);
    }
    let switched = (parts.status == StatusCode::SWITCHING_PROTOCOLS).then(|| parts.headers.get(UPGRADE).cloned());
    strip(&mut parts.headers);
    if let Some(Some(protocol)) = switched {
        parts.headers.insert(UPGRADE, protocol);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    add_via(&mut parts.headers, parts.version, instance);
    parts.version = Version::HTTP_11;
}

/// RFC 9112 §3.2.
fn check_host(headers: &HeaderMap, old: bool) -> Result<(), Box<Answer>> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if old => Ok(()),
        (None, _) => Err(Answer::bad("A request of HTTP/1.1 has a Host field, and this one has none.").into()),
        (Some(_), Some(_)) => Err(Answer::bad("A request has one Host field, and this one has several.").into()),
        (Some(host), None) => match Authority::with_default(host.as_bytes(), Some(HTTP)) {
            Ok(_) => Ok(()),
            Err(error) => Err(Answer::bad(format!("The Host field is wrong: {error}.")).into()),
        },
    }
}

/// Where it goes, and the Host that says so (RFC 9112 §3.2.2: whatever Host the client sent).
fn target(parts: &request::Parts) -> Result<(Authority, HeaderValue), Box<Answer>> {
    if parts.method == Method::CONNECT {
        let text = "A CONNECT is answered when the response before it is over; this one came earlier.";
        return Err(Answer::unserved(text).into());
    }
    let (Some(scheme), Some(authority)) = (parts.uri.scheme(), parts.uri.authority()) else {
        let text = "This is a proxy: a request to it names the whole URL (GET http://host/path), or asks for a tunnel \
                    (CONNECT host:port). It is to be set as http_proxy, not called itself.";
        return Err(Answer::unserved(text).into());
    };
    if scheme != &http::uri::Scheme::HTTP {
        let to = shown(authority.as_str().as_bytes());
        let text = format!("The scheme {scheme} is not forwarded; ask for a tunnel (CONNECT {to}) instead.");
        return Err(Answer::unserved(text).into());
    }
    let wrong = |error| Answer::bad(format!("The URL's host is wrong: {error}."));
    let to = Authority::with_default(authority.as_str().as_bytes(), Some(HTTP)).map_err(wrong)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Answer::bad("The URL's host is wrong."))?;
    Ok((to, host))
}

/// RFC 9110 §7.6.2.
fn max_forwards(parts: &mut request::Parts) -> Result<(), Box<Answer>> {
    if !matches!(parts.method, Method::TRACE | Method::OPTIONS) {
        return Ok(());
    }
    let left = parts.headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    match left {
        None => Ok(()),
        Some(0) if parts.method == Method::TRACE => {
            Err(Answer { kind: "message/http", ..Answer::done(trace(parts)) }.into())
        }
        Some(0) => Err(Answer::done("").into()),
        Some(left) => {
            parts.headers.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(())
        }
    }
}

/// The request as it came, without what is likely to be secret (RFC 9110 §9.3.8).
fn trace(parts: &request::Parts) -> String {
    let mut text = format!("{} {} {:?}\r\n", parts.method, parts.uri, parts.version);
    for (name, value) in &parts.headers {
        if ["authorization", "cookie", "proxy-authorization"].contains(&name.as_str()) {
            continue;
        }
        text.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text.push_str("\r\n");
    text
}

/// Takes away what is for the next hop only (RFC 9110 §7.6.1), and what Connection says is.
fn strip(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = tokens(headers, &CONNECTION).filter_map(|token| token.parse().ok()).collect();
    // hyper takes `chunked` off and puts it on again; any other coding is still on the body, and has to be named.
    let codings: Vec<&str> = tokens(headers, &TRANSFER_ENCODING).collect();
    let coded = codings.iter().any(|coding| !coding.eq_ignore_ascii_case("chunked"));
    let codings = coded.then(|| HeaderValue::from_str(&codings.join(", ")).ok()).flatten();
    let always = [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];
    for name in nominated.into_iter().chain(always) {
        headers.remove(name);
    }
    if let Some(codings) = codings {
        headers.insert(TRANSFER_ENCODING, codings);
    }
}

/// The members of a list field, on all its lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|listed| listed.split(';').next().is_some_and(|it| it.trim().eq_ignore_ascii_case(token)))
}

/// The one upgrade that is run; others are not offered to the server.
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    lists(headers, &CONNECTION, "upgrade") && lists(headers, &UPGRADE, "websocket")
}

fn via(version: Version, instance: &str) -> String {
    let version = if version == Version::HTTP_10 { "1.0" } else { "1.1" };
    format!("{version} {PSEUDONYM} ({instance})")
}

fn add_via(headers: &mut HeaderMap, version: Version, instance: &str) {
    if let Ok(value) = HeaderValue::from_str(&via(version, instance)) {
        headers.append(VIA, value);
    }
}

fn passed_here(headers: &HeaderMap, instance: &str) -> bool {
    let ours = [Version::HTTP_10, Version::HTTP_11].map(|version| via(version, instance));
    tokens(headers, &VIA).any(|hop| ours.iter().any(|our| our == hop))
}

/// The target as the server gets it (RFC 9112 §3.2.1, §3.2.4): not one byte of path and query is changed.
fn origin_form(uri: &Uri) -> Uri {
    let written = uri.path_and_query().map_or("", |target| target.as_str());
    match uri.path_and_query() {
        Some(target) if written.starts_with('/') => Uri::from(target.clone()),
        _ => format!("/{written}").parse().unwrap_or_else(|_| Uri::from_static("/")),
    }
}

/// Is this the head of `OPTIONS http://host`, which asks for the server as a whole (RFC 9112 §3.2.4)?
pub(super) fn is_bare(head: &[u8]) -> bool {
    let target = head.strip_prefix(b"OPTIONS http://").and_then(|rest| rest.split(|byte| *byte == b' ').next());
    target.is_some_and(|target| target.len() + 16 < head.len() && !target.iter().any(|byte| b"/?#\r\n".contains(byte)))
}

#[cfg(test)]
mod tests;
