//! One end of TLS, as values: ciphertext in, plaintext and ciphertext out. It refuses to know sockets. rustls is used
//! without its buffers, so that an idle connection keeps nothing but what is left of a record.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedConnectionCommon, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, ProtocolVersion, ServerConfig};

/// Plaintext of one record (RFC 8446 §5.1).
const RECORD: usize = 16 * 1024;
/// What a record adds at most: header, nonce, content type and tag, with room to spare.
const OVERHEAD: usize = 64;

/// One end of TLS.
pub(crate) enum Session {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if matches!(self, Self::Client(_)) { "Client" } else { "Server" };
        f.debug_struct(end).field("version", &self.version()).finish_non_exhaustive()
    }
}

/// What came of ciphertext.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Bytes at the front that are done with; the rest has to be shown again, with more behind it.
    pub(crate) used: usize,
    /// close_notify came.
    pub(crate) notified: bool,
    /// Nothing more will come of this session; an alert that says so may have been written.
    pub(crate) error: Option<Error>,
}

impl Session {
    pub(super) fn client(config: ClientConfig, name: ServerName<'static>) -> Result<Self, Error> {
        UnbufferedClientConnection::new(Arc::new(config), name).map(|session| Self::Client(Box::new(session)))
    }

    pub(super) fn server(config: ServerConfig) -> Result<Self, Error> {
        UnbufferedServerConnection::new(Arc::new(config)).map(|session| Self::Server(Box::new(session)))
    }

    /// Takes in ciphertext: plaintext is added to `plain`, what has to be sent for it to `out`.
    pub(crate) fn receive(&mut self, incoming: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Received {
        match self {
            Self::Client(session) => receive(session, from_server, incoming, plain, out),
            Self::Server(session) => receive(session, from_client, incoming, plain, out),
        }
    }

    /// Adds `plain` to `out` as records. `kept` is what [`Self::receive`] has not used yet.
    ///
    /// # Errors
    /// When the keys are used up and cannot be renewed (RFC 8446 §5.5), or the handshake is not over.
    pub(crate) fn encrypt(&mut self, plain: &[u8], kept: &mut [u8], out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Client(session) => send(session, from_server, Send::Data(plain), kept, out),
            Self::Server(session) => send(session, from_client, Send::Data(plain), kept, out),
        }
    }

    /// Adds close_notify to `out`: no data will follow (RFC 8446 §6.1).
    pub(crate) fn notify(&mut self, kept: &mut [u8], out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Client(session) => send(session, from_server, Send::Notify, kept, out),
            Self::Server(session) => send(session, from_client, Send::Notify, kept, out),
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// Is this a server whose last handshake message before its tickets went out before the client's (RFC 8446 §2)? With
    /// TLS 1.2 the last word is the server's.
    pub(crate) fn has_only_tickets_left(&self) -> bool {
        let is_server = matches!(self, Self::Server(_));
        is_server && !self.is_handshaking() && self.common().protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// The protocol that was agreed upon (RFC 7301).
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// "1.2" or "1.3", once it is known.
    pub(crate) fn version(&self) -> Option<&'static str> {
        match self.common().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("1.2"),
            ProtocolVersion::TLSv1_3 => Some("1.3"),
            _ => None,
        }
    }

    fn common(&self) -> &CommonState {
        match self {
            Self::Client(session) => session,
            Self::Server(session) => session,
        }
    }
}

type Connection<D> = UnbufferedConnectionCommon<D>;

fn from_server<'c, 'i>(
    session: &'c mut Connection<ClientConnectionData>,
    incoming: &'i mut [u8],
) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
    session.process_tls_records(incoming)
}

fn from_client<'c, 'i>(
    session: &'c mut Connection<ServerConnectionData>,
    incoming: &'i mut [u8],
) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
    session.process_tls_records(incoming)
}

fn receive<D>(
    session: &mut Connection<D>,
    process: impl for<'c, 'i> Fn(&'c mut Connection<D>, &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>,
    incoming: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Received {
    let mut received = Received::default();
    loop {
        let rest = incoming.get_mut(received.used..).unwrap_or_default();
        let UnbufferedStatus { mut discard, state } = process(session, rest);
        let mut is_over = false;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => append(out, |space| data.encode(space)),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => received.notified = true,
            Ok(_) => is_over = true,
            // The first error is the true one. One more turn writes the alert that goes with it.
            Err(_) if received.error.is_some() => is_over = true,
            Err(error) => received.error = Some(error),
        }
        received.used += discard;
        if is_over {
            return received;
        }
    }
}

/// Lets handshake bytes be written behind what is in `out`.
fn append(out: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let start = out.len();
    // Told by the first attempt, which has no room at all.
    let needed = match encode(&mut []) {
        Err(EncodeError::InsufficientSize(wanted)) => wanted.required_size,
        Ok(_) | Err(EncodeError::AlreadyEncoded) => return,
    };
    out.resize(start + needed, 0);
    let written = encode(out.get_mut(start..).unwrap_or_default()).unwrap_or(0);
    out.truncate(start + written);
}

enum Send<'a> {
    Data(&'a [u8]),
    Notify,
}

fn send<D>(
    session: &mut Connection<D>,
    process: impl for<'c, 'i> Fn(&'c mut Connection<D>, &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>,
    what: Send<'_>,
    kept: &mut [u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    loop {
        // What was kept is shown, because the session remembers places in it; it was looked through already.
        match process(session, kept).state? {
            ConnectionState::EncodeTlsData(mut data) => append(out, |space| data.encode(space)),
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::WriteTraffic(mut traffic) => {
                let start = out.len();
                let length = if let Send::Data(plain) = what { plain.len() } else { 0 };
                out.resize(start + length + (length / RECORD + 2) * OVERHEAD, 0);
                let space = out.get_mut(start..).unwrap_or_default();
                let written = match what {
                    Send::Data(plain) => traffic.encrypt(plain, space),
                    Send::Notify => traffic.queue_close_notify(space),
                };
                out.truncate(start + *written.as_ref().unwrap_or(&0));
                return written.map(drop).map_err(|_| Error::EncryptError);
            }
            // It is over in both directions: there is nothing left to say.
            ConnectionState::Closed => return Ok(()),
            _ => return Err(Error::HandshakeNotComplete),
        }
    }
}
