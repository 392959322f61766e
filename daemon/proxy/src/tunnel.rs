//! The tunnel: two sockets, and the bytes between them. Not one is changed, added or held back; a half-close stays a
//! half-close, a reset a reset, and who is slow slows the other side down through the kernel's own windows. What was
//! written is shown to the [`Watch`] afterwards.
//!
//! A connection owns memory only while its receiver is slower than its sender: all connections of a worker read into
//! one buffer and write from it at once, and only what the receiver did not take is kept (at most one window, 256 KiB,
//! a direction). An idle connection therefore holds none.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::backlog::Backlog;
use crate::scratch::{self, Scratch};
use crate::tap::{End, Side};

/// The first read of a direction asks for this much; small messages stay in the processor's nearest cache.
const FIRST_WINDOW: usize = 16 * 1024;
/// Bulk transfers read this much at a time; also the most that a direction keeps.
pub const LAST_WINDOW: usize = scratch::PLAIN;
/// Full reads in a row before a window grows.
const GROW_AFTER: u32 = 4;
/// Reads that one connection may make, and bytes that it may move, before the other connections of its worker get their
/// turn: a fraction of a millisecond.
const READS_PER_TURN: u32 = 8;
const BYTES_PER_TURN: usize = 512 * 1024;

/// Is shown what passed. Nothing it does can touch the traffic.
pub trait Watch {
    /// `bytes` of `from` were written to the other side.
    fn passed(&mut self, from: Side, bytes: &[u8]);
    /// `from` will send nothing more.
    fn ended(&mut self, from: Side, end: End);
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Both sides said FIN.
    Orderly,
    /// This side broke (RST, or an error on its socket); the other one has to be reset.
    Broken(Side),
}

/// The state of one tunnel.
#[derive(Debug)]
pub struct Pump {
    up: Flow,
    down: Flow,
    /// The side whose socket broke, while its last bytes are still on their way to the other side.
    broken: Option<Side>,
}

impl Default for Pump {
    fn default() -> Self {
        Self::new()
    }
}

impl Pump {
    pub fn new() -> Self {
        Self { up: Flow::new(Side::Client), down: Flow::new(Side::Server), broken: None }
    }

    /// Pumps until both directions have ended. May be cancelled and called again: nothing is lost in between.
    pub async fn run(
        &mut self,
        client: &mut TcpStream,
        server: &mut TcpStream,
        watch: &mut impl Watch,
        scratch: &Scratch,
    ) -> Close {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        loop {
            match self.half_closed() {
                // Nothing more is read from that side, so that its reset has to be watched for.
                Some(Side::Client) => {
                    let flow = &mut self.down;
                    return rest(flow, &mut from_server, &mut to_client, &from_client, watch, scratch).await;
                }
                Some(Side::Server) => {
                    let flow = &mut self.up;
                    return rest(flow, &mut from_client, &mut to_server, &from_server, watch, scratch).await;
                }
                None => {}
            }
            let ends = poll_fn(|cx| {
                scratch.with(|buffer| {
                    let up = self.up.poll(cx, &mut from_client, &mut to_server, watch, buffer);
                    self.down.source_broke |= matches!(up, Poll::Ready(Step::TargetBroke));
                    let down = self.down.poll(cx, &mut from_server, &mut to_client, watch, buffer);
                    self.up.source_broke |= matches!(down, Poll::Ready(Step::TargetBroke));
                    self.step(cx, up, down)
                })
            });
            if let Some(close) = ends.await {
                return close;
            }
        }
    }

    /// What polling both directions came to; `Ready(None)`: one has ended.
    fn step(&mut self, cx: &Context<'_>, up: Poll<Step>, down: Poll<Step>) -> Poll<Option<Close>> {
        for (from, step) in [(Side::Client, up), (Side::Server, down)] {
            match step {
                Poll::Pending | Poll::Ready(Step::Ended) => {}
                Poll::Ready(Step::Turn) => cx.waker().wake_by_ref(),
                Poll::Ready(Step::SourceBroke) => return Poll::Ready(Some(Close::Broken(from))),
                // What the receiver had sent before it broke is still owed to the other side.
                Poll::Ready(Step::TargetBroke) => self.broken = Some(from.other()),
            }
        }
        match (self.broken, self.up.has_ended(), self.down.has_ended()) {
            (Some(side), true, true) => Poll::Ready(Some(Close::Broken(side))),
            (None, true, true) => Poll::Ready(Some(Close::Orderly)),
            (None, false, false) | (Some(_), _, _) => Poll::Pending,
            (None, _, _) => Poll::Ready(None),
        }
    }

    /// The side that said FIN while the other one goes on.
    fn half_closed(&self) -> Option<Side> {
        match (self.broken, self.up.has_ended(), self.down.has_ended()) {
            (None, true, false) => Some(Side::Client),
            (None, false, true) => Some(Side::Server),
            _ => None,
        }
    }
}

/// The second half of a half-closed tunnel: pumps on to the side that will send no more, and watches for its reset.
async fn rest(
    flow: &mut Flow,
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    silent: &ReadHalf<'_>,
    watch: &mut impl Watch,
    scratch: &Scratch,
) -> Close {
    let silent_side = flow.from.other();
    let ends = poll_fn(|cx| match ready!(scratch.with(|buffer| flow.poll(cx, from, to, watch, buffer))) {
        Step::Turn => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Step::Ended => Poll::Ready(Close::Orderly),
        Step::SourceBroke => Poll::Ready(Close::Broken(silent_side.other())),
        Step::TargetBroke => Poll::Ready(Close::Broken(silent_side)),
    });
    tokio::select! {
        biased;
        close = ends => close,
        _ = silent.ready(Interest::ERROR) => Close::Broken(silent_side),
    }
}

/// What came of polling a direction.
enum Step {
    /// It is over.
    Ended,
    /// It has more to do, after the others.
    Turn,
    /// Reading failed.
    SourceBroke,
    /// Writing failed: its bytes have nowhere to go.
    TargetBroke,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// FIN was read; what is kept has to be written first.
    Finishing,
    Ended,
}

/// One direction.
#[derive(Debug)]
struct Flow {
    from: Side,
    state: State,
    /// Writing to the source failed: the kernel tells of a reset once, so that reading will only find an end, which
    /// must not be taken for an orderly one.
    source_broke: bool,
    /// What the receiver has not taken yet, from `written` on.
    kept: Vec<u8>,
    written: usize,
    window: usize,
    full_reads: u32,
    backlog: Backlog,
}

impl Flow {
    fn new(from: Side) -> Self {
        Self {
            from,
            state: State::Open,
            source_broke: false,
            kept: Vec::new(),
            written: 0,
            window: FIRST_WINDOW,
            full_reads: 0,
            backlog: Backlog::default(),
        }
    }

    fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        watch: &mut impl Watch,
        buffer: &mut [u8],
    ) -> Poll<Step> {
        let (mut reads, mut moved) = (0, 0);
        loop {
            if self.state == State::Ended {
                return Poll::Ready(Step::Ended);
            }
            if !self.kept.is_empty() && ready!(self.write_kept(cx, to, watch)).is_err() {
                return Poll::Ready(self.target_broke());
            }
            self.backlog.flushed(from.as_ref(), to.as_ref());
            if self.state == State::Finishing {
                self.state = State::Ended;
                if self.source_broke {
                    watch.ended(self.from, End::Reset);
                    return Poll::Ready(Step::SourceBroke);
                }
                watch.ended(self.from, End::Fin);
                return Poll::Ready(match ready!(Pin::new(to).poll_shutdown(cx)) {
                    Ok(()) => Step::Ended,
                    Err(_) => Step::TargetBroke,
                });
            }
            if reads == READS_PER_TURN || moved >= BYTES_PER_TURN {
                return Poll::Ready(Step::Turn);
            }
            reads += 1;
            let mut count = match ready!(self.read(cx, from, buffer)) {
                Ok(0) => {
                    self.state = State::Finishing;
                    continue;
                }
                Ok(count) => count,
                Err(_) => {
                    self.state = State::Ended;
                    watch.ended(self.from, End::Reset);
                    return Poll::Ready(Step::SourceBroke);
                }
            };
            count += self.look_for_the_end(from, &mut buffer[count..]);
            moved += count;
            self.backlog.sent(count, from.as_ref(), to.as_ref());
            if self.write(cx, to, &buffer[..count], watch).is_err() {
                return Poll::Ready(self.target_broke());
            }
        }
    }

    fn target_broke(&mut self) -> Step {
        self.state = State::Ended;
        self.kept = Vec::new();
        Step::TargetBroke
    }

    fn read(&mut self, cx: &mut Context<'_>, from: &mut ReadHalf<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let window = self.window.min(buffer.len());
        let mut space = ReadBuf::new(&mut buffer[..window]);
        ready!(Pin::new(from).poll_read(cx, &mut space))?;
        let count = space.filled().len();
        self.full_reads = if count == window { self.full_reads + 1 } else { 0 };
        if self.full_reads >= GROW_AFTER {
            self.window = LAST_WINDOW;
        } else if count < FIRST_WINDOW {
            self.window = FIRST_WINDOW;
        }
        Poll::Ready(Ok(count))
    }

    /// After a read that emptied the socket: is the end there already? Then the last bytes and the end go on together,
    /// as one packet that wakes the receiver once. Gives the number of bytes that came meanwhile. It asks the kernel only
    /// when that has told of an end.
    fn look_for_the_end(&mut self, from: &ReadHalf<'_>, space: &mut [u8]) -> usize {
        if self.full_reads > 0 {
            return 0;
        }
        match from.try_read(space) {
            Ok(0) => {
                self.state = State::Finishing;
                0
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                (self.state, self.source_broke) = (State::Finishing, true);
                0
            }
        }
    }

    /// Writes what the receiver takes now and keeps the rest.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut WriteHalf<'_>,
        bytes: &[u8],
        watch: &mut impl Watch,
    ) -> io::Result<()> {
        let mut rest = bytes;
        // Whatever comes of it, what is left goes the usual way. Nothing follows when the source broke.
        if self.state == State::Finishing
            && !self.source_broke
            && let Ok(count) = to.as_ref().try_io(Interest::WRITABLE, || send_before_the_end(to.as_ref(), bytes))
        {
            watch.passed(self.from, &rest[..count]);
            rest = &rest[count..];
        }
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(Ok(count)) => {
                    watch.passed(self.from, &rest[..count]);
                    rest = &rest[count..];
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.kept.extend_from_slice(rest);
                    break;
                }
            }
        }
        Ok(())
    }

    fn write_kept(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut WriteHalf<'_>,
        watch: &mut impl Watch,
    ) -> Poll<io::Result<()>> {
        while self.written < self.kept.len() {
            let rest = &self.kept[self.written..];
            let count = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            watch.passed(self.from, &rest[..count]);
            self.written += count;
        }
        // Given back at once: the next reads may fit without it.
        self.kept = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

/// Sends what the end follows at once: the kernel waits for it with the packet.
fn send_before_the_end(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::MORE | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(rustix::net::send(to, bytes, flags)?)
}
