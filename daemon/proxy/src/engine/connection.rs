//! One connection from accept to close: dial, pump, end it the way it was ended.

use std::borrow::Cow;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use nodetap_core::exchange::Outcome;
use tokio::net::TcpStream;

use super::desk::{Desk, Job};
use super::forward;
use super::tapped::{Clock, Tapped, Tick};
use crate::dial::{self, Dialled};
use crate::steering::{Destination, Route};
use crate::tap::{End, Side};
use crate::tunnel::{Close, Pump, Watch};

/// How long an answer that was cut by a reset may take to reach a slow client before the reset follows.
const RESET_GRACE: Duration = Duration::from_secs(5);

/// How often a connection that holds no exchange is written down while it is open.
const STILL_OPEN: Duration = Duration::from_secs(3600);

pub(super) async fn serve(desk: &Rc<Desk>, Job { stream, route, accepted }: Job) {
    let client = match TcpStream::from_std(stream) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "cannot register a connection: it is closed"),
    };
    dial::prepare(&client);
    match route {
        Route::To(destination) => {
            let clock = Clock::new(accepted, destination.connection.accepted);
            onward(desk, &clock, client, destination).await;
        }
        Route::Forward(forward) => forward::serve(desk, accepted, client, *forward).await,
    }
}

/// A connection whose destination is known from the beginning.
async fn onward(desk: &Desk, clock: &Clock, client: TcpStream, destination: Destination) {
    let steering = &desk.shared.settings.steering;
    let dialled = tokio::select! {
        biased;
        dialled = dial::dial(&destination, &**steering, &client) => dialled,
        () = desk.cut() => Err(dial::Error::ClientGone),
    };
    match dialled {
        Ok(upstream) => tunnel(desk, clock, client, upstream, &destination).await,
        Err(error) => {
            // Told before the client is: its next attempt must find the kernel's own answer.
            if !matches!(error, dial::Error::ClientGone) {
                steering.failed(&destination);
            }
            dial::reset(client);
            let outcome = refusal(&error);
            Tapped::new(desk, clock, &destination, &Tick::default())
                .with_tap(|tap, now, ids, out| tap.unreached(outcome, sentence(&error), now, ids, out));
        }
    }
}

/// From two connected sockets to their end.
pub(super) async fn tunnel(
    desk: &Desk,
    clock: &Clock,
    mut client: TcpStream,
    upstream: Dialled,
    destination: &Destination,
) {
    let Dialled { stream: mut server, announced } = upstream;
    let tick = Tick::default();
    let mut watch = Tapped::new(desk, clock, destination, &tick);
    let mut pump = Pump::new();
    let mut cut = pin!(desk.cut());
    let mut still_open = pin!(tokio::time::sleep(STILL_OPEN));
    let close = loop {
        tokio::select! {
            biased;
            close = pump.run(&mut client, &mut server, &mut watch, &desk.scratch) => break Some(close),
            () = &mut cut => break None,
            // Cancel-safe, as the next one: all state of the pump is in `pump`.
            () = tick.due(clock) => watch.with_tap(|tap, now, ids, out| tap.tick(now, ids, out)),
            () = &mut still_open => {
                still_open.as_mut().reset(tokio::time::Instant::now() + STILL_OPEN);
                watch.with_tap(|tap, now, ids, out| tap.still_open(now, ids, out));
            }
        }
    };
    let broken = match close {
        Some(Close::Orderly) => None,
        Some(Close::Broken(Side::Client)) => Some((Side::Client, client, server)),
        Some(Close::Broken(Side::Server)) => Some((Side::Server, server, client)),
        // An orderly end would make a cut answer look like a whole one.
        None => {
            watch.ended(Side::Server, End::Cut);
            dial::reset(client);
            dial::reset(server);
            None
        }
    };
    if let Some((side, broken, other)) = broken {
        watch.ended(side, End::Reset);
        drop(broken);
        tokio::select! {
            biased;
            () = dial::reset_after_sending(other, RESET_GRACE) => {}
            // Dropped with what it has not sent: the daemon ends.
            () = &mut cut => {}
        }
    }
    watch.finish();
    if let Some(local) = announced {
        desk.shared.settings.steering.ended(local);
    }
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
