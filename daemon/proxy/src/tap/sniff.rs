//! Tells what a connection speaks by the first bytes of either side. Nothing waits for it: the bytes have been sent on
//! already, so it can take the time of a whole line, and refuses to decide by three letters that look like a method.

use nodetap_core::exchange::Protocol;
use nodetap_core::head::Head;

use super::http1::is_token;
use super::http2::{PREFACE, begins_with_settings};
use super::{End, Side, Verdict};

/// The longest beginning that is looked at, in bytes; a longer first line with an unknown method is no HTTP.
const LONGEST: usize = 8 * 1024;
/// The longest method that is waited for, in bytes.
const LONGEST_METHOD: usize = 32;
/// Ends that are remembered: two directions, each a FIN and then a reset.
const ENDS: usize = 4;

/// As much of HTTP/2's preface as tells it from HTTP/1.
const HTTP2: usize = b"PRI * HTTP/2.0".len();
/// Methods that, with a path behind them, are HTTP before the line is whole.
const METHODS: [&[u8]; 9] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    Undecided,
    Http1,
    Http2,
    Tls,
    /// Nothing that is looked into; the sentence says what is known of it.
    Other(&'static str),
}

/// The beginning of a connection, while it is undecided.
#[derive(Debug, Default)]
pub(super) struct Sniff {
    pub(super) client: Vec<u8>,
    pub(super) server: Vec<u8>,
    /// When the first byte came.
    pub(super) since: u64,
    pub(super) ends: Vec<(Side, End)>,
}

impl Sniff {
    /// Looks at one more piece, and keeps it while it is undecided. The piece that decides is not kept.
    pub(super) fn look(&mut self, from: Side, bytes: &[u8], now: u64) -> Guess {
        if self.client.is_empty() && self.server.is_empty() {
            self.since = now;
        }
        let (own, other) = match from {
            Side::Client => (&mut self.client, &self.server),
            Side::Server => (&mut self.server, &self.client),
        };
        let before = own.len();
        if before > 0 {
            own.extend_from_slice(bytes);
        }
        let whole = if before > 0 { &own[..] } else { bytes };
        let guess = match from {
            Side::Client => guess(whole, other),
            Side::Server => guess(other, whole),
        };
        match guess {
            Guess::Undecided if before == 0 => own.extend_from_slice(bytes),
            Guess::Undecided => {}
            _ => own.truncate(before),
        }
        guess
    }

    pub(super) fn note(&mut self, from: Side, end: End) {
        if self.ends.len() < ENDS {
            self.ends.push((from, end));
        }
    }

    /// What is said of a connection that ended undecided.
    pub(super) fn verdict(&self) -> Verdict {
        let detail = if self.client.is_empty() && self.server.is_empty() {
            "No byte was sent."
        } else {
            "The connection ended before it could be told what it speaks."
        };
        Verdict::passthrough(Protocol::Tcp, detail)
    }
}

fn guess(client: &[u8], server: &[u8]) -> Guess {
    match client {
        [] if server.is_empty() => Guess::Undecided,
        _ if client.get(..HTTP2) == PREFACE.get(..HTTP2) => Guess::Http2,
        // A server of HTTP/2 need not wait for the client (RFC 9113 §3.4).
        _ if begins_with_settings(server) => {
            if server.len() <= LONGEST && PREFACE.starts_with(client) {
                Guess::Undecided
            } else {
                too_early(client)
            }
        }
        [] => too_early(client),
        [0x16] => unless_server_spoke(client, server),
        [0x16, 0x03, ..] => Guess::Tls,
        _ => match guess_text(client) {
            Guess::Undecided => unless_server_spoke(client, server),
            decided => decided,
        },
    }
}

/// The client's first words are not decisive: the server's may be.
fn unless_server_spoke(client: &[u8], server: &[u8]) -> Guess {
    const HTTP: &[u8] = b"HTTP/";
    if server.starts_with(HTTP) {
        Guess::Http1
    } else if HTTP.starts_with(server) {
        Guess::Undecided
    } else {
        too_early(client)
    }
}

/// The server's first words are none that wait for the client's.
fn too_early(client: &[u8]) -> Guess {
    Guess::Other(match client {
        [] => "The server spoke first; it was not looked into.",
        _ => "The server answered before it could be told what the client speaks.",
    })
}

fn guess_text(client: &[u8]) -> Guess {
    const UNKNOWN: Guess = Guess::Other("It begins like no protocol that is looked into.");
    let blanks = client.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let text = client.get(blanks..).unwrap_or_default();
    let undecided = if client.len() > LONGEST { UNKNOWN } else { Guess::Undecided };
    let Some(space) = text.iter().position(|byte| *byte == b' ') else {
        return if text.len() > LONGEST_METHOD || !(text.is_empty() || is_token(text)) { UNKNOWN } else { undecided };
    };
    let method = text.get(..space).unwrap_or_default();
    if method.len() > LONGEST_METHOD || !is_token(method) {
        return UNKNOWN;
    }
    if METHODS.contains(&method) && text.get(space + 1) == Some(&b'/') {
        return Guess::Http1;
    }
    if !text.contains(&b'\n') {
        return undecided;
    }
    if Head::parse(text).start.request().version.starts_with(b"HTTP/1.") { Guess::Http1 } else { UNKNOWN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_other(guess: Guess) -> bool {
        matches!(guess, Guess::Other(_))
    }

    #[test]
    fn http_is_told_by_its_first_line_only() {
        for text in
            ["GET / HTTP/1.1\r\n", "GET /", "BREW coffee:x HTTP/1.0\r\n", "\r\n\nPOST /x", "OPTIONS * HTTP/1.1\n"]
        {
            assert_eq!(guess(text.as_bytes(), b""), Guess::Http1, "{text}");
        }
        for text in
            ["PING\r\n", "EHLO me\r\n", "USER joe\r\n", "SSH-2.0-x\r\n", "GET key\r\n", "*1\r\n$4\r\n", "\0", " GET /"]
        {
            assert!(is_other(guess(text.as_bytes(), b"")), "{text}");
        }
        for text in ["", "\r\n", "G", "GET", "GET ", "GET h", "FOO /x HTTP/1.1", "PRI * HTTP/2"] {
            assert_eq!(guess(text.as_bytes(), b""), Guess::Undecided, "{text}");
        }
    }

    #[test]
    fn a_first_line_without_end_is_given_up() {
        assert!(is_other(guess(format!("FOO {}", "x".repeat(LONGEST)).as_bytes(), b"")));
        assert!(is_other(guess("x".repeat(LONGEST_METHOD + 1).as_bytes(), b"")));
        assert!(is_other(guess("\n".repeat(LONGEST + 1).as_bytes(), b"")));
    }

    #[test]
    fn http2_and_tls_are_told_by_their_first_bytes() {
        assert_eq!(guess(b"PRI * HTTP/2.0", b""), Guess::Http2);
        assert_eq!(guess(b"", b"\0\0\0\x04\0\0\0\0\0"), Guess::Undecided);
        assert_eq!(guess(b"PRI", b"\0\0\0\x04\0\0\0\0\0"), Guess::Undecided);
        assert!(is_other(guess(b"GET", b"\0\0\0\x04\0\0\0\0\0")));
        assert!(is_other(guess(b"", b"\0\0\0\x04\x01")));
        assert_eq!(guess(&[0x16], b""), Guess::Undecided);
        assert_eq!(guess(&[0x16, 3], b""), Guess::Tls);
        assert!(is_other(guess(&[0x16, 2], b"")));
    }

    #[test]
    fn a_server_that_speaks_first_is_opaque_and_one_that_answers_too_early_decides() {
        assert!(is_other(guess(b"", b"2")));
        assert_eq!(guess(b"GE", b"HT"), Guess::Undecided);
        assert_eq!(guess(b"GE", b"HTTP/"), Guess::Http1);
        assert!(is_other(guess(b"GE", b"2")));
    }
}
