//! Which steps lead from what is to what should be. The same function for a pod that was just annotated, one whose
//! container restarted, one that asks for something else now, and one that is gone: it compares, and knows no history.
//!
//! When all steps are done, the next plan has at most something to report, and the one after that nothing. The order of
//! what it is given does not matter.

mod finish;
mod step;
#[cfg(test)]
mod tests;
mod verdict;
mod want;

use std::collections::BTreeSet;

pub use finish::{DRAIN, LINGER, QUIET};
pub use step::Step;

use super::decision::Decision;
use super::facts::Pod;
use super::observed::{Held, Listener, Millis, Observed, Open, Place, Steering};
use super::refusal::Refusal;
use super::state::{Off, State};
use super::wish::Wish;
use want::{Outcome, Want};

/// Pods that one node captures at most: each costs threads nothing, but memory, sockets and map entries.
pub const MOST_PODS: usize = 1024;

/// What the API server says of a pod, and what was decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub pod: Pod,
    pub decision: Decision,
    /// All capture is stopped for a while.
    pub paused: bool,
}

/// What to do for one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// As things are, before the steps.
    pub state: State,
    /// When to plan again though nothing changes.
    pub wake: Option<Millis>,
}

impl Plan {
    /// Is there nothing to do but wait for the world? Then this pod does not keep an agent from being ready.
    pub fn is_settled(&self) -> bool {
        !self.steps.iter().any(Step::is_work)
    }
}

/// Plans for one pod. `wanted`: nothing when the API server does not know it any more.
pub fn plan(wanted: Option<&Wanted>, observed: &Observed, now: Millis) -> Plan {
    make(wanted, Outcome::of(wanted, observed), observed, now)
}

/// The same, of a pod that is refused because of the others on its node ([`refused_beside`]).
pub fn plan_refused(wanted: Option<&Wanted>, refusal: Refusal, observed: &Observed, now: Millis) -> Plan {
    make(wanted, Outcome::Refused(vec![refusal]), observed, now)
}

/// Is a pod that asks to be captured refused because of the others on its node? Never two of them are in one network
/// namespace, whatever somebody found; and a node has a limit, within which those that are captured already stay.
pub fn refused_beside<'a>(
    observed: &Observed,
    others: impl Iterator<Item = (&'a Wanted, &'a Observed)>,
) -> Option<Refusal> {
    let mut held = 0;
    for (other, seen) in others {
        held += usize::from(seen.held.is_some());
        let asks = matches!(other.decision.wish, Wish::Capture(_)) && !other.pod.ended;
        match (&observed.place, &seen.place) {
            (Place::Found(here), Place::Found(there)) if asks && here.id == there.id => {
                return Some(Refusal::SharedNetwork(format!("{}/{}", other.pod.namespace, other.pod.name)));
            }
            _ => {}
        }
    }
    (observed.held.is_none() && held >= MOST_PODS).then_some(Refusal::NodeFull(MOST_PODS))
}

fn make(wanted: Option<&Wanted>, outcome: Outcome<'_>, observed: &Observed, now: Millis) -> Plan {
    let mut draft = Draft { observed, now, steps: Vec::new(), wake: None };
    let held = draft.still_there();
    match &outcome {
        Outcome::Want(want) => draft.build(want, held),
        // What cannot be told yet changes nothing.
        Outcome::Wait(_) => {}
        Outcome::Nothing(Off::Ended) => draft.take_down(held, true),
        Outcome::Nothing(_) | Outcome::Refused(_) => draft.take_down(held, false),
    }
    let state = verdict::state(&outcome, observed, held);
    if !draft.steps.iter().any(Step::is_work) {
        let said = verdict::tell(wanted, &outcome, &state, observed, held);
        for step in said {
            draft.add(step);
        }
    }
    Plan { steps: draft.steps, state, wake: draft.wake }
}

/// A plan that is being made.
struct Draft<'a> {
    observed: &'a Observed,
    now: Millis,
    steps: Vec<Step>,
    wake: Option<Millis>,
}

impl<'a> Draft<'a> {
    /// Adds a step unless it failed a moment ago.
    fn add(&mut self, step: Step) {
        let _ = self.added(step);
    }

    /// The same; `false`: it failed a moment ago.
    fn added(&mut self, step: Step) -> bool {
        match self.observed.failures.get(&step.key()) {
            Some(failure) if failure.until > self.now => {
                self.wake_at(failure.until);
                false
            }
            _ => {
                self.steps.push(step);
                true
            }
        }
    }

    fn wake_at(&mut self, at: Millis) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// What is held, if it is where the pod is. What is held elsewhere belongs to a sandbox that is no more: nothing in it
    /// can be drained.
    fn still_there(&mut self) -> Option<&'a Held> {
        let held = self.observed.held.as_ref()?;
        let there = match &self.observed.place {
            Place::Found(namespace) => namespace.id == held.namespace,
            Place::Gone => false,
            Place::Unknown | Place::Missing(_) => true,
        };
        if !there {
            self.leave(held);
        }
        Some(held).filter(|_| there)
    }

    /// Ends everything at once.
    fn leave(&mut self, held: &Held) {
        held.listeners.keys().for_each(|listener| self.add(Step::End(*listener)));
        self.add(Step::Leave);
    }

    /// Steps to what is wanted.
    fn build(&mut self, want: &Want<'_>, held: Option<&Held>) {
        if held.is_none() && !self.added(Step::Enter(want.namespace.id)) {
            return;
        }
        let mut steered = false;
        for (listener, (app, addresses)) in &want.listeners {
            if let Some(held) = held {
                self.make_room(*listener, want, held);
            }
            let open = held.and_then(|held| held.listeners.get(listener)).filter(|open| !open.closed);
            let stands = match open {
                None => self.added(Step::Listen { listener: *listener, app: *app, addresses: addresses.clone() }),
                Some(open) => {
                    let missing: BTreeSet<_> = addresses.difference(&open.addresses).copied().collect();
                    if !missing.is_empty() {
                        self.add(Step::Listen { listener: *listener, app: *app, addresses: missing });
                    }
                    if open.retired.is_some() {
                        self.add(Step::Revive(*listener));
                    }
                    if open.app != *app {
                        self.add(Step::Point { listener: *listener, app: *app });
                    }
                    open.verified || self.added(Step::Verify(*listener))
                }
            };
            steered |= *listener == Listener::Steered && stands;
        }
        let in_force = held.and_then(|held| held.config.as_deref()) == Some(want.config);
        let set = in_force || self.added(Step::Set(Box::new(want.config.clone())));
        for (id, path) in &want.attach {
            if held.is_none_or(|held| !held.attached.contains(*id)) {
                self.add(Step::Attach { container: (*id).to_owned(), path: (*path).to_owned() });
            }
        }
        self.steer(want, held, steered && set);
        self.finish(held, |listener| want.listeners.contains_key(&listener));
        let gone = held.into_iter().flat_map(|held| &held.attached).filter(|id| !want.attach.contains_key(id.as_str()));
        gone.for_each(|id| self.add(Step::Detach { container: id.clone() }));
    }

    /// A port is one listener's at a time.
    fn make_room(&mut self, listener: Listener, want: &Want<'_>, held: &Held) {
        let in_the_way = |(other, open): &(&Listener, &Open)| {
            **other != listener && other.port().is_some() && other.port() == listener.port() && !open.closed
        };
        for (other, open) in held.listeners.iter().filter(in_the_way) {
            if !want.listeners.contains_key(other) {
                if open.retired.is_none() {
                    self.add(Step::Retire(*other));
                }
                self.add(if open.connections == 0 { Step::End(*other) } else { Step::Close(*other) });
            }
        }
    }

    /// Steering goes on when there is something to steer to that keeps to the rules, and off before that goes.
    fn steer(&mut self, want: &Want<'_>, held: Option<&Held>, ready: bool) {
        let now = held.map(|held| held.steering).unwrap_or_default();
        let mut wanted = want.steering;
        if !ready {
            // What does not stand is not steered to; what was left of it goes direct.
            wanted = Steering::default();
        }
        if now != wanted && !self.added(Step::Steer(wanted)) {
            return;
        }
        if want.config.reset_older_connections && wanted.any() && held.is_none_or(|held| !held.older_closed) {
            self.add(Step::CloseOlder);
        }
    }
}
