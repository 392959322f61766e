//! How a capture ends while its pod lives: nothing that a program of the pod, or a caller of it, may count on goes away
//! under it.
//!
//! What was steered ends by itself: new connections go direct at once, and those that are open are passed on until they
//! end. What stands in the place of an application's port is served a while longer, since callers need time to hear of it.
//! The application's own proxy is never taken away: its environment names it until the pod is replaced. From the first
//! moment on nothing of all that is recorded.

use crate::pod::observed::{Held, Listener, Millis, Open, Steering};

use super::{Draft, Step};

/// How long an inbound listener that is not wanted goes on accepting: as long as Envoy keeps old routes.
pub const LINGER: Millis = 45_000;
/// Without connections for so long, a steered listener has nothing in its queue either.
pub const QUIET: Millis = 1_000;
/// How long connections that began before are let end.
pub const DRAIN: Millis = 3_600_000;

impl Draft<'_> {
    /// Nothing is wanted. `ended`: the pod is no more, or will not start again.
    pub(super) fn take_down(&mut self, held: Option<&Held>, ended: bool) {
        let Some(held) = held else { return };
        if ended && self.observed.cgroups.is_empty() {
            // Nobody is left in it who could miss anything.
            return self.leave(held);
        }
        if held.steering.any() {
            self.add(Step::Steer(Steering::default()));
        }
        self.finish(Some(held), |_| false);
        let ends = |listener: &Listener| self.steps.contains(&Step::End(*listener));
        let stays = |listener: &&Listener| !ends(listener);
        let left: Vec<Listener> = held.listeners.keys().filter(stays).copied().collect();
        if left.is_empty() {
            self.add(Step::Leave);
        } else if !left.contains(&Listener::Steered) {
            held.attached.iter().for_each(|id| self.add(Step::Detach { container: id.clone() }));
        }
    }

    /// Lets listeners go that are not wanted.
    pub(super) fn finish(&mut self, held: Option<&Held>, wanted: impl Fn(Listener) -> bool) {
        let Some(held) = held else { return };
        for (listener, open) in held.listeners.iter().filter(|(listener, _)| !wanted(**listener)) {
            match open.retired {
                None if self.steps.contains(&Step::Retire(*listener)) => {}
                None => self.add(Step::Retire(*listener)),
                Some(since) => self.let_go(*listener, open, since),
            }
        }
    }

    fn let_go(&mut self, listener: Listener, open: &Open, since: Millis) {
        let (accepts, ends) = match listener {
            Listener::Steered => (Some(since.saturating_add(QUIET)), since.saturating_add(DRAIN)),
            Listener::Reverse { .. } => {
                let lingers = since.saturating_add(LINGER);
                (Some(lingers).filter(|_| !open.closed), lingers.saturating_add(DRAIN))
            }
            // It was closed to make room for another one.
            Listener::Forward { .. } if open.closed => (None, since.saturating_add(DRAIN)),
            Listener::Forward { .. } => return,
        };
        let quiet = accepts.is_none_or(|until| until <= self.now);
        if self.steps.contains(&Step::Close(listener)) || self.steps.contains(&Step::End(listener)) {
            // To make room.
            return;
        }
        if ends <= self.now || (quiet && open.connections == 0) {
            self.add(Step::End(listener));
        } else if quiet && !open.closed && listener != Listener::Steered {
            self.add(Step::Close(listener));
        } else {
            // Who counts connections tells when there are none; the clock tells the rest.
            self.wake_at(accepts.filter(|until| *until > self.now).unwrap_or(ends));
        }
    }
}
