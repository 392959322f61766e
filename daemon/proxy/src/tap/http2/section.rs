//! The fields of one header block, written as HTTP/1.1 would, and what they say about their message (RFC 9113 §8.2,
//! §8.3). It refuses to know streams. What is written can be parsed again: no name and no value can end its line.

use super::super::Limits;
use super::super::http1::{is_token, number};
use super::super::messages::MediaType;
use super::flaw::Flaw;

/// Capacity that the scratch keeps from one block to the next.
const KEEP: usize = 16 * 1024;

/// The methods that change what a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Method {
    Head,
    Connect,
    #[default]
    Other,
}

/// What a block turned out to be.
#[derive(Debug)]
pub(super) struct Text {
    /// The start line, if there is one, the field lines, and the empty line behind a head.
    pub(super) bytes: Vec<u8>,
    /// Fields were left out: they are beyond the limit of a head.
    pub(super) cut: bool,
    pub(super) length: Option<u64>,
    pub(super) media: MediaType,
    pub(super) flaw: Option<Flaw>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    Protocol,
}

const PSEUDO: [(&[u8], Pseudo); 6] = [
    (b":method", Pseudo::Method),
    (b":scheme", Pseudo::Scheme),
    (b":authority", Pseudo::Authority),
    (b":path", Pseudo::Path),
    (b":status", Pseudo::Status),
    (b":protocol", Pseudo::Protocol),
];

/// A block in the making; used again for each block of a connection. It holds at most [`Limits::head`] bytes.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// The values of pseudo-header fields.
    pseudo: Vec<u8>,
    /// Where in `pseudo` each one stands.
    places: [Option<(usize, usize)>; PSEUDO.len()],
    lines: Vec<u8>,
    /// Where in `lines` the value of `host` stands.
    host: Option<(usize, usize)>,
    fields: usize,
    ordinary: bool,
    cut: bool,
    length: Option<u64>,
    media: MediaType,
    flaw: Option<Flaw>,
}

impl Section {
    pub(super) fn clear(&mut self) {
        let (mut pseudo, mut lines) = (std::mem::take(&mut self.pseudo), std::mem::take(&mut self.lines));
        pseudo.clear();
        lines.clear();
        pseudo.shrink_to(KEEP);
        lines.shrink_to(KEEP);
        *self = Self { pseudo, lines, ..Self::default() };
    }

    /// Takes the next field. Those beyond the limit are not looked at: they may be many, of few bytes on the wire.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8], limits: &Limits) {
        self.fields += 1;
        // A host may come to stand in the start line, too.
        let twice = if name == b"host" { value.len() } else { 0 };
        let length = self.pseudo.len() + self.lines.len() + name.len() + value.len() + twice + 4;
        self.cut |= self.fields > limits.fields || length + START_LINE > limits.head;
        if self.cut {
            return self.leave_out(name);
        }
        let bad_value = value.iter().fold(false, |bad, byte| bad | matches!(*byte, b'\r' | b'\n' | 0));
        if bad_value {
            self.note(Flaw::Value);
        }
        if name.first() == Some(&b':') {
            return self.take_pseudo(name, value, bad_value);
        }
        self.ordinary = true;
        let bad_name = name.is_empty() || name.iter().fold(false, |bad, byte| bad | !is_name_byte(*byte));
        if bad_name {
            self.note(Flaw::Name);
        }
        self.judge(name, value);
        let start = self.lines.len() + name.len() + 2;
        if name.len() == 4 && name == b"host" && self.host.is_none() {
            self.host = Some((start, start + value.len()));
        }
        self.write_line(name, value, bad_name, bad_value);
    }

    /// A pseudo-header field that is left out is not missing.
    fn leave_out(&mut self, name: &[u8]) {
        let which = PSEUDO.iter().find(|(known, _)| *known == name).map(|(_, pseudo)| *pseudo);
        if let Some(place) = which.and_then(|pseudo| self.places.get_mut(pseudo as usize)) {
            place.get_or_insert((0, 0));
        }
    }

    /// What was wrong with any part of it.
    fn note(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert(flaw);
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8], bad_value: bool) {
        if self.ordinary {
            self.note(Flaw::PseudoLate);
        }
        let known = PSEUDO.iter().find(|(known, _)| *known == name).map(|(_, pseudo)| *pseudo);
        let place = known.and_then(|pseudo| self.places.get_mut(pseudo as usize));
        match place {
            Some(place @ None) => {
                let start = self.pseudo.len();
                *place = Some((start, start + value.len()));
                self.pseudo.extend(value.iter().map(|byte| without_line_end(*byte)));
                return;
            }
            Some(Some(_)) => self.note(Flaw::PseudoTwice),
            None => self.note(Flaw::Pseudo),
        }
        self.write_line(name, value, true, bad_value);
    }

    /// Fields that say something about the connection or the content.
    fn judge(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            2 if name == b"te" && !value.eq_ignore_ascii_case(b"trailers") => self.note(Flaw::ConnectionField),
            7 if name == b"upgrade" => self.note(Flaw::ConnectionField),
            10 if name == b"connection" || name == b"keep-alive" => self.note(Flaw::ConnectionField),
            12 if name == b"content-type" => self.media = MediaType::of(value),
            14 if name == b"content-length" => match (number(value), self.length) {
                (None, _) => self.note(Flaw::LengthInvalid),
                (Some(length), Some(before)) if length != before => self.note(Flaw::LengthsDiffer),
                (length, _) => self.length = length,
            },
            16 if name == b"proxy-connection" => self.note(Flaw::ConnectionField),
            17 if name == b"transfer-encoding" => self.note(Flaw::ConnectionField),
            _ => {}
        }
    }

    fn write_line(&mut self, name: &[u8], value: &[u8], bad_name: bool, bad_value: bool) {
        if bad_name {
            let colon = usize::from(name.first() == Some(&b':'));
            self.lines.extend_from_slice(name.get(..colon).unwrap_or_default());
            let rest = name.get(colon..).unwrap_or_default();
            self.lines.extend(rest.iter().map(|byte| if is_token(&[*byte]) { *byte } else { b'?' }));
        } else {
            self.lines.extend_from_slice(name);
        }
        self.lines.extend_from_slice(b": ");
        if bad_value {
            self.lines.extend(value.iter().map(|byte| without_line_end(*byte)));
        } else {
            self.lines.extend_from_slice(value);
        }
        self.lines.extend_from_slice(b"\r\n");
    }

    fn pseudo(&self, which: Pseudo) -> Option<&[u8]> {
        let (start, end) = self.places.get(which as usize).copied().flatten()?;
        self.pseudo.get(start..end)
    }

    /// The head of a request.
    pub(super) fn request(&mut self) -> (Text, Method) {
        let flaw = self.request_flaw();
        let method = match self.pseudo(Pseudo::Method) {
            Some(b"HEAD") => Method::Head,
            Some(b"CONNECT") => Method::Connect,
            _ => Method::Other,
        };
        let name = self.pseudo(Pseudo::Method).unwrap_or_default();
        let [scheme, authority, path, protocol] =
            [Pseudo::Scheme, Pseudo::Authority, Pseudo::Path, Pseudo::Protocol].map(|which| self.pseudo(which));
        let host = self.host.and_then(|(start, end)| self.lines.get(start..end));
        let mut bytes =
            Vec::with_capacity(self.pseudo.len() + self.lines.len() + host.map_or(0, <[u8]>::len) + START_LINE);
        bytes.extend(name.iter().map(|byte| if is_token(&[*byte]) { *byte } else { b'?' }));
        bytes.push(b' ');
        let authority = authority.or(host).unwrap_or_default();
        if let Some(scheme) = scheme.filter(|_| !authority.is_empty()) {
            bytes.extend_from_slice(scheme);
            bytes.extend_from_slice(b"://");
        }
        bytes.extend_from_slice(authority);
        match path {
            None | Some(b"*") if !authority.is_empty() => {}
            Some(path) if authority.is_empty() || path.starts_with(b"/") => bytes.extend_from_slice(path),
            Some(path) => {
                bytes.push(b'/');
                bytes.extend_from_slice(path);
            }
            None => {}
        }
        bytes.extend_from_slice(b" HTTP/2\r\n");
        if let Some(protocol) = protocol {
            bytes.extend_from_slice(b":protocol: ");
            bytes.extend_from_slice(protocol);
            bytes.extend_from_slice(b"\r\n");
        }
        (self.finish(bytes, flaw), method)
    }

    /// What is wrong with the pseudo-header fields of a request (RFC 9113 §8.3.1, §8.5, RFC 8441 §4).
    fn request_flaw(&self) -> Option<Flaw> {
        let has = |which| self.places.get(which as usize).is_some_and(Option::is_some);
        let connect = self.pseudo(Pseudo::Method) == Some(b"CONNECT");
        if has(Pseudo::Status) || (has(Pseudo::Protocol) && !connect) {
            return Some(Flaw::Pseudo);
        }
        let complete = if connect && !has(Pseudo::Protocol) {
            if has(Pseudo::Scheme) || has(Pseudo::Path) {
                return Some(Flaw::Pseudo);
            }
            has(Pseudo::Authority)
        } else {
            has(Pseudo::Method) && has(Pseudo::Scheme) && has(Pseudo::Path)
        };
        if !complete {
            return Some(Flaw::PseudoMissing);
        }
        // What is cut is not held against the client.
        if self.cut {
            return None;
        }
        if !self.pseudo(Pseudo::Method).is_some_and(is_token) {
            return Some(Flaw::Method);
        }
        let target_ok = self.pseudo(Pseudo::Scheme).is_none_or(is_scheme)
            && self.pseudo(Pseudo::Authority).is_none_or(is_authority)
            && self.pseudo(Pseudo::Path).is_none_or(|path| {
                (path.starts_with(b"/") || path == b"*") && path.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
            });
        if target_ok { None } else { Some(Flaw::Target) }
    }

    /// The head of a response, and its status if it has a valid one.
    pub(super) fn response(&mut self) -> (Text, Option<u16>) {
        let value = self.pseudo(Pseudo::Status);
        let code = value.and_then(status);
        let requests_own = [Pseudo::Method, Pseudo::Scheme, Pseudo::Authority, Pseudo::Path, Pseudo::Protocol];
        let flaw = if requests_own.into_iter().any(|which| self.pseudo(which).is_some()) {
            Some(Flaw::Pseudo)
        } else if value.is_none() {
            Some(Flaw::PseudoMissing)
        } else {
            code.is_none_or(|code| code == 101).then_some(Flaw::Status)
        };
        let mut bytes = Vec::with_capacity(self.pseudo.len() + self.lines.len() + START_LINE);
        bytes.extend_from_slice(b"HTTP/2 ");
        bytes.extend_from_slice(value.unwrap_or_default());
        bytes.extend_from_slice(b" \r\n");
        (self.finish(bytes, flaw), code)
    }

    fn finish(&mut self, mut bytes: Vec<u8>, flaw: Option<Flaw>) -> Text {
        bytes.extend_from_slice(&self.lines);
        if !self.cut {
            bytes.extend_from_slice(b"\r\n");
        }
        Text { bytes, cut: self.cut, length: self.length, media: self.media, flaw: self.flaw.or(flaw) }
    }

    /// A trailer section.
    pub(super) fn trailers(&mut self) -> Text {
        let flaw = self.places.iter().any(Option::is_some).then_some(Flaw::Pseudo);
        Text {
            bytes: self.lines.as_slice().to_vec(),
            cut: self.cut,
            length: None,
            media: MediaType::Other,
            flaw: self.flaw.or(flaw),
        }
    }
}

/// What a start line has beyond the values of pseudo-header fields, and the empty line; in bytes.
const START_LINE: usize = 64;

/// `tchar` without upper case (RFC 9113 §8.2.1).
fn is_name_byte(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let allowed = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
        let mut at = 0;
        while at < allowed.len() {
            table[allowed[at] as usize] = true;
            at += 1;
        }
        table
    };
    TABLE[usize::from(byte)]
}

/// A space in the place of what could end a line.
fn without_line_end(byte: u8) -> u8 {
    if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { byte }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

/// Nothing in it may be taken for another part of a url; it may be empty where the scheme allows it.
fn is_authority(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\\"<>".contains(byte))
}

/// Three digits, and the first one no zero.
fn status(text: &[u8]) -> Option<u16> {
    let digits: [u8; 3] = text.try_into().ok()?;
    let code =
        digits.iter().try_fold(0, |code, digit| digit.is_ascii_digit().then(|| code * 10 + u16::from(digit - b'0')))?;
    (code >= 100).then_some(code)
}
