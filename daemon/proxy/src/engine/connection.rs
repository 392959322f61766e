//! One connection from accept to close: dial, pump, record. A panic in a tap costs the record, never the connection.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nodetap_core::exchange::{Event, Micros, Outcome, UnixMicros};
use nodetap_core::ulid::UlidSource;
use tokio::net::TcpStream;

use super::worker::{Desk, Job};
use crate::dial::{self, Dialled};
use crate::steering::Destination;
use crate::tap::{End, Side, Tap};
use crate::tunnel::{Close, Pump, Watch};

/// How long an answer that was cut by a reset may take to reach a slow client before the reset follows.
const RESET_GRACE: Duration = Duration::from_secs(5);

/// How often a connection that holds no exchange is written down while it is open.
const STILL_OPEN: Duration = Duration::from_secs(3600);

pub(super) async fn serve(desk: &Desk, Job { stream, destination }: Job) {
    let clock = Clock { start: Instant::now(), unix: destination.connection.accepted };
    let client = match TcpStream::from_std(stream) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "cannot register a connection: it is closed"),
    };
    let _ = client.set_nodelay(true);
    let steering = &desk.shared.settings.steering;
    match dial::dial(&destination, &**steering, &client).await {
        Ok(upstream) => tunnel(desk, &clock, client, upstream, &destination).await,
        Err(error) => {
            // Told before the client is: its next attempt must find the kernel's own answer.
            steering.failed(&destination, &error);
            dial::reset(client);
            let (outcome, detail) = refusal(&destination, &error);
            Tapped::new(desk, &clock, &destination)
                .with_tap(|tap, now, ids, out| tap.unreached(outcome, detail, now, ids, out));
        }
    }
}

async fn tunnel(desk: &Desk, clock: &Clock, mut client: TcpStream, upstream: Dialled, destination: &Destination) {
    let Dialled { stream: mut server, announced } = upstream;
    let mut watch = Tapped::new(desk, clock, destination);
    let mut cut = desk.shared.cut.subscribe();
    let mut pump = Pump::new();
    let close = loop {
        tokio::select! {
            biased;
            close = pump.run(&mut client, &mut server, &mut watch, &desk.scratch) => break Some(close),
            _ = cut.wait_for(|cut| *cut) => break None,
            // Cancel-safe: all state of the pump is in `pump`.
            () = tokio::time::sleep(STILL_OPEN) => {}
        }
        watch.with_tap(|tap, now, ids, out| tap.still_open(now, ids, out));
    };
    match close {
        Some(Close::Orderly) => drop((client, server)),
        Some(Close::Broken(Side::Client)) => {
            watch.ended(Side::Client, End::Reset);
            drop(client);
            dial::reset_after_sending(server, RESET_GRACE).await;
        }
        Some(Close::Broken(Side::Server)) => {
            watch.ended(Side::Server, End::Reset);
            drop(server);
            dial::reset_after_sending(client, RESET_GRACE).await;
        }
        // An orderly end would make a cut answer look like a whole one.
        None => {
            watch.ended(Side::Server, End::Cut);
            dial::reset(client);
            dial::reset(server);
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
    /// `None`: nobody wants records, or the tap panicked.
    tap: Option<Box<Tap>>,
    /// Empty between calls; kept to keep its allocation.
    events: Vec<Event>,
}

impl<'a> Tapped<'a> {
    fn new(desk: &'a Desk, clock: &'a Clock, destination: &Destination) -> Self {
        let settings = &desk.shared.settings;
        let tap = settings
            .sink
            .wants_records()
            .then(|| Box::new(Tap::new(Arc::clone(&destination.connection), Some(clock.elapsed()), settings.limits)));
        Self { desk, clock, tap, events: Vec::new() }
    }

    fn with_tap(&mut self, f: impl FnOnce(&mut Tap, UnixMicros, &mut UlidSource, &mut Vec<Event>)) {
        let Some(tap) = &mut self.tap else { return };
        let (now, events) = (self.clock.now(), &mut self.events);
        let ids = &mut *self.desk.ids.borrow_mut();
        let sink = &self.desk.shared.settings.sink;
        if catch_unwind(AssertUnwindSafe(|| f(tap, now, ids, events))).is_err() {
            self.tap = None;
            sink.lost("tap_panic", 1, 0);
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

/// How a connection ended that the destination did not accept.
fn refusal(destination: &Destination, error: &io::Error) -> (Outcome, Cow<'static, str>) {
    match error.kind() {
        io::ErrorKind::ConnectionAborted => {
            (Outcome::ClientAborted, "The client gave up before the server had answered.".into())
        }
        io::ErrorKind::TimedOut => (Outcome::Timeout, format!("{} did not answer: {error}.", destination.dial).into()),
        _ => (Outcome::Refused, format!("Cannot connect to {}: {error}.", destination.dial).into()),
    }
}
