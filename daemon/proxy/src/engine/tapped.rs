//! A connection's tap while it is in use: shows it what passed, gives its records to the sink, and wakes it when it
//! wants to be woken. A panic in a tap costs the record, never the connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use nodetap_core::exchange::{Connection, Event, Exchange, Micros, UnixMicros};
use nodetap_core::ulid::UlidSource;

use super::desk::Desk;
use super::group::Charge;
use crate::steering::Destination;
use crate::tap::{End, Side, Tap, admit};
use crate::tunnel::Watch;

/// Time within a connection: monotonic, anchored at the moment it was accepted.
pub(super) struct Clock {
    start: Instant,
    unix: UnixMicros,
}

impl Clock {
    pub(super) fn new(start: Instant, unix: UnixMicros) -> Self {
        Self { start, unix }
    }

    fn elapsed(&self) -> Micros {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn now(&self) -> UnixMicros {
        self.unix.saturating_add(self.elapsed())
    }
}

/// When the tap of a connection wants to be called although no byte passes.
#[derive(Debug, Default)]
pub(super) struct Tick(Cell<Option<UnixMicros>>);

impl Tick {
    /// Returns when it is time. Looks again each time it is polled, so that what the tap wished meanwhile counts.
    pub(super) async fn due(&self, clock: &Clock) {
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut set_for = None;
        poll_fn(|cx| {
            let Some(due) = self.0.get() else { return Poll::Pending };
            if set_for != Some(due) {
                set_for = Some(due);
                let wait = Duration::from_micros(due.saturating_sub(clock.now()));
                sleep.as_mut().reset(tokio::time::Instant::now() + wait);
            }
            sleep.as_mut().poll(cx)
        })
        .await;
    }
}

/// Changes an exchange before it is written; the other says that it is not to be, as it stands.
type Amend<'a> = Box<dyn FnMut(&mut Exchange, bool) + 'a>;

/// Shows the bytes to the tap, and its records to the sink.
pub(super) struct Tapped<'a> {
    desk: &'a Desk,
    clock: &'a Clock,
    connection: &'a Arc<Connection>,
    tick: &'a Tick,
    /// `None`: nobody wants records.
    tap: Option<Box<Tap>>,
    charge: Charge,
    /// Empty between calls; kept to keep its allocation.
    events: Vec<Event>,
    /// Called when the client's first byte passes.
    first_word: Option<Box<dyn FnOnce() + 'a>>,
    /// Who ended first.
    first_end: Option<Side>,
    /// What passes now belongs to this connection, of which nothing is recorded.
    hushed: Option<Arc<Connection>>,
    /// Says in each exchange what the tap cannot know.
    amend: Option<Amend<'a>>,
}

impl<'a> Tapped<'a> {
    pub(super) fn new(desk: &'a Desk, clock: &'a Clock, destination: &'a Destination, tick: &'a Tick) -> Self {
        let ignored = desk.group.steering.ignores(&destination.connection);
        Self::of(desk, clock, &destination.connection, tick, Some(clock.elapsed()), ignored)
    }

    /// Of a connection to the forward proxy, which has no server yet.
    pub(super) fn unconnected(
        desk: &'a Desk,
        clock: &'a Clock,
        connection: &'a Arc<Connection>,
        tick: &'a Tick,
    ) -> Self {
        Self::of(desk, clock, connection, tick, None, false)
    }

    fn of(
        desk: &'a Desk,
        clock: &'a Clock,
        connection: &'a Arc<Connection>,
        tick: &'a Tick,
        connected: Option<Micros>,
        ignored: bool,
    ) -> Self {
        let tap = (!ignored && desk.group.sink.wants_records())
            .then(|| Box::new(Tap::new(Arc::clone(connection), connected, desk.group.share(&desk.shared.limits))));
        Self {
            desk,
            clock,
            connection,
            tick,
            tap,
            charge: Charge::none(&desk.group),
            events: Vec::new(),
            first_word: None,
            first_end: None,
            hushed: None,
            amend: None,
        }
    }

    pub(super) fn with_tap(&mut self, f: impl FnOnce(&mut Tap, UnixMicros, &mut UlidSource, &mut Vec<Event>)) {
        let Some(tap) = &mut self.tap else { return };
        let (now, events) = (self.clock.now(), &mut self.events);
        let ids = &mut *self.desk.ids.borrow_mut();
        let (group, cap) = (&self.desk.group, self.desk.shared.limits.body);
        let sink = &group.sink;
        tap.save(group.thrift());
        if catch_unwind(AssertUnwindSafe(|| f(tap, now, ids, events))).is_err() {
            sink.lost("tap_panic", 1, 0);
            // What follows on this connection is still summed up.
            **tap = Tap::blind(Arc::clone(self.connection), "The tap failed here, which is nodetap's fault.");
        }
        self.tick.0.set(tap.due());
        self.charge.set(tap.held());
        let hushed = self.hushed.as_ref();
        for mut event in self.events.drain(..) {
            let is_hushed = |event: &Event| hushed.is_some_and(|hushed| is_of(event, hushed));
            let was_hushed = is_hushed(&event);
            // Also of those that are not recorded: they are counted.
            if let (Event::Exchange(exchange), Some(amend)) = (&mut event, &mut self.amend) {
                amend(exchange, was_hushed);
            }
            if is_hushed(&event) {
                continue;
            }
            if admit(&mut event, cap) {
                group.curtail();
            }
            sink.record(event);
        }
    }

    /// Are exchanges written of what is still to come?
    pub(super) fn follows(&self) -> bool {
        self.tap.as_ref().is_some_and(|tap| !tap.is_blind())
    }

    /// Has every exchange amended before it is written.
    pub(super) fn amend(&mut self, amend: impl FnMut(&mut Exchange, bool) + 'a) {
        self.amend = Some(Box::new(amend));
    }

    /// The exchange that waits for its response goes to another server than the connection's, over a connection that
    /// has stood from now on, if it stands.
    pub(super) fn relocate(&mut self, connection: &Arc<Connection>, stands: bool) {
        let stood = stands.then(|| self.clock.elapsed());
        // The one before is written by now: its response has passed.
        self.hushed = self.desk.group.steering.ignores(connection).then(|| Arc::clone(connection));
        if let Some(tap) = &mut self.tap {
            tap.relocate(connection, stood);
        }
    }

    /// Has something done when the client's first byte passes.
    pub(super) fn at_first_word(&mut self, call: impl FnOnce() + 'a) {
        self.first_word = Some(Box::new(call));
    }

    /// The client has ended before the server did, and before what was to be done at its first byte.
    pub(super) fn left_in_silence(&self) -> bool {
        self.first_word.is_some() && self.first_end == Some(Side::Client)
    }

    pub(super) fn finish(mut self) {
        self.with_tap(|tap, now, ids, out| tap.finish(now, ids, out));
    }
}

/// Does it speak of this connection, or sum up the client's while this is where it leads?
fn is_of(event: &Event, hushed: &Arc<Connection>) -> bool {
    match event {
        Event::Exchange(exchange) => Arc::ptr_eq(&exchange.connection, hushed),
        Event::Message(message) => Arc::ptr_eq(&message.connection, hushed),
        Event::Connection(_) => true,
        Event::Loss(_) => false,
    }
}

impl Watch for Tapped<'_> {
    fn passed(&mut self, from: Side, bytes: &[u8]) {
        if from == Side::Client
            && let Some(call) = self.first_word.take()
        {
            call();
        }
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
        self.first_end.get_or_insert(from);
        self.with_tap(|tap, now, ids, out| tap.ended(from, end, now, ids, out));
    }
}
