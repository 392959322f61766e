//! One connection from accept to close: dial, pump, end it the way it was ended.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nodetap_core::exchange::Outcome;
use tokio::net::TcpStream;

use super::desk::Desk;
use super::tapped::{Clock, Tapped, Tick};
use super::{forward, opened, terminated};
use crate::dial::{self, Dialled};
use crate::scratch::Scratch;
use crate::steering::{Destination, Route};
use crate::tap::{End, Side};
use crate::tls::{self, Policy, Reason};
use crate::tunnel::{Close, Pump, Watch};

/// How long an answer that was cut by a reset may take to reach a slow client before the reset follows.
const RESET_GRACE: Duration = Duration::from_secs(5);

/// How often a connection that holds no exchange is written down while it is open.
const STILL_OPEN: Duration = Duration::from_secs(3600);

pub(super) async fn serve(desk: &Rc<Desk>, stream: std::net::TcpStream, route: Route, accepted: Instant) {
    let client = match TcpStream::from_std(stream) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "cannot register a connection: it is closed"),
    };
    match route {
        Route::To(destination) => {
            let clock = Clock::new(accepted, destination.connection.accepted);
            onward(desk, &clock, client, destination).await;
        }
        Route::Forward(forward) => forward::serve(desk, accepted, client, *forward).await,
    }
}

/// A panic ends one connection, and costs a record; its group goes on. What connections share on a worker is borrowed for
/// the length of a call and fit afterwards.
pub(super) async fn caught(desk: &Desk, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    let mut once = |cx: &mut Context<'_>| catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
    // Not polled again after a panic.
    let panicked = poll_fn(|cx| match once(cx) {
        Ok(polled) => polled.map(|()| false),
        // The panic hook has said why.
        Err(_) => Poll::Ready(true),
    });
    if panicked.await {
        desk.group.sink.lost("connection_panic", 1, 0);
    }
}

/// A connection whose destination is known from the beginning.
async fn onward(desk: &Desk, clock: &Clock, client: TcpStream, destination: Destination) {
    let steering = &desk.group.steering;
    let dialled = tokio::select! {
        biased;
        dialled = dial::dial(&destination, &**steering, &client) => dialled,
        () = desk.cut() => Err(dial::Error::ClientGone),
    };
    match dialled {
        Ok(upstream) => tunnel(desk, clock, client, upstream, &destination).await,
        Err(error) => unreached(desk, clock, client, &destination, &error),
    }
}

/// From two connected sockets to their end.
pub(super) async fn tunnel(
    desk: &Desk,
    clock: &Clock,
    client: TcpStream,
    upstream: Dialled<'_>,
    destination: &Destination,
) {
    match &destination.tls {
        Policy::Untouched => pass(desk, clock, client, upstream, destination, None).await,
        Policy::Open(outbound) => opened::open(desk, clock, client, upstream, destination, outbound).await,
        Policy::Terminate(inbound) => terminated::terminate(desk, clock, client, upstream, destination, inbound).await,
    }
}

/// Passes the bytes as they are; `reason` is why, where they were to be opened.
pub(super) async fn pass(
    desk: &Desk,
    clock: &Clock,
    client: TcpStream,
    upstream: Dialled<'_>,
    destination: &Destination,
    reason: Option<Reason>,
) {
    let tick = Tick::default();
    let mut watch = Tapped::new(desk, clock, destination, &tick);
    if let Some(reason) = reason {
        desk.group.sink.passed_through(reason.word());
        watch.with_tap(|tap, _, _, _| tap.not_opened(reason));
    }
    relay(desk, clock, client, upstream.stream, &mut Pipe::Plain(Pump::new()), &mut watch, &tick).await;
    watch.finish();
}

/// What lies between the two sockets.
pub(super) enum Pipe {
    Plain(Pump),
    Opened(Box<tls::Pump>),
}

impl Pipe {
    async fn run(
        &mut self,
        client: &mut TcpStream,
        server: &mut TcpStream,
        watch: &mut Tapped<'_>,
        scratch: &Scratch,
    ) -> Close {
        match self {
            Self::Plain(pump) => pump.run(client, server, watch, scratch).await,
            Self::Opened(pump) => pump.run(client, server, watch, scratch).await,
        }
    }
}

/// The sockets of a tunnel while it runs. An orderly end would make a cut answer look like a whole one: what ends them
/// with this value (nodetap itself, or a panic) ends them with resets.
struct Running(Option<(TcpStream, TcpStream)>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((client, server)) = self.0.take() {
            dial::reset(client);
            dial::reset(server);
        }
    }
}

/// Pumps until both sides have ended, and ends them the way they ended.
pub(super) async fn relay(
    desk: &Desk,
    clock: &Clock,
    client: TcpStream,
    server: TcpStream,
    pipe: &mut Pipe,
    watch: &mut Tapped<'_>,
    tick: &Tick,
) {
    let mut running = Running(Some((client, server)));
    let Some((client, server)) = &mut running.0 else { return };
    let mut cut = pin!(desk.cut());
    let mut still_open = pin!(tokio::time::sleep(STILL_OPEN));
    let close = loop {
        tokio::select! {
            biased;
            close = pipe.run(client, server, watch, &desk.scratch) => break close,
            () = &mut cut => return watch.ended(Side::Server, End::Cut),
            // Cancel-safe, as the next one: all state of the pump is in `pipe`.
            () = tick.due(clock) => watch.with_tap(|tap, now, ids, out| tap.tick(now, ids, out)),
            () = &mut still_open => {
                still_open.as_mut().reset(tokio::time::Instant::now() + STILL_OPEN);
                watch.with_tap(|tap, now, ids, out| tap.still_open(now, ids, out));
            }
        }
    };
    let Some((client, server)) = running.0.take() else { return };
    let (side, broken, other) = match close {
        Close::Orderly => return,
        Close::Broken(Side::Client) => (Side::Client, client, server),
        Close::Broken(Side::Server) => (Side::Server, server, client),
    };
    watch.ended(side, End::Reset);
    drop(broken);
    tokio::select! {
        biased;
        () = dial::reset_after_sending(other, RESET_GRACE) => {}
        // Dropped with what it has not sent: the daemon ends.
        () = &mut cut => {}
    }
}

/// There is no upstream connection: ends the client's as the server would have.
pub(super) fn unreached(desk: &Desk, clock: &Clock, client: TcpStream, destination: &Destination, error: &dial::Error) {
    // Told before the client is: its next attempt must find the kernel's own answer.
    if !matches!(error, dial::Error::ClientGone) {
        desk.group.steering.failed(destination);
    }
    dial::reset(client);
    let (outcome, detail) = (refusal(error), sentence(error));
    Tapped::new(desk, clock, destination, &Tick::default())
        .with_tap(|tap, now, ids, out| tap.unreached(outcome, detail, now, ids, out));
}

/// How a connection ended that never stood.
fn refusal(error: &dial::Error) -> Outcome {
    match error {
        dial::Error::ClientGone => Outcome::ClientAborted,
        dial::Error::Connect { source, .. } if source.kind() == io::ErrorKind::TimedOut => Outcome::Timeout,
        dial::Error::Connect { .. } => Outcome::Refused,
        dial::Error::Ourselves { .. } => Outcome::Passthrough,
    }
}

fn sentence(error: &dial::Error) -> Cow<'static, str> {
    let mut text = format!("{error}.");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text.into()
}
