//! The head of a CONNECT request (RFC 9110 §9.3.6, RFC 9112 §3.2.3), read strictly, and the answers to it. What follows
//! the head belongs to the tunnel, whatever it says of a body.

use std::borrow::Cow;

use nodetap_core::exchange::Outcome;

use super::authority::{Authority, shown};
use super::sniff::blanks;

/// The longest head, in bytes.
pub(super) const LONGEST: usize = 64 * 1024;
/// The most field lines of a head.
const FIELDS: usize = 256;

/// A head that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connect {
    pub(super) to: Authority,
    /// Bytes of the head.
    pub(super) length: usize,
}

/// Why a head is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("the request line of the CONNECT is not `CONNECT host:port HTTP/1.1`")]
    RequestLine,
    #[error("`{0}` is no host and port to connect to: {1}")]
    Authority(String, super::authority::Error),
    #[error("a header line of the CONNECT is none")]
    Field,
    #[error("the CONNECT has more than one Host")]
    TwoHosts,
    #[error("the head of the CONNECT is longer than {LONGEST} bytes or has more than {FIELDS} lines")]
    TooLong,
}

impl Error {
    pub(super) fn status(&self) -> u16 {
        if matches!(self, Self::TooLong) { 431 } else { 400 }
    }

    /// A limit of ours makes nothing wrong.
    pub(super) fn outcome(&self) -> Outcome {
        if matches!(self, Self::TooLong) { Outcome::Refused } else { Outcome::Malformed }
    }
}

/// `None`: the head is not whole.
///
/// A missing Host is not minded: the authority stands in the request line, and clients leave it out.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Connect>, Error> {
    let mut length = blanks(bytes);
    let mut to = None;
    let mut hosts = 0;
    for count in 0.. {
        let rest = bytes.get(length..).unwrap_or_default();
        let Some(end) = memchr(rest) else {
            return if bytes.len() >= LONGEST { Err(Error::TooLong) } else { Ok(None) };
        };
        let (line, _) = rest.split_at(end);
        length += end + 1;
        if count > FIELDS || length > LONGEST {
            return Err(Error::TooLong);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match to {
            None => to = Some(request_line(line)?),
            Some(to) if line.is_empty() => return Ok(Some(Connect { to, length })),
            Some(_) => hosts += usize::from(field(line)?.eq_ignore_ascii_case(b"host")),
        }
        if hosts > 1 {
            return Err(Error::TwoHosts);
        }
    }
    Ok(None)
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

fn request_line(line: &[u8]) -> Result<Authority, Error> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    match (method, target, version, words.next()) {
        (Some(b"CONNECT"), Some(target), Some(b"HTTP/1.1" | b"HTTP/1.0"), None) => {
            Authority::parse(target).map_err(|error| Error::Authority(shown(target), error))
        }
        _ => Err(Error::RequestLine),
    }
}

/// The name of a field.
fn field(line: &[u8]) -> Result<&[u8], Error> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Error::Field)?;
    let (name, value) = line.split_at(colon);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let visible = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    if name.is_empty() || !name.iter().all(token) || !value.iter().all(visible) {
        return Err(Error::Field);
    }
    Ok(name)
}

/// The tunnel stands: no Content-Length and no Transfer-Encoding (RFC 9110 §9.3.6).
pub(super) const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// An answer that says in one line why not, after which the connection is closed.
pub(super) fn refusal(status: u16, sentence: &str) -> Vec<u8> {
    let reason = reason(status);
    let length = sentence.len() + 1;
    let head = "Content-Type: text/plain; charset=utf-8\r\nConnection: close";
    format!("HTTP/1.1 {status} {reason}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{sentence}\n").into_bytes()
}

fn reason(status: u16) -> Cow<'static, str> {
    let known = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    known.unwrap_or("Error").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nX: y\r\n\r\n";

    #[test]
    fn a_head_is_read_only_when_it_is_whole_and_what_follows_is_left() {
        for length in 0..WHOLE.len() {
            assert_eq!(parse(&WHOLE[..length]), Ok(None), "{length}");
        }
        let expected = Connect { to: Authority::parse(b"example.com:443").unwrap(), length: WHOLE.len() };
        assert_eq!(parse(WHOLE), Ok(Some(expected.clone())));
        assert_eq!(parse(&[WHOLE, b"\x16\x03optimistic"].concat()), Ok(Some(expected)));
    }

    #[test]
    fn a_host_may_be_missing_and_lines_may_end_with_a_line_feed_alone() {
        for head in
            ["CONNECT a:1 HTTP/1.0\r\n\r\n", "CONNECT a:1 HTTP/1.1\n\n", "\r\nCONNECT a:1 HTTP/1.1\r\nA: b\n\r\n"]
        {
            let read = parse(head.as_bytes()).unwrap().unwrap();
            assert_eq!((read.to.to_string(), read.length), ("a:1".into(), head.len()), "{head:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_as_soon_as_it_is_seen() {
        for (head, error) in [
            ("CONNECT a:1\r\n", Error::RequestLine),
            ("CONNECT  a:1 HTTP/1.1\r\n", Error::RequestLine),
            ("CONNECT a:1 HTTP/2.0\r\n", Error::RequestLine),
            ("CONNECT a:1 HTTP/1.1 \r\n", Error::RequestLine),
            ("CONNECT a:1 HTTP/1.1\r\n folded: x\r\n", Error::Field),
            ("CONNECT a:1 HTTP/1.1\r\nName : x\r\n", Error::Field),
            ("CONNECT a:1 HTTP/1.1\r\nno colon\r\n", Error::Field),
            ("CONNECT a:1 HTTP/1.1\r\nA: b\rc\r\n", Error::Field),
            ("CONNECT a:1 HTTP/1.1\r\nA: \0\r\n", Error::Field),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nhost: a\r\n", Error::TwoHosts),
        ] {
            assert_eq!(parse(head.as_bytes()), Err(error.clone()), "{head:?}");
            assert_eq!(error.status(), 400);
        }
        for target in ["", "/", "http://a/", "a", "a:0", "u@a:1", "*"] {
            let head = format!("CONNECT {target} HTTP/1.1\r\n");
            assert!(matches!(parse(head.as_bytes()), Err(Error::Authority(_, _))), "{target}");
        }
    }

    #[test]
    fn a_head_that_does_not_end_is_431() {
        let long = [b"CONNECT a:1 HTTP/1.1\r\nA: ".to_vec(), vec![b'x'; LONGEST]].concat();
        assert_eq!(parse(&long).unwrap_err().status(), 431);
        let many = ["CONNECT a:1 HTTP/1.1\r\n", &"A: b\r\n".repeat(FIELDS + 1)].concat();
        assert_eq!(parse(many.as_bytes()).unwrap_err().status(), 431);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for at in 0..WHOLE.len() {
            for byte in 0..=255 {
                let mut mutated = WHOLE.to_vec();
                mutated[at] = byte;
                let _ = parse(&mutated);
            }
        }
    }
}
