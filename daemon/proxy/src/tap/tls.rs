//! Reads what a TLS handshake says in the clear (RFC 8446 §4.1, §4.2, §5.1; RFC 6066 §3; RFC 7301): server name and
//! protocols that the client offers, version and protocol that the server picks. It refuses to verify anything: bytes
//! that cannot be read leave their fact absent.

use std::borrow::Cow;

use nodetap_core::exchange::{Outcome, Protocol, TlsFacts};

use super::unopened::Reason;
use super::{Side, Verdict};

/// The longest hello that is gathered, in bytes; post-quantum key shares and padding stay well below.
const LONGEST_HELLO: usize = 64 * 1024;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// One connection's handshake.
#[derive(Debug, Default)]
pub(super) struct Tls {
    client: Hello,
    server: Hello,
    facts: TlsFacts,
}

impl Tls {
    pub(super) fn observe(&mut self, from: Side, bytes: &[u8]) {
        let hello = match from {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let Some(message) = hello.feed(bytes) else { return };
        // What could be read before something could not is kept.
        match from {
            Side::Client => Offer::of(&message).tell(&mut self.facts),
            Side::Server => drop(server_hello(&message, &mut self.facts)),
        }
    }

    pub(super) fn wants(&self, from: Side) -> bool {
        let hello = match from {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        hello.stage == Stage::Gathering
    }

    /// Bytes of that side were not shown.
    pub(super) fn give_up(&mut self, from: Side) {
        let hello = match from {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        if hello.stage == Stage::Gathering {
            hello.stop(Stage::Unreadable);
        }
    }

    /// What is said of it, and what is known; with the reason, where it was to be opened.
    pub(super) fn verdict(&self, not_opened: Option<Reason>) -> (Verdict, TlsFacts) {
        let passthrough = not_opened.map(|reason| Cow::Borrowed(reason.word()));
        let detail = match (&self.client.stage, not_opened) {
            (Stage::Read, Some(reason)) => Cow::Borrowed(reason.sentence()),
            _ => self.detail(),
        };
        let verdict = Verdict { protocol: Protocol::Tls, outcome: Outcome::Passthrough, detail };
        (verdict, TlsFacts { passthrough, ..self.facts.clone() })
    }

    fn detail(&self) -> Cow<'static, str> {
        match (self.client.stage, self.server.stage) {
            (_, Stage::Alert(code)) => Cow::Owned(format!("TLS, refused by the server with alert {}.", alert(code))),
            (Stage::Read, _) => Cow::Borrowed("TLS that was not opened."),
            _ => Cow::Borrowed("TLS that was not opened; its ClientHello could not be read."),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Gathering,
    Read,
    Unreadable,
    /// An alert came instead, with this description.
    Alert(u8),
}

/// The first handshake message of one side, out of as many records and pieces as it came in.
#[derive(Debug, Default)]
struct Hello {
    stage: Stage,
    /// Of the record's header, as far as it has come.
    header: Vec<u8>,
    /// Bytes of the record that are still to come, once its header is whole.
    left: usize,
    message: Vec<u8>,
}

impl Hello {
    const HEADER: usize = 5;
    const PREFIX: usize = 4;

    /// The message, type and length included, when it is whole.
    fn feed(&mut self, mut bytes: &[u8]) -> Option<Vec<u8>> {
        while self.stage == Stage::Gathering && !bytes.is_empty() {
            if self.left == 0 {
                let (header, rest) = split(bytes, Self::HEADER - self.header.len());
                self.header.extend_from_slice(header);
                bytes = rest;
                self.left = match self.header[..] {
                    [HANDSHAKE, 3, _, high, low] if self.may_continue_with(HANDSHAKE) => length(&[high, low]),
                    [ALERT, 3, _, 0, 2] if self.may_continue_with(ALERT) => 2,
                    [_, _, _, _, _] => return self.stop(Stage::Unreadable),
                    _ => continue,
                };
                if self.left == 0 {
                    // An empty record: RFC 8446 §5.1 forbids it, and it would make us wait for nothing.
                    return self.stop(Stage::Unreadable);
                }
            }
            let (part, rest) = split(bytes, self.left);
            self.message.extend_from_slice(part);
            self.left -= part.len();
            bytes = rest;
            if let Some(message) = self.whole() {
                return Some(message);
            }
            if self.left == 0 {
                self.header.clear();
            }
        }
        None
    }

    /// A message is not begun in one kind of record and ended in another.
    fn may_continue_with(&self, kind: u8) -> bool {
        self.message.is_empty() || kind == HANDSHAKE
    }

    fn whole(&mut self) -> Option<Vec<u8>> {
        if self.header.first() == Some(&ALERT) {
            return match self.message[..] {
                [_, description] => self.stop(Stage::Alert(description)),
                _ => None,
            };
        }
        let [kind, size @ ..] = self.message.get(..Self::PREFIX)? else { return None };
        let whole = Self::PREFIX + length(size);
        if !matches!(*kind, CLIENT_HELLO | SERVER_HELLO) || whole > LONGEST_HELLO {
            return self.stop(Stage::Unreadable);
        }
        if self.message.len() < whole {
            return None;
        }
        let mut message = std::mem::take(&mut self.message);
        message.truncate(whole);
        self.stop(Stage::Read);
        Some(message)
    }

    fn stop(&mut self, stage: Stage) -> Option<Vec<u8>> {
        *self = Self { stage, ..Self::default() };
        None
    }
}

/// What a client offers in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Offer {
    pub(crate) sni: Option<Vec<u8>>,
    pub(crate) alpn: Vec<Vec<u8>>,
}

impl Offer {
    /// Of a ClientHello, type and length included; what could be read before something could not is kept.
    pub(crate) fn of(message: &[u8]) -> Self {
        let mut offer = Self::default();
        let _ = offer.read(message);
        offer
    }

    pub(crate) fn tell(&self, facts: &mut TlsFacts) {
        let text = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
        facts.sni = self.sni.as_ref().map(text);
        facts.offered_alpn = self.alpn.iter().map(text).collect();
    }

    fn read(&mut self, message: &[u8]) -> Option<()> {
        let mut body = Reader(message);
        (body.number(1)? == usize::from(CLIENT_HELLO)).then_some(())?;
        body.take(3 + 2 + 32)?; // length, legacy version, random
        body.vector(1)?; // session
        body.vector(2)?; // cipher suites
        body.vector(1)?; // compression
        let mut extensions = Reader(body.vector(2)?);
        while let Some((kind, mut data)) = extensions.extension() {
            match kind {
                SERVER_NAME => {
                    let mut names = Reader(data.vector(2)?);
                    while let (Some(kind), Some(name)) = (names.number(1), names.vector(2)) {
                        if kind == 0 {
                            self.sni = Some(name.to_vec());
                        }
                    }
                }
                ALPN => {
                    let mut names = Reader(data.vector(2)?);
                    while let Some(name) = names.vector(1) {
                        self.alpn.push(name.to_vec());
                    }
                }
                _ => {}
            }
        }
        Some(())
    }
}

fn server_hello(message: &[u8], facts: &mut TlsFacts) -> Option<()> {
    let mut body = Reader(message);
    (body.number(1)? == usize::from(SERVER_HELLO)).then_some(())?;
    body.take(3)?;
    let mut version = body.number(2)?;
    facts.version = Some(version_name(version));
    body.take(32)?; // random
    body.vector(1)?; // session
    body.take(2 + 1)?; // cipher suite, compression
    let mut extensions = Reader(body.vector(2)?);
    while let Some((kind, mut data)) = extensions.extension() {
        match kind {
            SUPPORTED_VERSIONS => {
                version = data.number(2)?;
                facts.version = Some(version_name(version));
            }
            ALPN => {
                let name = Reader(data.vector(2)?).vector(1)?;
                facts.alpn = Some(String::from_utf8_lossy(name).into_owned());
            }
            _ => {}
        }
    }
    Some(())
}

fn version_name(version: usize) -> String {
    match version {
        0x0300 => "ssl3".to_owned(),
        0x0301..=0x0304 => format!("1.{}", version - 0x0301),
        other => format!("{other:#06x}"),
    }
}

/// Names of the alerts that servers answer a ClientHello with (RFC 8446 §6).
fn alert(code: u8) -> Cow<'static, str> {
    Cow::Borrowed(match code {
        0 => "close_notify",
        40 => "handshake_failure",
        47 => "illegal_parameter",
        50 => "decode_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        109 => "missing_extension",
        112 => "unrecognized_name",
        120 => "no_application_protocol",
        _ => return Cow::Owned(code.to_string()),
    })
}

/// Takes structures off the front of bytes; `None` when there are too few.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes.
    fn number(&mut self, size: usize) -> Option<usize> {
        self.take(size).map(length)
    }

    /// Bytes behind their length, which is a number of `size` bytes.
    fn vector(&mut self, size: usize) -> Option<&'a [u8]> {
        let count = self.number(size)?;
        self.take(count)
    }

    fn extension(&mut self) -> Option<(u16, Self)> {
        let kind = u16::try_from(self.number(2)?).ok()?;
        Some((kind, Self(self.vector(2)?)))
    }
}

/// A number, highest byte first.
fn length(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |value, byte| (value << 8) | usize::from(*byte))
}

/// At most `count` bytes, and the rest.
fn split(bytes: &[u8], count: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(count).unwrap_or((bytes, &[]))
}
