//! One end of a tunnel of plaintext: a socket's TLS, or its having none, and what was received or has to be sent beyond
//! what a session itself keeps. It refuses to know what is on the other side.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::outbound::watching_for_certificate;
use super::session::Session;
use crate::scratch::{Buffers, READ, Scratch};

/// One end of a tunnel, beside its socket.
#[derive(Debug)]
pub(crate) struct Leg {
    /// `None`: the plaintext goes over the socket itself.
    session: Option<Session>,
    /// Ciphertext that does not make a record yet: 144 KiB at most.
    kept: Vec<u8>,
    /// Decrypted together with the end of the handshake: one read at most.
    early: Vec<u8>,
    /// What the kernel has not taken, from `sent` on: what one read of the other end came to, and handshake messages.
    out: Vec<u8>,
    sent: usize,
    /// What is in `out` may wait for what is sent next: tickets for a client that has asked already, and waits for its
    /// answer. It is woken once.
    lingers: bool,
    /// close_notify was received.
    notified: bool,
    /// And was told.
    told: bool,
    /// close_notify was sent.
    has_notified: bool,
    /// What ended the session.
    error: Option<Error>,
    /// The server asked for a client certificate that we have not got.
    wants_certificate: bool,
}

/// How one read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// There may be more.
    More,
    /// close_notify: only a FIN can follow.
    Notified,
    /// FIN.
    Fin,
    /// The session failed, or the socket.
    Broken,
}

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// By what came, or what should have.
    Tls(Error),
    /// The socket broke.
    Io,
    /// The other end closed the connection.
    Closed,
    CertificateWanted,
}

impl Leg {
    pub(crate) fn new(session: Option<Session>) -> Self {
        Self {
            session,
            kept: Vec::new(),
            early: Vec::new(),
            out: Vec::new(),
            sent: 0,
            lingers: false,
            notified: false,
            told: false,
            has_notified: false,
            error: None,
            wants_certificate: false,
        }
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// What ended the session, if something did.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Takes in ciphertext that somebody else has read. What it was answered with is sent by [`Self::shake`].
    pub(crate) fn take_in(&mut self, bytes: &[u8]) {
        let mut input = std::mem::take(&mut self.kept);
        input.extend_from_slice(bytes);
        let mut plain = std::mem::take(&mut self.early);
        self.process(&mut input, &mut plain);
        self.early = plain;
    }

    fn process(&mut self, input: &mut [u8], plain: &mut Vec<u8>) {
        let (Some(session), out) = (&mut self.session, &mut self.out) else { return };
        let before = out.len();
        let (received, wanted) = watching_for_certificate(|| session.receive(input, plain, out));
        // What is answered now may be waited for.
        self.lingers &= out.len() == before;
        self.kept = input.get(received.used..).unwrap_or_default().to_vec();
        self.notified |= received.notified;
        self.wants_certificate |= wanted;
        if self.error.is_none() {
            self.error = received.error;
        }
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// See [`Failure`]. An alert may have been sent then.
    pub(crate) async fn shake(&mut self, stream: &TcpStream, scratch: &Scratch) -> Result<(), Failure> {
        // A client has the first word, but only when it is asked for it.
        self.take_in(&[]);
        loop {
            if self.has_asked() {
                self.lingers = true;
                return Ok(());
            }
            let flushed = self.flush(stream).await;
            if self.wants_certificate {
                return Err(Failure::CertificateWanted);
            }
            if let Some(error) = &self.error {
                return Err(Failure::Tls(error.clone()));
            }
            flushed.map_err(|_| Failure::Io)?;
            if !self.session.as_ref().is_some_and(Session::is_handshaking) {
                return Ok(());
            }
            stream.readable().await.map_err(|_| Failure::Io)?;
            let read = scratch.with_tls(|buffers| {
                let count = stream.try_read(buffers.input.get_mut(..READ).unwrap_or_default())?;
                self.take_in(buffers.input.get(..count).unwrap_or_default());
                Ok(count)
            });
            match read {
                Ok(0) => return Err(Failure::Closed),
                Ok(_) => {}
                Err(error) if is_no_failure(&error) => {}
                Err(_) => return Err(Failure::Io),
            }
        }
    }

    /// Did a client send its request with the end of the handshake, after which nothing but tickets is left to be sent?
    fn has_asked(&self) -> bool {
        let tickets = self.session.as_ref().is_some_and(Session::has_only_tickets_left);
        tickets && self.error.is_none() && !self.early.is_empty()
    }

    async fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.sent < self.out.len() {
            stream.writable().await?;
            match stream.try_write(self.out.get(self.sent..).unwrap_or_default()) {
                Ok(count) => self.sent += count,
                Err(error) if is_no_failure(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.has_sent();
        Ok(())
    }

    /// Says goodbye on a socket that is about to be closed, as far as the kernel takes it at once.
    pub(crate) fn farewell(&mut self, stream: &TcpStream) {
        if self.notify().is_ok() {
            let _ = stream.try_write(self.out.get(self.sent..).unwrap_or_default());
        }
    }

    fn has_sent(&mut self) {
        // Given back at once: an idle connection holds no buffer.
        self.out = Vec::new();
        self.sent = 0;
    }

    /// Has the kernel take what is left of earlier writes, and may not wait for the next one.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, to: &mut WriteHalf<'_>) -> Poll<io::Result<()>> {
        if self.lingers {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.out.len() {
            let rest = self.out.get(self.sent..).unwrap_or_default();
            self.sent += ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
        }
        self.has_sent();
        Poll::Ready(Ok(()))
    }

    /// Reads once; the plaintext that came of it is in `buffers`, whatever is returned.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        buffers: &mut Buffers,
    ) -> Poll<Read> {
        let Buffers { input, plain, .. } = buffers;
        plain.clear();
        if !self.early.is_empty() {
            *plain = std::mem::take(&mut self.early);
            return Poll::Ready(Read::More);
        }
        if self.error.is_some() {
            return Poll::Ready(Read::Broken);
        }
        if self.notified && !std::mem::replace(&mut self.told, true) {
            return Poll::Ready(Read::Notified);
        }
        let kept = self.kept.len();
        let (Some(front), Some(room)) = (input.get_mut(..kept), READ.checked_add(kept)) else {
            return Poll::Ready(Read::Broken);
        };
        front.copy_from_slice(&self.kept);
        let Some(input) = input.get_mut(..room) else { return Poll::Ready(Read::Broken) };
        let mut space = ReadBuf::new(input.get_mut(kept..).unwrap_or_default());
        let count = match ready!(Pin::new(from).poll_read(cx, &mut space)) {
            Ok(()) => space.filled().len(),
            Err(_) => return Poll::Ready(Read::Broken),
        };
        if count == 0 {
            return Poll::Ready(Read::Fin);
        }
        let bytes = input.get_mut(..kept + count).unwrap_or_default();
        match self.session {
            None => plain.extend_from_slice(bytes),
            // After its close_notify a peer has nothing to say.
            Some(_) if self.notified => {}
            Some(_) => self.process(bytes, plain),
        }
        Poll::Ready(Read::More)
    }

    /// Sends the plaintext in `buffers`; `last`: and with it that no more will follow, where there is TLS. What the kernel
    /// does not take now is kept for [`Self::poll_flush`], which must have returned before.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut WriteHalf<'_>,
        buffers: &mut Buffers,
        last: bool,
    ) -> io::Result<()> {
        let Buffers { plain, out, .. } = buffers;
        let mut rest = match &mut self.session {
            None => &plain[..],
            Some(session) => {
                out.clear();
                if std::mem::take(&mut self.lingers) {
                    out.append(&mut self.out);
                }
                session.encrypt(plain, &mut self.kept, out).map_err(io::Error::other)?;
                if last && !std::mem::replace(&mut self.has_notified, true) {
                    session.notify(&mut self.kept, out).map_err(io::Error::other)?;
                }
                &out[..]
            }
        };
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(count) => rest = rest.get(count?..).unwrap_or_default(),
                Poll::Pending => {
                    self.out.extend_from_slice(rest);
                    break;
                }
            }
        }
        Ok(())
    }

    /// close_notify came with the plaintext that was read last: the next [`Self::poll_receive`] says so.
    pub(super) fn is_about_to_notify(&self) -> bool {
        self.notified && !self.told && self.early.is_empty()
    }

    /// Says that no data will follow: close_notify, or a FIN where there is no TLS.
    pub(super) fn poll_notify(&mut self, cx: &mut Context<'_>, to: &mut WriteHalf<'_>) -> Poll<io::Result<()>> {
        if self.session.is_none() {
            return Pin::new(to).poll_shutdown(cx);
        }
        self.notify().map_err(io::Error::other)?;
        self.poll_flush(cx, to)
    }

    pub(super) fn has_tls(&self) -> bool {
        self.session.is_some()
    }

    /// Something that nobody asked for has to be sent: an answer to a key update, or an alert.
    pub(super) fn has_to_send(&self) -> bool {
        self.sent < self.out.len()
    }

    fn notify(&mut self) -> Result<(), Error> {
        let Some(session) = &mut self.session else { return Ok(()) };
        self.lingers = false;
        if std::mem::replace(&mut self.has_notified, true) {
            return Ok(());
        }
        session.notify(&mut self.kept, &mut self.out)
    }
}

/// Nothing to do yet, or a signal came.
fn is_no_failure(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
