//! Takes secrets out of what was recorded, before anybody writes or shows it: the values of `Authorization`,
//! `Proxy-Authorization`, `Cookie` and `Set-Cookie`, in heads, interim heads and trailers; and a user and password in
//! the URL that is asked for. It works on the raw bytes, however malformed, and when in doubt about where a value ends
//! it takes more, never less. It refuses to look into bodies, and into paths and queries.
//!
//! It runs once per exchange: a head in which nothing matches is read once and not copied.

use std::borrow::Cow;

use crate::exchange::{Event, Exchange, Message};

/// What stands in the place of a value.
pub const PLACEHOLDER: &[u8] = b"[redacted]";

/// A header whose value is secret, and what its rule is called in each part of an exchange.
struct Secret {
    name: &'static [u8],
    request_header: &'static str,
    request_trailer: &'static str,
    interim_header: &'static str,
    response_header: &'static str,
    response_trailer: &'static str,
}

macro_rules! secret {
    ($name:literal) => {
        Secret {
            name: $name.as_bytes(),
            request_header: concat!("request.header.", $name),
            request_trailer: concat!("request.trailer.", $name),
            interim_header: concat!("interim.header.", $name),
            response_header: concat!("response.header.", $name),
            response_trailer: concat!("response.trailer.", $name),
        }
    };
}

const SECRETS: [Secret; 4] =
    [secret!("authorization"), secret!("proxy-authorization"), secret!("cookie"), secret!("set-cookie")];

/// Redacts an event in place; an exchange says afterwards which rules changed it.
pub fn redact(event: &mut Event) {
    if let Event::Exchange(exchange) = event {
        redact_exchange(exchange);
    }
}

/// What stands before the `@` of a URL, or of the target of a CONNECT (RFC 3986 §3.2.1).
const USERINFO: &str = "request.target.userinfo";

fn redact_exchange(exchange: &mut Exchange) {
    let rules = &mut exchange.redacted;
    if let Some((start, end)) = userinfo(&exchange.request.head) {
        exchange.request.head.splice(start..end, PLACEHOLDER.iter().copied());
        rules.push(Cow::Borrowed(USERINFO));
    }
    redact_message(&mut exchange.request, rules, |secret| secret.request_header, |secret| secret.request_trailer);
    redact_bytes(&mut exchange.interim, Section::Head, rules, |secret| secret.interim_header);
    if let Some(response) = &mut exchange.response {
        redact_message(response, rules, |secret| secret.response_header, |secret| secret.response_trailer);
    }
}

type RuleOf = fn(&Secret) -> &'static str;

/// Which part of a message: only a head begins with a start line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Head,
    Trailers,
}

fn redact_message(message: &mut Message, rules: &mut Vec<Cow<'static, str>>, header: RuleOf, trailer: RuleOf) {
    redact_bytes(&mut message.head, Section::Head, rules, header);
    redact_bytes(&mut message.trailers, Section::Trailers, rules, trailer);
}

fn redact_bytes(bytes: &mut Vec<u8>, section: Section, rules: &mut Vec<Cow<'static, str>>, rule: RuleOf) {
    let mut clean: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = next_secret(bytes, section, at) {
        let clean = clean.get_or_insert_with(|| Vec::with_capacity(bytes.len()));
        clean.extend_from_slice(slice(bytes, copied, found.value_start));
        clean.extend_from_slice(b" ");
        clean.extend_from_slice(PLACEHOLDER);
        (copied, at) = (found.value_end, found.value_end);
        let rule = rule(found.secret);
        if !rules.iter().any(|known| known == rule) {
            rules.push(Cow::Borrowed(rule));
        }
    }
    if let Some(mut clean) = clean {
        clean.extend_from_slice(slice(bytes, copied, bytes.len()));
        *bytes = clean;
    }
}

/// Where in a request's head the user and password lie that its target names. A target in origin-form has none; what
/// has no scheme is taken for an authority.
fn userinfo(head: &[u8]) -> Option<(usize, usize)> {
    let line = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let length = memchr::memchr2(b'\r', b'\n', slice(head, line, head.len())).unwrap_or(head.len() - line);
    let line_end = line + length;
    let target = line + memchr::memchr(b' ', slice(head, line, line_end))? + 1;
    let rest = slice(head, target, line_end);
    let scheme = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-. ".contains(byte)).count();
    let skipped = if slice(rest, scheme, scheme + 3) == b"://" { scheme + 3 } else { 0 };
    let authority = slice(rest, skipped, rest.len());
    // A space does not end it: who writes one into a password would otherwise show what follows.
    let length = authority.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(authority.len());
    let end = memchr::memrchr(b'@', slice(authority, 0, length))?;
    (end > 0).then_some((target + skipped, target + skipped + end))
}

struct Found {
    secret: &'static Secret,
    /// Behind the colon, or behind the name when there is no colon.
    value_start: usize,
    /// Where the line end begins that closes the value, continuation lines included.
    value_end: usize,
}

/// The first secret field at or after `from`. A line begins where `bytes` do and after every LF *and* every CR: some
/// receivers take a bare CR for a line end. A value, in contrast, ends only at LF: some do not.
fn next_secret(bytes: &[u8], section: Section, from: usize) -> Option<Found> {
    let mut start = from;
    loop {
        if let Some((secret, value_start)) =
            secret_line(slice(bytes, start, bytes.len()), section == Section::Head && start == 0)
        {
            let value_start = start + value_start;
            return Some(Found { secret, value_start, value_end: value_end(bytes, value_start) });
        }
        start += 1 + memchr::memchr2(b'\n', b'\r', slice(bytes, start, bytes.len()))?;
    }
}

/// Whether the line that `rest` begins with carries a secret, and where in it the value begins. What stands around
/// the name (whitespace, control bytes, stray colons) does not matter, nor does the colon, save in a start line: its
/// method may be called `COOKIE`.
fn secret_line(rest: &[u8], start_line: bool) -> Option<(&'static Secret, usize)> {
    // The longest name decides how far is looked: nothing secret begins deeper in a line than after this much noise.
    let noise = rest.iter().take_while(|byte| !is_token(**byte) && !matches!(byte, b'\n' | b'\r')).count();
    let rest_of_line = slice(rest, noise, rest.len());
    if !matches!(rest_of_line.first().map(u8::to_ascii_lowercase), Some(b'a' | b'p' | b'c' | b's')) {
        return None;
    }
    let secret = SECRETS.iter().find(|secret| {
        rest_of_line.get(..secret.name.len()).is_some_and(|name| name.eq_ignore_ascii_case(secret.name))
            && !rest_of_line.get(secret.name.len()).copied().is_some_and(is_token)
    })?;
    let name_end = noise + secret.name.len();
    let after = slice(rest, name_end, rest.len());
    let gap = after.iter().take_while(|byte| !matches!(byte, b'\n' | b'\r' | b':') && !is_token(**byte)).count();
    match after.get(gap) {
        Some(b':') => Some((secret, name_end + gap + 1)),
        _ if start_line => None,
        _ => Some((secret, name_end)),
    }
}

/// The value goes on to the LF after which no line begins with whitespace; the line end itself is left in place.
fn value_end(bytes: &[u8], value_start: usize) -> usize {
    let mut at = value_start;
    loop {
        let Some(feed) = slice(bytes, at, bytes.len()).iter().position(|byte| *byte == b'\n') else {
            return bytes.len();
        };
        let feed = at + feed;
        if matches!(bytes.get(feed + 1), Some(b' ' | b'\t')) {
            at = feed + 1;
            continue;
        }
        let carriage = feed > value_start && bytes.get(feed - 1) == Some(&b'\r');
        return if carriage { feed - 1 } else { feed };
    }
}

/// RFC 9110 §5.6.2 `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn slice(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(head: &[u8]) -> (Vec<u8>, Vec<String>) {
        let (mut bytes, mut rules) = (head.to_vec(), Vec::new());
        redact_bytes(&mut bytes, Section::Head, &mut rules, |secret| secret.request_header);
        (bytes, rules.into_iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn a_head_without_secrets_is_left_as_it_is() {
        let head = b"COOKIE /cookie HTTP/1.1\r\nHost: a\r\nX-Cookie: 1\r\nCookies: 2\r\nAccept: cookie: x\r\n\r\n";
        assert_eq!(redacted(head), (head.to_vec(), vec![]));
    }

    #[test]
    fn the_value_goes_and_the_lines_around_it_stay() {
        let (bytes, rules) = redacted(b"GET / HTTP/1.1\r\nHost: a\r\nCOOKIE: a=1\r\nauthorization:x\r\nX: 1\r\n\r\n");
        assert_eq!(
            bytes,
            b"GET / HTTP/1.1\r\nHost: a\r\nCOOKIE: [redacted]\r\nauthorization: [redacted]\r\nX: 1\r\n\r\n"
        );
        assert_eq!(rules, ["request.header.cookie", "request.header.authorization"]);
    }

    #[test]
    fn a_user_and_password_in_the_url_are_no_part_of_the_record() {
        for (head, clean) in [
            ("GET http://u:S3CRET@a:8/x?y HTTP/1.1\r\n\r\n", "GET http://[redacted]@a:8/x?y HTTP/1.1\r\n\r\n"),
            ("GET https://S3CRET@a HTTP/2\r\n\r\n", "GET https://[redacted]@a HTTP/2\r\n\r\n"),
            ("CONNECT u:S3CRET@a:1 HTTP/1.1\r\n\r\n", "CONNECT [redacted]@a:1 HTTP/1.1\r\n\r\n"),
            ("\r\nGET ws://u:S3@CRET@a", "\r\nGET ws://[redacted]@a"),
            ("GET http://u:S3CR ET@a/ HTTP/1.1\n", "GET http://[redacted]@a/ HTTP/1.1\n"),
            ("GET  http://u:S3CRET@a/ HTTP/1.1\n", "GET  http://[redacted]@a/ HTTP/1.1\n"),
        ] {
            let mut exchange = crate::samples::exchange();
            exchange.request = Message { head: head.into(), ..Message::default() };
            redact_exchange(&mut exchange);
            assert_eq!(String::from_utf8_lossy(&exchange.request.head), clean);
            assert_eq!(exchange.redacted[0], "request.target.userinfo", "{head}");
            let once = exchange.request.head.clone();
            redact_exchange(&mut exchange);
            assert_eq!(exchange.request.head, once);
        }
        for head in
            ["GET /a@b HTTP/1.1\r\n", "GET http://a/@b HTTP/1.1\r\n", "GET http://a?c@d", "GET", "", "\r\n", "@ @"]
        {
            assert_eq!(userinfo(head.as_bytes()), None, "{head}");
        }
    }

    #[test]
    fn no_way_of_writing_a_secret_header_leaves_its_secret_in_place() {
        let names = ["Authorization", "PROXY-AUTHORIZATION", "cookie", "Set-Cookie"];
        let forms = [
            "{n}: S3CRET\r\n",
            "{n}:S3CRET\n",
            "{n}:\tS3CRET\r",
            "{n} : S3CRET\r\n",
            "{n}\t: S3CRET\r\n",
            "{n}:\r\n S3CRET\r\n",
            "{n}: a\r\n\tb\r\n S3CRET\r\n",
            "{n}: a\n S3CRET\n",
            "{n}: a\rS3CRET\r\n",
            "{n}: a\r S3CRET\n",
            " {n}: S3CRET\r\n",
            "\x00{n}\x00: S3CRET\r\n",
            ":{n}: S3CRET\r\n",
            "{n} S3CRET\r\n",
            "{n}: S3CRET",
            "{n}: a\u{0}S3CRET\r\n",
            "{n}:: S3CRET\r\n",
            "{n}:\n\tS3CRET",
            "{n}=S3CRET\r\n",
            "X: y\r{n}: S3CRET\r\n",
            "\u{b}{n}: S3CRET\r\n",
            "{n}: a, \"\r\n \r\n S3CRET\"\r\n",
        ];
        for name in names {
            for form in forms {
                for (before, after) in [
                    ("", ""),
                    ("GET / HTTP/1.1\r\n", "Host: a\r\n\r\n"),
                    ("HTTP/1.1 200 OK\n", "X: y\n\n"),
                    ("GET / HTTP/1.1\rHost: x\r", "\r\r"),
                    ("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 103 X\r\n", "\r\n"),
                ] {
                    if before.is_empty() && !form.contains(':') || before.is_empty() && form.starts_with("{n} S") {
                        continue; // A first line without a colon is a start line.
                    }
                    let head = format!("{before}{}{after}", form.replace("{n}", name));
                    let (bytes, rules) = redacted(head.as_bytes());
                    let shown = String::from_utf8_lossy(&bytes).into_owned();
                    assert!(!shown.contains("S3CRET"), "{head:?} became {shown:?}");
                    assert_eq!(rules, [format!("request.header.{}", name.to_ascii_lowercase())], "{head:?}");
                }
            }
        }
    }

    #[test]
    fn the_first_line_of_trailers_is_a_field_with_or_without_its_colon() {
        let message =
            |trailers: &[u8]| Message { trailers: trailers.to_vec(), ..crate::samples::message("GET / HTTP/1.1", "") };
        let mut exchange = crate::samples::exchange();
        exchange.request = message(b"Cookie S3CRET\r\n");
        exchange.response = Some(message(b"Set-Cookie=S3CRET\r\nX: y\r\n"));
        redact_exchange(&mut exchange);
        assert_eq!(exchange.request.trailers, b"Cookie [redacted]\r\n");
        assert_eq!(exchange.response.unwrap().trailers, b"Set-Cookie [redacted]\r\nX: y\r\n");
        assert_eq!(exchange.redacted, ["request.trailer.cookie", "response.trailer.set-cookie"]);
    }

    #[test]
    fn random_heads_around_a_secret_never_leak_it_and_redaction_is_stable() {
        let mut state = 7u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            usize::try_from(state >> 40).unwrap() % n
        };
        let pieces: [&[u8]; 10] =
            [b"\r\n", b"\n", b"\r", b" ", b"\t", b"X: y", b"Host: a", b"cookie: b", b"GET / HTTP/1.1", b":"];
        for _ in 0..20_000 {
            let mut head = Vec::new();
            (0..random(6)).for_each(|_| head.extend_from_slice(pieces[random(10)]));
            head.extend_from_slice([&b"\n"[..], b"\r\n", b"\r"][random(3)]);
            head.extend_from_slice(b"Set-Cookie:");
            (0..random(3)).for_each(|_| head.extend_from_slice([&b" "[..], b"\r\n ", b"\n\t", b"\r", b"x"][random(5)]));
            head.extend_from_slice(b"S3CRET");
            (0..random(6)).for_each(|_| head.extend_from_slice(pieces[random(10)]));
            let (once, _) = redacted(&head);
            assert!(!once.windows(6).any(|window| window == b"S3CRET"), "{:?}", String::from_utf8_lossy(&head));
            assert_eq!(redacted(&once).0, once, "{:?}", String::from_utf8_lossy(&head));
        }
    }
}
