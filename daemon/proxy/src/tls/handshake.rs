//! The two handshakes of a connection that is opened, each with its limit of time, and what their failures mean. It
//! refuses to decide what is done then.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, Error};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Reason;
use super::hello::Hello;
use super::leg::{Failure, Leg};
use super::session::Session;
use crate::scratch::Scratch;

/// The handshake with the server may take so long; then the client is given its own, for which it may be more patient.
const SERVER_PATIENCE: Duration = Duration::from_secs(5);
/// The one with the client.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// With the server.
///
/// # Errors
/// Why the connection is passed through instead.
pub(crate) async fn with_server(stream: &TcpStream, session: Session, scratch: &Scratch) -> Result<Leg, Reason> {
    let mut leg = Leg::new(Some(session));
    match timeout(SERVER_PATIENCE, leg.shake(stream, scratch)).await {
        Ok(Ok(())) => Ok(leg),
        Ok(Err(Failure::CertificateWanted)) => Err(Reason::ClientCertificateWanted),
        Ok(Err(Failure::Tls(Error::InvalidCertificate(_)))) => Err(Reason::UpstreamUnverified),
        Ok(Err(Failure::Tls(_))) => Err(Reason::UpstreamUnsupported),
        Ok(Err(Failure::Io | Failure::Closed)) | Err(_) => Err(Reason::UpstreamFailed),
    }
}

/// Why there is no TLS with the client.
#[derive(Debug)]
pub(crate) enum Unagreed {
    /// It refused our certificate: its alert.
    Rejected(AlertDescription),
    /// It went away, or stopped to answer.
    Gone,
    /// Anything else.
    Failed(Error),
}

/// What is to be answered to the ClientHello, which is still in its socket.
///
/// # Errors
/// When there is no answer to it; an alert that says so is ready to be sent by [`with_client`], but may as well not be.
pub(crate) fn answer(hello: &Hello, session: Session) -> (Leg, Option<Error>) {
    let mut leg = Leg::new(Some(session));
    leg.take_in(&hello.bytes);
    let error = leg.error().cloned();
    (leg, error)
}

/// With the client, whose ClientHello was answered by [`answer`].
///
/// # Errors
/// See [`Unagreed`].
pub(crate) async fn with_client(
    stream: &TcpStream,
    hello: &Hello,
    leg: &mut Leg,
    scratch: &Scratch,
) -> Result<(), Unagreed> {
    let shaken = async {
        take_off(stream, hello.bytes.len(), scratch).await.map_err(|_| Failure::Io)?;
        leg.shake(stream, scratch).await
    };
    match timeout(CLIENT_PATIENCE, shaken).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::Tls(error))) => Err(refusal(&error).map_or(Unagreed::Failed(error), Unagreed::Rejected)),
        Ok(Err(Failure::Io | Failure::Closed | Failure::CertificateWanted)) | Err(_) => Err(Unagreed::Gone),
    }
}

/// Does it say that the other end does not want our certificate? These are the alerts of RFC 8446 §6.2 about
/// certificates, access_denied (a valid one that is not liked, as pinning may say), and ech_required (RFC 9849): the
/// client wanted the server behind the one it named.
pub(crate) fn refusal(error: &Error) -> Option<AlertDescription> {
    let Error::AlertReceived(alert) = error else { return None };
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::BadCertificateStatusResponse
            | AlertDescription::EncryptedClientHelloRequired
    )
    .then_some(*alert)
}

/// Takes bytes off a socket that were looked at.
async fn take_off(stream: &TcpStream, mut count: usize, scratch: &Scratch) -> io::Result<()> {
    while count > 0 {
        stream.readable().await?;
        let taken = scratch.with(|buffer| {
            let wanted = count.min(buffer.len());
            stream.try_read(buffer.get_mut(..wanted).unwrap_or_default())
        });
        match taken {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(taken) => count -= taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
