//! One connection from accept to close: dial, pump, record. A panic in a tap costs the record, never the connection.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nodetap_core::exchange::{Connection, Event, Micros, Outcome, UnixMicros};
use nodetap_core::ulid::UlidSource;
use tokio::net::TcpStream;

use super::Settings;
use super::desk::{Desk, Job};
use crate::dial::{self, Dialled};
use crate::steering::Destination;
use crate::tap::{End, Side, Tap};
use crate::tunnel::{Close, Pump, Watch};

/// How long an answer that was cut by a reset may take to reach a slow client before the reset follows.
const RESET_GRACE: Duration = Duration::from_secs(5);

/// How often a connection that holds no exchange is written down while it is open.
const STILL_OPEN: Duration = Duration::from_secs(3600);

pub(super) async fn serve(desk: &Desk, Job { stream, destination, accepted }: Job) {
    let clock = Clock { start: accepted, unix: destination.connection.accepted };
    let client = match TcpStream::from_std(stream) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "cannot register a connection: it is closed"),
    };
    dial::prepare(&client);
    let steering = &desk.shared.settings.steering;
    let dialled = tokio::select! {
        biased;
        dialled = dial::dial(&destination, &**steering, &client) => dialled,
        () = desk.cut() => Err(dial::Error::ClientGone),
    };
    match dialled {
        Ok(upstream) => tunnel(desk, &clock, client, upstream, &destination).await,
        Err(error) => {
            // Told before the client is: its next attempt must find the kernel's own answer.
            if !matches!(error, dial::Error::ClientGone) {
                steering.failed(&destination);
            }
            dial::reset(client);
            let outcome = refusal(&error);
            Tapped::new(desk, &clock, &destination)
                .with_tap(|tap, now, ids, out| tap.unreached(outcome, sentence(&error), now, ids, out));
        }
    }
}

async fn tunnel(desk: &Desk, clock: &Clock, mut client: TcpStream, upstream: Dialled, destination: &Destination) {
    let Dialled { stream: mut server, announced } = upstream;
    let mut watch = Tapped::new(desk, clock, destination);
    let mut pump = Pump::new();
    let mut cut = pin!(desk.cut());
    let mut still_open = pin!(tokio::time::sleep(STILL_OPEN));
    let close = loop {
        tokio::select! {
            biased;
            close = pump.run(&mut client, &mut server, &mut watch, &desk.scratch) => break Some(close),
            () = &mut cut => break None,
            // Cancel-safe: all state of the pump is in `pump`.
            () = &mut still_open => still_open.as_mut().reset(tokio::time::Instant::now() + STILL_OPEN),
        }
        watch.with_tap(|tap, now, ids, out| tap.still_open(now, ids, out));
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

/// Time within a connection: monotonic, anchored at the moment it was accepted.
struct Clock {
    start: Instant,
    unix: UnixMicros,
}

impl Clock {
    fn elapsed(&self) -> Micros {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> UnixMicros {
        self.unix.saturating_add(self.elapsed())
    }
}

/// Shows the bytes to the tap, and its records to the sink.
struct Tapped<'a> {
    desk: &'a Desk,
    clock: &'a Clock,
    connection: &'a Arc<Connection>,
    /// `None`: nobody wants records.
    tap: Option<Box<Tap>>,
    /// Empty between calls; kept to keep its allocation.
    events: Vec<Event>,
}

impl<'a> Tapped<'a> {
    fn new(desk: &'a Desk, clock: &'a Clock, destination: &'a Destination) -> Self {
        let Settings { sink, limits, .. } = &desk.shared.settings;
        let connection = &destination.connection;
        let tap = sink.wants_records().then(|| {
            let open = usize::try_from(desk.shared.open.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            Box::new(Tap::new(Arc::clone(connection), Some(clock.elapsed()), limits.share(open)))
        });
        Self { desk, clock, connection, tap, events: Vec::new() }
    }

    fn with_tap(&mut self, f: impl FnOnce(&mut Tap, UnixMicros, &mut UlidSource, &mut Vec<Event>)) {
        let Some(tap) = &mut self.tap else { return };
        let (now, events) = (self.clock.now(), &mut self.events);
        let ids = &mut *self.desk.ids.borrow_mut();
        let sink = &self.desk.shared.settings.sink;
        if catch_unwind(AssertUnwindSafe(|| f(tap, now, ids, events))).is_err() {
            sink.lost("tap_panic", 1, 0);
            // What follows on this connection is still summed up.
            **tap = Tap::blind(Arc::clone(self.connection), "The tap failed here, which is nodetap's fault.");
        }
        for event in self.events.drain(..) {
            sink.record(event);
        }
    }

    fn finish(mut self) {
        self.with_tap(|tap, now, ids, out| tap.finish(now, ids, out));
    }
}

impl Watch for Tapped<'_> {
    fn passed(&mut self, from: Side, bytes: &[u8]) {
        self.with_tap(|tap, now, ids, out| {
            // A body beyond its cap, or an opaque stream: only the number of its bytes is wanted.
            let count = bytes.len() as u64;
            if tap.skippable(from) >= count {
                tap.skip(from, count, now, ids, out);
            } else {
                tap.observe(from, bytes, now, ids, out);
            }
        });
    }

    fn ended(&mut self, from: Side, end: End) {
        self.with_tap(|tap, now, ids, out| tap.ended(from, end, now, ids, out));
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
