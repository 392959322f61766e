//! The negotiation with a client of the forward proxy: what it speaks, and where it wants to go. Exactly the bytes of
//! the negotiation are taken from the socket. It connects to nothing.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use nodetap_core::exchange::{Outcome, Via};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority::Authority;
use super::connect;
use super::names;
use super::peek::{self, Short};
use super::reach::{self, sentence};
use super::sniff::{self, Speech};
use super::socks::{self, Method, Reply};

/// A client that only connects (browsers do, in advance) is waited for so long.
const FIRST_BYTE: Duration = Duration::from_secs(60);
/// From its first byte on a client has so long to say where it wants to go.
const HEAD: Duration = Duration::from_secs(10);

/// What a client asks for.
#[derive(Debug)]
pub enum Ask {
    Tunnel(Tunnel),
    /// Requests of HTTP/1, in absolute form or wrong; nothing was taken from the socket.
    Http1,
    /// HTTP/2, from its preface on; nothing was taken from the socket.
    Http2,
}

/// A tunnel that is to be made; the client waits for an answer.
#[derive(Debug)]
pub struct Tunnel {
    pub dialect: Dialect,
    pub to: Authority,
}

/// How a client asks for a tunnel, and is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Connect,
    Socks4,
    Socks5,
}

/// A client that is to be sent away.
#[derive(Debug)]
pub struct Refusal {
    pub via: Via,
    pub outcome: Outcome,
    /// One sentence.
    pub detail: String,
    /// The last that it hears.
    pub answer: Vec<u8>,
}

impl Dialect {
    pub fn via(self) -> Via {
        match self {
            Self::Connect => Via::ForwardConnect,
            Self::Socks4 => Via::ForwardSocks4,
            Self::Socks5 => Via::ForwardSocks5,
        }
    }

    /// The upstream stands, connected from `local`.
    pub fn granted(self, local: SocketAddr) -> Vec<u8> {
        match self {
            Self::Connect => connect::ESTABLISHED.to_vec(),
            Self::Socks4 => Reply::Granted(local).encode4(),
            Self::Socks5 => Reply::Granted(local).encode5(),
        }
    }

    /// There is no upstream.
    pub fn unreached(self, error: &reach::Error) -> Vec<u8> {
        match self {
            Self::Connect => connect::refusal(error.status(), &error.sentence()),
            Self::Socks4 => reply(error).encode4(),
            Self::Socks5 => reply(error).encode5(),
        }
    }

    fn wrong(self, error: socks::Error) -> Refusal {
        let reply = Reply::from(error);
        let answer = match self {
            Self::Socks5 => reply.encode5(),
            Self::Socks4 | Self::Connect => reply.encode4(),
        };
        self.malformed(error, answer)
    }

    fn malformed(self, error: impl std::error::Error, answer: Vec<u8>) -> Refusal {
        Refusal { via: self.via(), outcome: Outcome::Malformed, detail: sentence(&error.to_string()), answer }
    }
}

/// An answer that says in one line why not, after which the connection is closed.
pub fn http_refusal(status: u16, sentence: &str) -> Vec<u8> {
    connect::refusal(status, sentence)
}

fn reply(error: &reach::Error) -> Reply {
    match error {
        reach::Error::Loop { .. } => Reply::NotAllowed,
        reach::Error::Name { source: names::Error::TimedOut, .. } | reach::Error::TimedOut { .. } => Reply::TimedOut,
        reach::Error::Name { .. } => Reply::HostUnreachable,
        reach::Error::Connect { .. } => match error.errno() {
            Some(Errno::CONNREFUSED) => Reply::Refused,
            Some(Errno::NETUNREACH) => Reply::NetworkUnreachable,
            Some(Errno::HOSTUNREACH) => Reply::HostUnreachable,
            Some(Errno::TIMEDOUT) => Reply::TimedOut,
            Some(Errno::ACCESS | Errno::PERM) => Reply::NotAllowed,
            _ => Reply::Failed,
        },
        reach::Error::Ourselves { .. } | reach::Error::ClientGone { .. } => Reply::Failed,
    }
}

/// Negotiates.
///
/// # Errors
/// When the client asks for nothing that can be served, or does not ask in time.
pub async fn ask(client: &mut TcpStream) -> Result<Ask, Refusal> {
    // An end or an error is found by whoever looks next.
    let _ = timeout(FIRST_BYTE, client.readable()).await.map_err(|_| Stage::FIRST.late(FIRST_BYTE))?;
    let stage = Cell::new(Stage::FIRST);
    let asked = timeout(HEAD, negotiate(client, &stage)).await;
    asked.unwrap_or_else(|_| Err(stage.get().late(HEAD)))
}

async fn negotiate(client: &mut TcpStream, stage: &Cell<Stage>) -> Result<Ask, Refusal> {
    let enough = sniff::BLANKS + sniff::ENOUGH;
    let mut seen = Vec::new();
    let told = peek::peek(client, enough, |bytes| {
        let speech = sniff::tell(bytes)?;
        seen.extend_from_slice(bytes);
        Some(speech)
    });
    match told.await.map_err(|short| stage.get().short(&short))? {
        Speech::Http1 => Ok(Ask::Http1),
        Speech::Http2 => Ok(Ask::Http2),
        Speech::Connect => {
            stage.set(Stage { via: Via::ForwardConnect, what: "the head of its CONNECT" });
            connect(client, stage.get()).await
        }
        Speech::Socks4 => {
            stage.set(Stage { via: Via::ForwardSocks4, what: "its SOCKS request" });
            let to = message(client, stage.get(), Dialect::Socks4, &seen, socks::request4).await?;
            Ok(Ask::Tunnel(Tunnel { dialect: Dialect::Socks4, to }))
        }
        Speech::Socks5 => {
            stage.set(Stage { via: Via::ForwardSocks5, what: "its SOCKS request" });
            socks5(client, stage.get(), &seen).await
        }
        Speech::SocksUnknown(version) => {
            Err(Dialect::Socks5.malformed(socks::Error::Version(version), socks::NO_METHOD.to_vec()))
        }
        Speech::Tls => Err(Refusal {
            via: Via::ForwardHttp,
            outcome: Outcome::Refused,
            detail: "The client speaks TLS to the proxy itself, which has no certificate: its address is http://, not \
                     https://."
                .to_owned(),
            answer: HANDSHAKE_FAILURE.to_vec(),
        }),
    }
}

/// Why a client's connection came to nothing that ended before its first request.
pub const NOTHING_ASKED: &str = "The client closed without asking for anything.";

/// A fatal TLS alert (RFC 8446 §6).
const HANDSHAKE_FAILURE: [u8; 7] = [0x15, 3, 1, 0, 2, 2, 40];

async fn connect(client: &mut TcpStream, stage: Stage) -> Result<Ask, Refusal> {
    let refuse = |error: connect::Error| {
        let answer = connect::refusal(error.status(), &sentence(&error.to_string()));
        let outcome = error.outcome();
        Refusal { outcome, ..Dialect::Connect.malformed(error, answer) }
    };
    let parsed = peek::peek(client, connect::LONGEST, |bytes| connect::parse(bytes).transpose()).await;
    let connect::Connect { to, length } = match parsed {
        Ok(parsed) => parsed.map_err(refuse)?,
        Err(Short::Full) => return Err(refuse(connect::Error::TooLong)),
        Err(short) => return Err(stage.short(&short)),
    };
    peek::take(client, length).await.map_err(|_| stage.short(&Short::Ended(length)))?;
    Ok(Ask::Tunnel(Tunnel { dialect: Dialect::Connect, to }))
}

async fn socks5(client: &mut TcpStream, stage: Stage, seen: &[u8]) -> Result<Ask, Refusal> {
    let dialect = Dialect::Socks5;
    // Before a method is agreed on there are no replies, only "no method".
    let greeting = message(client, stage, dialect, seen, socks::greeting).await;
    let method = greeting.map_err(|refusal| refusal.with_answer(&socks::NO_METHOD))?;
    say(client, stage, &method.answer()).await?;
    if method == Method::UserPassword {
        let credentials = message(client, stage, dialect, &[], socks::credentials).await;
        credentials.map_err(|refusal| refusal.with_answer(&socks::UNWELCOME))?;
        say(client, stage, &socks::WELCOME).await?;
    }
    let to = message(client, stage, dialect, &[], socks::request5).await?;
    Ok(Ask::Tunnel(Tunnel { dialect, to }))
}

/// One message of SOCKS, taken from the socket; `seen` is what was looked at already.
async fn message<T>(
    client: &mut TcpStream,
    stage: Stage,
    dialect: Dialect,
    seen: &[u8],
    read: impl Fn(&[u8]) -> socks::Read<T>,
) -> Result<T, Refusal> {
    let read = match read(seen).transpose() {
        Some(read) => Ok(read),
        None => peek::peek(client, socks::LONGEST, |bytes| read(bytes).transpose()).await,
    };
    let (value, length) = match read {
        Ok(read) => read.map_err(|error| dialect.wrong(error))?,
        Err(Short::Full) => return Err(dialect.wrong(socks::Error::TooLong)),
        Err(short) => return Err(stage.short(&short)),
    };
    peek::take(client, length).await.map_err(|_| stage.short(&Short::Ended(length)))?;
    Ok(value)
}

async fn say(client: &mut TcpStream, stage: Stage, bytes: &[u8]) -> Result<(), Refusal> {
    client.write_all(bytes).await.map_err(|_| stage.short(&Short::Ended(bytes.len())))
}

/// What the client is about to say.
#[derive(Debug, Clone, Copy)]
struct Stage {
    via: Via,
    what: &'static str,
}

impl Stage {
    const FIRST: Self = Self { via: Via::ForwardHttp, what: "its request" };

    fn short(self, short: &Short) -> Refusal {
        let detail = match short {
            Short::Ended(0) if self.via == Via::ForwardHttp => NOTHING_ASKED.into(),
            Short::Ended(_) | Short::Full => format!("The client closed in the middle of {}.", self.what),
        };
        Refusal { via: self.via, outcome: Outcome::ClientAborted, detail, answer: Vec::new() }
    }

    fn late(self, limit: Duration) -> Refusal {
        let detail = format!("The client did not finish {} within {} seconds.", self.what, limit.as_secs());
        let answer = if self.via == Via::ForwardConnect { connect::refusal(408, &detail) } else { Vec::new() };
        Refusal { via: self.via, outcome: Outcome::Timeout, detail, answer }
    }
}

impl Refusal {
    /// Another answer, if any is due: none is to a client that has gone.
    fn with_answer(self, answer: &[u8]) -> Self {
        if self.answer.is_empty() { self } else { Self { answer: answer.to_vec(), ..self } }
    }
}
