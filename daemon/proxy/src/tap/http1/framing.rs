//! What a head says about its message: RFC 9112 §3, §4 and §6 as pure functions from bytes to facts or a [`Flaw`]. It
//! refuses to know how the bytes arrived and what is done about a flaw.

use nodetap_core::head::{Field, Head, Oddities, StartLine};

use super::super::messages::MediaType;
use super::flaw::Flaw;

/// The methods that change how a response is framed; they are compared by case (RFC 9110 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Method {
    Head,
    Connect,
    #[default]
    Other,
}

impl Method {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// How long a message's body is (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// Zero is no body.
    Sized(u64),
    Chunked,
    UntilClose,
    /// No body: the connection speaks something else from here on (101, or 2xx to CONNECT).
    Switch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestFacts {
    pub(super) method: Method,
    pub(super) http10: bool,
    pub(super) length: Length,
    /// CONNECT, or it asks for an upgrade: what follows it may be another protocol.
    pub(super) may_switch: bool,
    pub(super) media: MediaType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ResponseFacts {
    pub(super) code: u16,
    pub(super) length: Length,
    pub(super) media: MediaType,
}

/// What can be said of bytes that begin with a start line.
#[derive(Debug)]
pub(super) enum Judged<T> {
    /// The empty line has not come yet.
    Unfinished,
    /// The start line alone is wrong; it ends (with its line end) at `end`.
    BadStart { end: usize },
    /// The head ends at `end`.
    Whole { end: usize, facts: Result<T, Flaw> },
}

/// Reads the head of a request; at most `max_fields` field lines.
pub(super) fn request(bytes: &[u8], max_fields: usize) -> Judged<RequestFacts> {
    let head = Head::parse(bytes);
    judge(&head, max_fields, request_line(&head.start), |(method, http10), fields| {
        Ok(RequestFacts {
            method,
            http10,
            length: fields.request_length(http10)?,
            may_switch: method == Method::Connect || (fields.upgrade && fields.connection_upgrade),
            media: fields.media,
        })
    })
}

/// Reads the head of the response to a request with `method`.
pub(super) fn response(bytes: &[u8], max_fields: usize, method: Method) -> Judged<ResponseFacts> {
    let head = Head::parse(bytes);
    judge(&head, max_fields, status_line(&head.start), |(code, http10), fields| {
        let length = fields.response_length(code, http10, method)?;
        Ok(ResponseFacts { code, length, media: fields.media })
    })
}

/// Whether a 101 says that HTTP/2 follows (RFC 7540 §3.2).
pub(super) fn upgrades_to_http2(head: &[u8]) -> bool {
    Head::parse(head).fields().any(|field| field.is("upgrade") && field.value == b"h2c")
}

fn judge<S, T>(
    head: &Head<'_>,
    max_fields: usize,
    start: Option<S>,
    conclude: impl FnOnce(S, &Framing) -> Result<T, Flaw>,
) -> Judged<T> {
    if head.start.oddities.contains(Oddities::CUT) || head.start.line.is_empty() && head.fields().position() == 0 {
        return Judged::Unfinished;
    }
    let mut fields = head.fields();
    let Some(start) = start else { return Judged::BadStart { end: fields.position() } };
    let mut framing = Framing::default();
    let mut hard = None;
    let mut count = 0;
    for field in fields.by_ref() {
        count += 1;
        hard = hard.or_else(|| hard_flaw(&field));
        framing.take(&field);
    }
    if !fields.ended() {
        return Judged::Unfinished;
    }
    let facts = match hard {
        Some(flaw) => Err(flaw),
        None if count > max_fields => Err(Flaw::TooManyFields),
        None => conclude(start, &framing),
    };
    Judged::Whole { end: fields.position(), facts }
}

/// Method class and whether it is HTTP/1.0; `None` when the line is not `method SP target SP HTTP/1.x` (§3).
pub(super) fn request_line(start: &StartLine<'_>) -> Option<(Method, bool)> {
    let line = start.request();
    let target_ok = !line.target.is_empty() && line.target.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    if !is_token(line.method) || !target_ok {
        return None;
    }
    Some((Method::of(line.method), is_http10(line.version)?))
}

/// Code and whether it is HTTP/1.0; `None` when the line is not `HTTP/1.x SP 3DIGIT [SP reason]` (§4).
fn status_line(start: &StartLine<'_>) -> Option<(u16, bool)> {
    if start.oddities.intersects(Oddities::NUL.union(Oddities::BARE_CR)) {
        return None;
    }
    let line = start.status();
    Some((line.code.filter(|code| *code >= 100)?, is_http10(line.version)?))
}

/// `None`: not a version of HTTP/1.
fn is_http10(version: &[u8]) -> Option<bool> {
    match version {
        b"HTTP/1.0" => Some(true),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Some(false),
        _ => None,
    }
}

/// Whether it is a token (RFC 9110 §5.6.2).
pub(in crate::tap) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What makes a head unreadable whatever its framing.
fn hard_flaw(field: &Field<'_>) -> Option<Flaw> {
    let odd = field.oddities;
    if odd.is_empty() && !field.name.is_empty() {
        return None;
    }
    [
        (Oddities::NUL, Flaw::Nul),
        (Oddities::BARE_CR, Flaw::BareCr),
        (Oddities::SPACE_BEFORE_NAME, Flaw::SpaceBeforeName),
        (Oddities::NO_COLON, Flaw::NoColon),
    ]
    .into_iter()
    .find_map(|(oddity, flaw)| odd.contains(oddity).then_some(flaw))
    .or(field.name.is_empty().then_some(Flaw::NoName))
}

/// Flaws that stand in some field's line, whether or not that matters for this message.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    coding: Option<Coding>,
    flaw: Option<Flaw>,
    upgrade: bool,
    connection_upgrade: bool,
    media: MediaType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Coding {
    chunked_seen: bool,
    chunked_last: bool,
}

const LENGTH: &str = "content-length";
const CODING: &str = "transfer-encoding";

impl Framing {
    fn take(&mut self, field: &Field<'_>) {
        // By length first: most names need no comparison.
        let flaw = match field.name.len() {
            14 if field.is(LENGTH) => framing_field(field).or_else(|| self.take_length(field.value)),
            17 if field.is(CODING) => framing_field(field).or_else(|| self.take_coding(field.value)),
            10 if field.is("connection") => {
                self.connection_upgrade |= field
                    .value
                    .split(|byte| *byte == b',')
                    .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
                disguised(field)
            }
            12 if field.is("content-type") => {
                self.media = MediaType::of(field.value);
                disguised(field)
            }
            7 if field.is("upgrade") => {
                self.upgrade = true;
                disguised(field)
            }
            _ => disguised(field),
        };
        self.flaw = self.flaw.or(flaw);
    }

    fn take_length(&mut self, value: &[u8]) -> Option<Flaw> {
        let Some(length) = number(value) else { return Some(Flaw::LengthInvalid) };
        match self.length.replace(length) {
            Some(before) if before != length => Some(Flaw::LengthsDiffer),
            _ => None,
        }
    }

    fn take_coding(&mut self, value: &[u8]) -> Option<Flaw> {
        for word in value.split(|byte| *byte == b',').map(trim_blanks) {
            if !is_token(word) {
                return Some(Flaw::CodingInvalid);
            }
            let chunked = word.eq_ignore_ascii_case(b"chunked");
            let seen = self.coding.is_some_and(|coding| coding.chunked_seen);
            if chunked && seen {
                return Some(Flaw::ChunkedTwice);
            }
            self.coding = Some(Coding { chunked_seen: seen || chunked, chunked_last: chunked });
        }
        None
    }

    /// What both kinds of message have in common.
    fn check(&self, http10: bool) -> Result<(), Flaw> {
        match (self.flaw, self.coding, self.length) {
            (Some(flaw), ..) => Err(flaw),
            (None, Some(_), Some(_)) => Err(Flaw::LengthAndCoding),
            (None, Some(_), None) if http10 => Err(Flaw::CodingInHttp10),
            _ => Ok(()),
        }
    }

    fn request_length(&self, http10: bool) -> Result<Length, Flaw> {
        self.check(http10)?;
        match self.coding {
            Some(coding) if coding.chunked_last => Ok(Length::Chunked),
            Some(_) => Err(Flaw::CodingNotChunked),
            None => Ok(Length::Sized(self.length.unwrap_or(0))),
        }
    }

    fn response_length(&self, code: u16, http10: bool, method: Method) -> Result<Length, Flaw> {
        if code == 101 || (method == Method::Connect && (200..300).contains(&code)) {
            return Ok(Length::Switch);
        }
        if method == Method::Head || matches!(code, 100..=199 | 204 | 304) {
            return Ok(Length::Sized(0));
        }
        self.check(http10)?;
        Ok(match (self.coding, self.length) {
            (Some(coding), _) if coding.chunked_last => Length::Chunked,
            (None, Some(length)) => Length::Sized(length),
            _ => Length::UntilClose,
        })
    }
}

/// What is wrong with a framing field's line.
fn framing_field(field: &Field<'_>) -> Option<Flaw> {
    if field.oddities.contains(Oddities::SPACE_BEFORE_COLON) {
        Some(Flaw::SpaceBeforeColon)
    } else {
        field.folded().then_some(Flaw::FoldedFraming)
    }
}

/// Fields that one reader takes for a framing field and another does not: a fold that hides one, a control byte
/// beside the name.
fn disguised(field: &Field<'_>) -> Option<Flaw> {
    let names_framing = |text: &[u8]| {
        [LENGTH, CODING]
            .iter()
            .any(|name| text.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name.as_bytes())))
    };
    let folded = field.folded() && names_framing(field.value);
    let decorated = field.name.len() > LENGTH.len() && !is_token(field.name) && names_framing(field.name);
    (folded || decorated).then_some(Flaw::DisguisedFraming)
}

/// `1*DIGIT` within 64 bits (RFC 9110 §8.6).
pub(in crate::tap) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Without spaces and tabs at both ends: no other byte is whitespace to HTTP.
fn trim_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
