//! The tunnel of plaintext between two sockets of which at least one speaks TLS. It keeps what the plain one keeps:
//! nothing is held back, who is slow slows the other side down, a reset stays a reset. Of the two ways in which TLS can
//! end, each stays what it is: close_notify is answered by close_notify, and a FIN without one by a FIN without one.
//!
//! A piece counts as passed when it is encrypted and as much of it written as the kernel took; the rest (one read, 64 KiB
//! at most a direction) goes out before anything else is read from the other side.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::leg::{Leg, Read};
use crate::backlog::Backlog;
use crate::scratch::{Buffers, Scratch};
use crate::tap::{End, Side};
use crate::tunnel::{Close, Watch};

/// Reads that one connection may make before the other connections of its worker get their turn.
const READS_PER_TURN: u32 = 4;

/// The state of one tunnel.
#[derive(Debug)]
pub(crate) struct Pump {
    pub(crate) client: Leg,
    pub(crate) server: Leg,
    up: Flow,
    down: Flow,
    /// The side that broke, while its last bytes are still on their way to the other side.
    broken: Option<Side>,
}

impl Pump {
    /// Both handshakes are over.
    pub(crate) fn new(client: Leg, server: Leg) -> Self {
        Self { client, server, up: Flow::new(Side::Client), down: Flow::new(Side::Server), broken: None }
    }

    /// Pumps until both directions have ended. May be cancelled and called again: nothing is lost in between.
    pub(crate) async fn run(
        &mut self,
        client: &mut TcpStream,
        server: &mut TcpStream,
        watch: &mut impl Watch,
        scratch: &Scratch,
    ) -> Close {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let mut near = Ends { leg: &mut self.client, from: from_client, to: to_client };
        let mut far = Ends { leg: &mut self.server, from: from_server, to: to_server };
        loop {
            // Nothing more is read from a side that has said FIN, so that its reset has to be watched for.
            let (flow, from, to) = match (self.broken, self.up.has_ended(), self.down.has_ended()) {
                (None, true, false) => (&mut self.down, &mut far, &mut near),
                (None, false, true) => (&mut self.up, &mut near, &mut far),
                _ => {
                    let (up, down, broken) = (&mut self.up, &mut self.down, &mut self.broken);
                    let ends = poll_fn(|cx| {
                        scratch.with_tls(|buffers| {
                            let upwards = up.poll(cx, &mut near, &mut far, watch, buffers);
                            down.source_broke |= matches!(upwards, Poll::Ready(Step::TargetBroke));
                            let downwards = down.poll(cx, &mut far, &mut near, watch, buffers);
                            up.source_broke |= matches!(downwards, Poll::Ready(Step::TargetBroke));
                            step(cx, [(&*up, upwards), (&*down, downwards)], broken)
                        })
                    });
                    match ends.await {
                        Some(close) => return close,
                        None => continue,
                    }
                }
            };
            return rest(flow, from, to, watch, scratch).await;
        }
    }
}

/// One socket with its leg.
struct Ends<'a> {
    leg: &'a mut Leg,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
}

/// What polling both directions came to; `Ready(None)`: one has ended.
fn step(cx: &Context<'_>, flows: [(&Flow, Poll<Step>); 2], broken: &mut Option<Side>) -> Poll<Option<Close>> {
    let ended = [flows[0].0.has_ended(), flows[1].0.has_ended()];
    for (flow, step) in flows {
        match step {
            Poll::Pending | Poll::Ready(Step::Ended) => {}
            Poll::Ready(Step::Turn) => cx.waker().wake_by_ref(),
            Poll::Ready(Step::SourceBroke) => return Poll::Ready(Some(Close::Broken(flow.from))),
            // What the receiver had sent before it broke is still owed to the other side.
            Poll::Ready(Step::TargetBroke) => *broken = Some(flow.from.other()),
        }
    }
    match (*broken, ended) {
        (Some(side), [true, true]) => Poll::Ready(Some(Close::Broken(side))),
        (None, [true, true]) => Poll::Ready(Some(Close::Orderly)),
        (None, [false, false]) | (Some(_), _) => Poll::Pending,
        (None, _) => Poll::Ready(None),
    }
}

/// The second half of a half-closed tunnel: pumps on to the side that will send no more, and watches for its reset.
async fn rest(
    flow: &mut Flow,
    from: &mut Ends<'_>,
    to: &mut Ends<'_>,
    watch: &mut impl Watch,
    scratch: &Scratch,
) -> Close {
    let silent_side = flow.from.other();
    let Ends { leg: silent_leg, from: silent, to } = to;
    let ends = poll_fn(|cx| {
        let step = scratch.with_tls(|buffers| flow.poll_parts(cx, from, silent_leg, to, watch, buffers));
        match ready!(step) {
            Step::Turn => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Step::Ended => Poll::Ready(Close::Orderly),
            Step::SourceBroke => Poll::Ready(Close::Broken(silent_side.other())),
            Step::TargetBroke => Poll::Ready(Close::Broken(silent_side)),
        }
    });
    tokio::select! {
        biased;
        close = ends => close,
        _ = silent.ready(Interest::ERROR) => Close::Broken(silent_side),
    }
}

/// What came of polling a direction.
enum Step {
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
    /// close_notify was read, and has to be passed on.
    Notifying,
    /// It was: only a FIN can follow.
    Notified,
    /// FIN was read, and has to be passed on.
    Finishing,
    Ended,
}

/// One direction.
#[derive(Debug)]
struct Flow {
    from: Side,
    state: State,
    /// The watch was told of the end.
    told: bool,
    /// Writing to the source failed, so that an end of what it sends is no orderly one.
    source_broke: bool,
    backlog: Backlog,
}

impl Flow {
    fn new(from: Side) -> Self {
        Self { from, state: State::Open, told: false, source_broke: false, backlog: Backlog::default() }
    }

    fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Ends<'_>,
        to: &mut Ends<'_>,
        watch: &mut impl Watch,
        buffers: &mut Buffers,
    ) -> Poll<Step> {
        self.poll_parts(cx, from, to.leg, &mut to.to, watch, buffers)
    }

    fn poll_parts(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Ends<'_>,
        leg: &mut Leg,
        to: &mut WriteHalf<'_>,
        watch: &mut impl Watch,
        buffers: &mut Buffers,
    ) -> Poll<Step> {
        for _ in 0..READS_PER_TURN {
            if self.state == State::Ended {
                return Poll::Ready(Step::Ended);
            }
            if ready!(leg.poll_flush(cx, to)).is_err() {
                return Poll::Ready(self.target_broke());
            }
            self.backlog.flushed(from.from.as_ref(), to.as_ref());
            match self.state {
                State::Open | State::Notified => match ready!(self.pass(cx, from, leg, to, watch, buffers)) {
                    Ok(next) => self.state = next,
                    Err(step) => return Poll::Ready(step),
                },
                State::Notifying => {
                    if ready!(leg.poll_notify(cx, to)).is_err() {
                        return Poll::Ready(self.target_broke());
                    }
                    self.tell(watch, End::Fin);
                    self.state = State::Notified;
                }
                State::Finishing => return self.poll_finish(cx, from, leg, to, watch),
                State::Ended => {}
            }
        }
        Poll::Ready(Step::Turn)
    }

    /// Reads once and sends on what came.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Ends<'_>,
        leg: &mut Leg,
        to: &mut WriteHalf<'_>,
        watch: &mut impl Watch,
        buffers: &mut Buffers,
    ) -> Poll<Result<State, Step>> {
        let read = ready!(from.leg.poll_receive(cx, &mut from.from, buffers));
        if from.leg.has_to_send() {
            // Goes out with the other direction; what cannot go at once is tried again when that one is polled.
            let _ = from.leg.poll_flush(cx, &mut from.to);
        }
        if !buffers.plain.is_empty() {
            self.backlog.sent(buffers.plain.len(), from.from.as_ref(), to.as_ref());
            // In one write: the receiver is woken once.
            if leg.send(cx, to, buffers, from.leg.is_about_to_notify()).is_err() {
                return Poll::Ready(Err(self.target_broke()));
            }
            watch.passed(self.from, &buffers.plain);
        }
        Poll::Ready(match read {
            Read::More => Ok(self.state),
            Read::Notified => Ok(State::Notifying),
            Read::Fin => Ok(State::Finishing),
            Read::Broken => {
                self.state = State::Ended;
                self.tell(watch, End::Reset);
                Err(Step::SourceBroke)
            }
        })
    }

    fn poll_finish(
        &mut self,
        cx: &mut Context<'_>,
        from: &Ends<'_>,
        leg: &mut Leg,
        to: &mut WriteHalf<'_>,
        watch: &mut impl Watch,
    ) -> Poll<Step> {
        if self.source_broke {
            self.state = State::Ended;
            self.tell(watch, End::Reset);
            return Poll::Ready(Step::SourceBroke);
        }
        // Without TLS a FIN is the orderly end.
        if !from.leg.has_tls() && ready!(leg.poll_notify(cx, to)).is_err() {
            return Poll::Ready(self.target_broke());
        }
        self.state = State::Ended;
        self.tell(watch, End::Fin);
        Poll::Ready(match ready!(Pin::new(to).poll_shutdown(cx)) {
            Ok(()) => Step::Ended,
            Err(_) => Step::TargetBroke,
        })
    }

    fn tell(&mut self, watch: &mut impl Watch, end: End) {
        if !std::mem::replace(&mut self.told, true) || end == End::Reset {
            watch.ended(self.from, end);
        }
    }

    fn target_broke(&mut self) -> Step {
        self.state = State::Ended;
        Step::TargetBroke
    }
}
