//! The client's side of the HTTP proxy: what is read and written passes by the witness. Between two requests it looks
//! before it reads: a CONNECT is left on the socket for the tunnel, untouched; and it keeps the time of heads.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::rules::is_bare;
use super::state::State;
use crate::forward::peek;
use crate::tap::{End, Side};
use crate::tunnel::Watch;

/// From its first byte on a head may take so long.
const HEAD: Duration = Duration::from_secs(10);
/// A client that asks for nothing more is kept so long.
const IDLE: Duration = Duration::from_secs(600);
/// Bytes of one read.
const WINDOW: usize = 32 * 1024;
const CONNECT: &[u8] = b"CONNECT ";

/// Where in its conversation the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between two requests.
    Idle,
    /// In a head.
    Head,
    /// In an exchange.
    Busy,
}

/// The client's socket; whoever lends it ends it.
pub(super) struct Wire<'a, W> {
    client: &'a TcpStream,
    witness: &'a RefCell<W>,
    state: Rc<State>,
    phase: Phase,
    /// Exchanges that are over.
    begun: u64,
    limit: Pin<Box<Sleep>>,
    buffer: Vec<u8>,
    ended: bool,
}

impl<'a, W: Watch> Wire<'a, W> {
    pub(super) fn new(client: &'a TcpStream, witness: &'a RefCell<W>, state: Rc<State>) -> Self {
        // The first byte of the first request has come already.
        let limit = Box::pin(sleep(HEAD));
        Self { client, witness, state, phase: Phase::Idle, begun: 0, limit, buffer: vec![0; WINDOW], ended: false }
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase;
            let limit = if phase == Phase::Head { HEAD } else { IDLE };
            self.limit.as_mut().reset(Instant::now() + limit);
        }
    }

    fn end(&mut self, end: End) {
        if !std::mem::replace(&mut self.ended, true) {
            self.witness.borrow_mut().ended(Side::Client, end);
        }
    }

    /// Does a CONNECT lie there? Nothing is known after a request whose body was not read to its end.
    fn sees_connect(&self) -> io::Result<bool> {
        let mut begin = [0; CONNECT.len()];
        let seen = self.client.try_io(Interest::READABLE, || peek::recv(self.client, &mut begin))?;
        Ok(seen == CONNECT.len() && begin == CONNECT)
    }

    fn read(&mut self, most: usize) -> io::Result<usize> {
        if self.phase == Phase::Idle && self.state.asked.get() && self.sees_connect()? {
            self.state.connect.set(true);
            return Ok(0);
        }
        let window = self.buffer.len().min(most);
        self.client.try_read(self.buffer.get_mut(..window).unwrap_or_default())
    }
}

impl<W: Watch> Read for Wire<'_, W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self;
        if wire.state.connect.get() {
            return Poll::Ready(Ok(()));
        }
        // An exchange may have come and gone without a read.
        let begun = wire.state.begun.get();
        if wire.state.running.get() {
            wire.enter(Phase::Busy);
        } else if begun != wire.begun {
            wire.begun = begun;
            wire.enter(Phase::Idle);
        }
        let count = loop {
            if wire.client.poll_read_ready(cx)?.is_pending() {
                match wire.phase {
                    Phase::Busy => return Poll::Pending,
                    Phase::Idle => {
                        ready!(wire.limit.as_mut().poll(cx));
                        return Poll::Ready(Ok(()));
                    }
                    Phase::Head => {
                        ready!(wire.limit.as_mut().poll(cx));
                        wire.state.late.set(true);
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                }
            }
            match wire.read(into.remaining()) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    wire.end(End::Reset);
                    return Poll::Ready(Err(error));
                }
            }
        };
        if count == 0 {
            if !wire.state.connect.get() {
                wire.end(End::Fin);
            }
            return Poll::Ready(Ok(()));
        }
        let begins = wire.phase == Phase::Idle;
        if begins {
            wire.enter(Phase::Head);
        }
        let bytes = wire.buffer.get(..count).unwrap_or_default();
        if begins {
            wire.state.bare.set(is_bare(bytes));
        }
        wire.witness.borrow_mut().passed(Side::Client, bytes);
        into.put_slice(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<W: Watch> Write for Wire<'_, W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.client.poll_write_ready(cx))?;
            match self.client.try_write(bytes) {
                Ok(count) => {
                    self.witness.borrow_mut().passed(Side::Server, bytes.get(..count).unwrap_or_default());
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.note_flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket2::SockRef::from(self.client).shutdown(std::net::Shutdown::Write)?;
        Poll::Ready(Ok(()))
    }
}
