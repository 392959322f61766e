//! A lenient reader of raw HTTP/1 heads and trailer sections: it finds the start line's parts and the field lines in
//! the order, case and spelling in which they were sent, without copying. It exists because heads are kept as bytes
//! and read by three parties: the tap (what does the message mean), redaction (which bytes must go) and the views.
//!
//! It reads whatever it is given: every input has a reading, and what is odd about it is noted in [`Oddities`].
//! It refuses to judge: what makes a message malformed is the tap's business, which header is secret is redaction's.
//!
//! ```
//! use nodetap_core::head::Head;
//!
//! let head = Head::parse(b"GET /a HTTP/1.1\r\nHost: x\r\nX-Long: one\r\n two\r\n\r\n");
//! assert_eq!(head.start.request().target, b"/a");
//! let fields: Vec<_> = head.fields().collect();
//! assert_eq!((fields[0].name, fields[0].value), (&b"Host"[..], &b"x"[..]));
//! assert_eq!(&*fields[1].unfolded(), b"one two");
//! ```

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr3_iter};

/// What was unusual about a line or a section: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Oddities(u16);

impl Oddities {
    pub const NONE: Self = Self(0);
    /// The value goes on in a line that begins with a space or a tab (RFC 9112 §5.2).
    pub const FOLDED: Self = Self(1);
    /// Space or tab between the field's name and its colon (RFC 9112 §5.1).
    pub const SPACE_BEFORE_COLON: Self = Self(1 << 1);
    /// A field line without a colon: the whole line stands as name, the value is empty.
    pub const NO_COLON: Self = Self(1 << 2);
    /// The first field line begins with a space or a tab, so that there is no field it could continue (§2.2).
    pub const SPACE_BEFORE_NAME: Self = Self(1 << 3);
    /// A line ends in LF without CR (§2.2).
    pub const BARE_LF: Self = Self(1 << 4);
    /// A CR that is not part of a line's end (§2.2).
    pub const BARE_CR: Self = Self(1 << 5);
    pub const NUL: Self = Self(1 << 6);
    /// The bytes end within this line.
    pub const CUT: Self = Self(1 << 7);

    /// Whether all of `other` is in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in this set.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// A start line, without its line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartLine<'a> {
    pub line: &'a [u8],
    pub oddities: Oddities,
}

/// The parts of a request line (RFC 9112 §3), each as sent; empty when absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLine<'a> {
    /// Up to the first space.
    pub method: &'a [u8],
    /// Between method and version; it may hold spaces when the sender wrote them.
    pub target: &'a [u8],
    /// What follows the last space when that begins with `HTTP/`; else empty (HTTP/0.9, garbage).
    pub version: &'a [u8],
}

/// The parts of a status line (RFC 9112 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusLine<'a> {
    pub version: &'a [u8],
    /// `None`: not exactly three digits.
    pub code: Option<u16>,
    /// Empty when absent.
    pub reason: &'a [u8],
}

impl<'a> StartLine<'a> {
    /// Reads it as a request line.
    pub fn request(&self) -> RequestLine<'a> {
        let (method, rest) = split_once(self.line, b' ');
        let (target, version) = match rest.iter().rposition(|byte| *byte == b' ') {
            Some(space) if slice(rest, space + 1, rest.len()).starts_with(b"HTTP/") => {
                (slice(rest, 0, space), slice(rest, space + 1, rest.len()))
            }
            _ => (rest, &b""[..]),
        };
        RequestLine { method, target, version }
    }

    /// Reads it as a status line.
    pub fn status(&self) -> StatusLine<'a> {
        let (version, rest) = split_once(self.line, b' ');
        let (code, reason) = split_once(rest, b' ');
        StatusLine { version, code: three_digits(code), reason }
    }
}

/// A head: a start line and the field lines after it.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    bytes: &'a [u8],
    fields_at: usize,
    pub start: StartLine<'a>,
}

impl<'a> Head<'a> {
    /// Reads the start line; the fields are read as they are asked for. `bytes` begin with the start line (empty
    /// lines before it are the caller's to skip) and may go on after the empty line that ends the head.
    pub fn parse(bytes: &'a [u8]) -> Self {
        let line = Line::at(bytes, 0).unwrap_or_default();
        let start = StartLine { line: slice(bytes, 0, line.end), oddities: line.oddities };
        Self { bytes, fields_at: line.next, start }
    }

    /// Whether it was put together from HTTP/2's field blocks, and not sent as bytes like these.
    pub fn is_http2(&self) -> bool {
        self.start.line.starts_with(b"HTTP/2 ") || self.start.request().version == b"HTTP/2"
    }

    /// The field lines, in order. Ranges are relative to the bytes that were parsed.
    pub fn fields(&self) -> Fields<'a> {
        Fields { bytes: self.bytes, at: self.fields_at, ended: false, begun: false, oddities: self.start.oddities }
    }
}

/// The heads of several messages without content, one after the other (`Exchange::interim`).
pub fn heads(bytes: &[u8]) -> impl Iterator<Item = Head<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let head = Head::parse(rest);
        let mut fields = head.fields();
        fields.by_ref().for_each(drop);
        rest = rest.get(fields.position()..).unwrap_or_default();
        Some(head)
    })
}

/// One field line with the lines that continue it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// Without the whitespace around it.
    pub name: &'a [u8],
    /// Without the whitespace around it; line ends and all when it is folded: see [`Field::unfolded`].
    pub value: &'a [u8],
    pub name_range: Range<usize>,
    /// Where `value` stands: continuation lines included, the last line's end excluded.
    pub value_range: Range<usize>,
    pub oddities: Oddities,
}

impl<'a> Field<'a> {
    /// Whether this is the field `name`, in whatever case it was sent.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    pub fn folded(&self) -> bool {
        self.oddities.contains(Oddities::FOLDED)
    }

    /// The value in one line: each fold, with the whitespace around it, becomes one space (RFC 9112 §5.2).
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        if !self.folded() {
            return Cow::Borrowed(self.value);
        }
        let mut whole = Vec::with_capacity(self.value.len());
        for line in self.value.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
            if !whole.is_empty() {
                whole.push(b' ');
            }
            whole.extend_from_slice(trim(line));
        }
        Cow::Owned(whole)
    }
}

/// An iterator over field lines; it stops at the empty line or where the bytes end.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    begun: bool,
    ended: bool,
    oddities: Oddities,
}

impl<'a> Fields<'a> {
    /// Reads a section that has no start line: trailers.
    pub fn of(section: &'a [u8]) -> Self {
        Self { bytes: section, at: 0, begun: false, ended: false, oddities: Oddities::NONE }
    }

    /// Whether the empty line that ends the section was reached.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// How far was read: after the last `next`, the offset behind the section's empty line.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What was odd about all that was read so far, start line included.
    pub fn oddities(&self) -> Oddities {
        self.oddities
    }

    /// The next line unless it is the empty one; takes it.
    fn line(&mut self) -> Option<Line> {
        if self.ended {
            return None;
        }
        let line = Line::at(self.bytes, self.at)?;
        self.at = line.next;
        self.oddities.add(line.oddities);
        self.ended = line.start == line.end && !line.oddities.contains(Oddities::CUT);
        (!self.ended).then_some(line)
    }

    /// The next line if it continues the one before; takes it.
    fn continuation(&mut self) -> Option<Line> {
        matches!(self.bytes.get(self.at), Some(b' ' | b'\t')).then(|| self.line())?
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let first = self.line()?;
        let text = slice(self.bytes, first.start, first.end);
        let mut oddities = first.oddities;
        if !self.begun && matches!(text.first(), Some(b' ' | b'\t')) {
            oddities.add(Oddities::SPACE_BEFORE_NAME);
        }
        self.begun = true;
        let colon = match pseudo_name(text) {
            0 => memchr(b':', text),
            name => Some(name),
        };
        let name_end = first.start + colon.unwrap_or(text.len());
        let value_start = colon.map_or(first.end, |_| name_end + 1);
        match colon {
            Some(_) if matches!(slice(self.bytes, first.start, name_end).last(), Some(b' ' | b'\t')) => {
                oddities.add(Oddities::SPACE_BEFORE_COLON);
            }
            Some(_) => {}
            None => oddities.add(Oddities::NO_COLON),
        }
        let mut value_end = first.end;
        while let Some(line) = self.continuation() {
            oddities.add(line.oddities.union(Oddities::FOLDED));
            value_end = line.end;
        }
        self.oddities.add(oddities);
        let name_range = trimmed(self.bytes, first.start, name_end);
        let value_range = trimmed(self.bytes, value_start, value_end);
        Some(Field {
            name: slice(self.bytes, name_range.start, name_range.end),
            value: slice(self.bytes, value_range.start, value_range.end),
            name_range,
            value_range,
            oddities,
        })
    }
}

/// Where one line stands.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    start: usize,
    /// Without the line end.
    end: usize,
    next: usize,
    oddities: Oddities,
}

impl Line {
    /// `None` at the end of the bytes.
    fn at(bytes: &[u8], start: usize) -> Option<Self> {
        let rest = bytes.get(start..)?;
        if rest.is_empty() {
            return None;
        }
        let mut oddities = Oddities::NONE;
        // One search finds the end of an ordinary line; only odd lines need more than one.
        for at in memchr3_iter(b'\r', b'\n', 0, rest) {
            let oddity = match (rest.get(at), rest.get(at + 1)) {
                (Some(b'\r'), Some(b'\n')) => return Some(Self::of(start, at, 2, oddities)),
                (Some(b'\n'), _) => return Some(Self::of(start, at, 1, oddities.union(Oddities::BARE_LF))),
                (Some(b'\r'), _) => Oddities::BARE_CR,
                _ => Oddities::NUL,
            };
            oddities.add(oddity);
        }
        Some(Self::of(start, rest.len(), 0, oddities.union(Oddities::CUT)))
    }

    fn of(start: usize, length: usize, line_end: usize, oddities: Oddities) -> Self {
        Self { start, end: start + length, next: start + length + line_end, oddities }
    }
}

/// `bytes[start..end]`, empty where that does not exist.
fn slice(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end).unwrap_or_default()
}

/// Up to the separator, and what follows it; all and nothing when there is none.
fn split_once(bytes: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == separator) {
        Some(at) => (slice(bytes, 0, at), slice(bytes, at + 1, bytes.len())),
        None => (bytes, b""),
    }
}

/// The length of a name that begins with a colon, as those of HTTP/2's pseudo-header fields do; 0: it is none.
fn pseudo_name(line: &[u8]) -> usize {
    let Some(rest) = line.strip_prefix(b":") else { return 0 };
    let name = rest.iter().take_while(|byte| byte.is_ascii_lowercase() || **byte == b'-').count();
    if name > 0 && rest.get(name) == Some(&b':') { name + 1 } else { 0 }
}

fn three_digits(text: &[u8]) -> Option<u16> {
    let digits: &[u8; 3] = text.try_into().ok()?;
    digits.iter().try_fold(0, |code, digit| digit.is_ascii_digit().then(|| code * 10 + u16::from(digit - b'0')))
}

/// The range without the whitespace (line ends of folds included) at its two ends.
fn trimmed(bytes: &[u8], start: usize, end: usize) -> Range<usize> {
    let text = slice(bytes, start, end);
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let before = text.iter().take_while(|byte| blank(byte)).count();
    let after = text.iter().skip(before).rev().take_while(|byte| blank(byte)).count();
    start + before..end.max(start) - after
}

fn trim(text: &[u8]) -> &[u8] {
    let range = trimmed(text, 0, text.len());
    slice(text, range.start, range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Head::parse(bytes).fields().map(|field| (text(field.name), text(&field.unfolded()))).collect()
    }

    fn read(bytes: &[u8]) -> Fields<'_> {
        let mut fields = Head::parse(bytes).fields();
        fields.by_ref().for_each(drop);
        fields
    }

    #[test]
    fn a_plain_head_is_read_in_order_and_case() {
        let bytes = b"POST /x?y=1 HTTP/1.1\r\nHOST: a\r\nb:2\r\nB: \r\nb:\t 3 \r\n\r\nbody";
        let line = Head::parse(bytes).start.request();
        assert_eq!((line.method, line.target, line.version), (&b"POST"[..], &b"/x?y=1"[..], &b"HTTP/1.1"[..]));
        let expected = [("HOST", "a"), ("b", "2"), ("B", ""), ("b", "3")];
        assert_eq!(pairs(bytes), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let fields = read(bytes);
        assert!(fields.ended() && fields.oddities().is_empty());
        assert_eq!(&bytes[fields.position()..], b"body");
    }

    #[test]
    fn a_status_line_may_lack_its_reason() {
        for (line, code, reason) in [
            (&b"HTTP/1.1 200 Very OK\r\n"[..], Some(200), &b"Very OK"[..]),
            (b"HTTP/1.1 404 \r\n", Some(404), b""),
            (b"HTTP/1.0 204\r\n", Some(204), b""),
            (b"HTTP/1.0 20\r\n", None, b""),
            (b"HTTP/1.0 +20 x\r\n", None, b"x"),
            (b"", None, b""),
        ] {
            let status = Head::parse(line).start.status();
            assert_eq!((status.code, status.reason), (code, reason), "{line:?}");
        }
    }

    #[test]
    fn a_request_line_is_split_at_its_first_and_last_space() {
        let parts = |line| {
            let line: RequestLine<'static> = Head::parse(line).start.request();
            (line.method, line.target, line.version)
        };
        assert_eq!(parts(b"GET /a b HTTP/1.1\r\n"), (&b"GET"[..], &b"/a b"[..], &b"HTTP/1.1"[..]));
        assert_eq!(parts(b"GET /a\r\n"), (&b"GET"[..], &b"/a"[..], &b""[..]));
        assert_eq!(parts(b"GET\r\n"), (&b"GET"[..], &b""[..], &b""[..]));
    }

    #[test]
    fn continuation_lines_belong_to_their_field_and_its_range() {
        let bytes = b"GET / HTTP/1.1\r\nCookie: a=1;\r\n b=2\n\tc=3 \r\nHost: x\r\n\r\n";
        let field = Head::parse(bytes).fields().next().unwrap();
        assert!(field.folded() && field.is("cookie"));
        assert_eq!(&bytes[field.value_range.clone()], b"a=1;\r\n b=2\n\tc=3");
        assert_eq!(&*field.unfolded(), b"a=1; b=2 c=3");
        assert_eq!(pairs(bytes)[1], ("Host".to_owned(), "x".to_owned()));
    }

    #[test]
    fn a_value_may_begin_in_the_continuation_line() {
        let bytes = b"GET / HTTP/1.1\r\nA:\r\n secret\r\n\r\n";
        let field = Head::parse(bytes).fields().next().unwrap();
        assert_eq!(&bytes[field.value_range], b"secret");
    }

    #[test]
    fn a_name_may_begin_with_a_colon() {
        let bytes = b"CONNECT https://x/ HTTP/2\r\n:protocol: web:socket\r\n: a:b\r\n:\r\n\r\n";
        let expected = [(":protocol", "web:socket"), ("", "a:b"), ("", "")];
        assert_eq!(pairs(bytes), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn oddities_are_noted_where_they_stand() {
        for (line, oddity) in [
            (&b"A : b\r\n"[..], Oddities::SPACE_BEFORE_COLON),
            (b"A\r\n", Oddities::NO_COLON),
            (b" A: b\r\n", Oddities::SPACE_BEFORE_NAME),
            (b"A: b\n", Oddities::BARE_LF),
            (b"A: b\rc\r\n", Oddities::BARE_CR),
            (b"A: b\r\r\n", Oddities::BARE_CR),
            (b"A: b\0c\r\n", Oddities::NUL),
            (b"A: b\r\n c\r\n", Oddities::FOLDED),
            (b"A: b", Oddities::CUT),
        ] {
            let head = [b"GET / HTTP/1.1\r\n", line].concat();
            let field = Head::parse(&head).fields().next().unwrap();
            assert_eq!(field.oddities, oddity, "{line:?}");
            assert!(field.is("A") && read(&head).oddities().contains(oddity) && !read(&head).ended());
        }
    }

    #[test]
    fn trailers_need_no_start_line_and_no_end() {
        let fields: Vec<_> = Fields::of(b"Expires: now\r\nX: 1\r\n").collect();
        assert_eq!((fields[0].name, fields[1].value), (&b"Expires"[..], &b"1"[..]));
    }

    #[test]
    fn interim_heads_are_told_apart() {
        let codes: Vec<_> = heads(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n")
            .map(|head| head.start.status().code)
            .collect();
        assert_eq!(codes, [Some(100), Some(103)]);
    }

    #[test]
    fn every_byte_string_has_a_reading_with_ranges_inside_it() {
        let alphabet = b"\r\n: \taG/\0";
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..12 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.push(alphabet[usize::try_from(state).unwrap() % alphabet.len()]);
            }
            assert!(heads(&bytes).count() <= bytes.len());
            for field in Fields::of(&bytes) {
                assert_eq!(
                    (&bytes[field.name_range.clone()], &bytes[field.value_range.clone()]),
                    (field.name, field.value)
                );
            }
        }
    }
}
