//! What is said of a pod: by what is, not by what was planned.

use std::collections::BTreeSet;

use crate::pod::condition::{Condition, Event, INBOUND, Listens, Message};
use crate::pod::observed::{Held, Listener, Observed};
use crate::pod::refusal::Remark;
use crate::pod::state::{Off, State};

use super::want::{Outcome, Want};
use super::{Step, Wanted};

/// Troubles of which an Event is written, at most.
const EVENTS: usize = 4;

/// The state of a pod of which this is held.
pub(super) fn state(outcome: &Outcome<'_>, observed: &Observed, held: Option<&Held>) -> State {
    let drains = held.is_some_and(|held| held.listeners.keys().any(|one| !matches!(one, Listener::Forward { .. })));
    match outcome {
        Outcome::Nothing(off) if drains => State::Draining(*off),
        Outcome::Nothing(off) => State::Off(*off),
        Outcome::Refused(refusals) => State::Refused(refusals.clone()),
        Outcome::Wait(why) => State::Pending(why.clone()),
        Outcome::Want(want) => of_wanted(want, observed, held),
    }
}

fn of_wanted(want: &Want<'_>, observed: &Observed, held: Option<&Held>) -> State {
    let why = |key: &str| observed.failures.get(key).map(|failure| failure.why.clone());
    if want.attach.is_empty() {
        return State::Pending("no container of it runs".into());
    }
    let Some(held) = held else {
        return match why("enter") {
            Some(why) => State::Degraded(BTreeSet::from([format!("its network cannot be entered: {why}")])),
            None => State::Pending("it is being set up".into()),
        };
    };
    if want.listeners.is_empty() {
        return State::Pending("the application listens on no port that is reached from outside".into());
    }
    let mut wrong = observed.problems.clone();
    let missing = missing(want, held);
    let mut unfinished =
        held.listeners.iter().any(|(one, open)| want.listeners.contains_key(one) && open.retired.is_some());
    for (key, what) in missing {
        match why(&key) {
            Some(why) => drop(wrong.insert(format!("{what}: {why}"))),
            None => unfinished = true,
        }
    }
    if want.config.reset_older_connections
        && !held.older_closed
        && let Some(why) = why(&Step::CloseOlder.key())
    {
        wrong.insert(why);
    }
    if want.pod.is_meshed() && want.config.proxy_type.reverses() && !want.pod.redirected {
        wrong.insert(
            "inbound: the mesh's proxy stands before the application and calls it on its own port until the controller \
             sends it here by a Sidecar of Istio's, which the pod's Events tell about; proxy-type transparent needs none"
                .into(),
        );
    }
    let forwards = want.config.proxy_type.forwards();
    if forwards && want.config.proxy_type.reverses() && want.application.ports.is_empty() {
        wrong.insert("inbound: the application listens on no port that is reached from outside".into());
    }
    match (wrong.is_empty(), unfinished) {
        (false, _) => State::Degraded(wrong),
        (true, true) => State::Pending("it is being set up".into()),
        (true, false) => State::Capturing,
    }
}

/// What is wanted and is not there: the step that would do it, and what it means that it is not done.
fn missing(want: &Want<'_>, held: &Held) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    for (listener, (_, addresses)) in &want.listeners {
        match held.listeners.get(listener).filter(|open| !open.closed) {
            Some(open) if !open.verified => {
                missing.push((format!("verify: {listener}"), format!("{listener} does not answer")));
            }
            Some(open) if open.addresses.is_superset(addresses) => {}
            _ => missing.push((format!("listen: {listener}"), format!("{listener} cannot be opened"))),
        }
    }
    for id in want.attach.keys().filter(|id| !held.attached.contains(**id)) {
        let what = format!("connections of the container {} are not seen", want.container(id));
        missing.push((format!("attach: {id}"), what));
    }
    for id in held.attached.iter().filter(|id| !want.attach.contains_key(id.as_str())) {
        missing.push((format!("detach: {id}"), format!("the container {} cannot be let go", want.container(id))));
    }
    if held.config.as_deref() != Some(want.config) {
        missing.push(("set".into(), "the configuration cannot be put in force".into()));
    }
    if held.steering != want.steering {
        missing.push(("steer".into(), "the kernel does not steer".into()));
    }
    missing
}

/// What there is to say that was not said.
pub(super) fn tell(
    wanted: Option<&Wanted>,
    outcome: &Outcome<'_>,
    state: &State,
    observed: &Observed,
    held: Option<&Held>,
) -> Vec<Step> {
    // The API server does not know it any more: there is nobody to tell.
    let Some(wanted) = wanted else { return Vec::new() };
    let mut steps = Vec::new();
    let condition = Condition::of(state, message(wanted, outcome, observed, held));
    // Pods that never asked carry nothing of ours.
    let silent = matches!(state, State::Off(Off::NotAsked | Off::Ended)) && observed.reported.is_none();
    if !silent && observed.reported.as_ref() != Some(&condition) {
        steps.push(Step::Report(condition));
    }
    let events = events(wanted, state);
    steps.extend(events.into_iter().filter(|event| !observed.said.contains(event)).map(Step::Say));
    steps
}

fn message(wanted: &Wanted, outcome: &Outcome<'_>, observed: &Observed, held: Option<&Held>) -> Message {
    let remarks = wanted.decision.remarks.iter().map(ToString::to_string);
    let mut message = Message { listeners: listens(observed), ..Message::default() };
    if let Outcome::Want(want) = outcome {
        message.mode = Some(want.config.proxy_type.name());
        if want.config.proxy_type != crate::pod::config::ProxyType::Forward {
            message.ports.clone_from(&want.application.ports);
            message.notes.clone_from(&want.application.notes);
        }
        message.containers = held.map(|held| want.captured(held)).unwrap_or_default();
        message.notes.extend(remarks);
    }
    for (listener, open) in held.into_iter().flat_map(|held| &held.listeners) {
        if matches!(listener, Listener::Forward { .. }) && open.retired.is_some() && !open.closed {
            message.notes.insert(format!(
                "{listener} goes on passing traffic, unrecorded, until the pod is replaced: its programs may use it as \
                 their proxy"
            ));
        }
    }
    message
}

fn events(wanted: &Wanted, state: &State) -> Vec<Event> {
    let warning = |reason, note| Event { warning: true, reason, note };
    let unknown = wanted.decision.remarks.iter().filter(|remark| Remark::is_warning(remark));
    let mut events: Vec<Event> = unknown.map(|remark| warning("UnknownAnnotation", remark.to_string())).collect();
    match state {
        State::Refused(refusals) => {
            let refusals = refusals.iter().take(EVENTS);
            events.extend(refusals.map(|refusal| warning(refusal.reason(), format!("not captured: {refusal}"))));
        }
        State::Degraded(wrong) => {
            events.extend(wrong.iter().take(EVENTS).map(|why| warning("CaptureDegraded", why.clone())));
        }
        _ => {}
    }
    events
}

/// The listeners that answer and record.
fn listens(observed: &Observed) -> Vec<Listens> {
    let held = observed.held.iter().flat_map(|held| &held.listeners);
    let answering = held.filter(|(_, open)| open.verified && !open.closed && open.retired.is_none());
    let mut listens: Vec<Listens> = answering
        .map(|(listener, open)| Listens {
            r#for: match listener {
                Listener::Steered => "steered",
                Listener::Reverse { .. } => INBOUND,
                Listener::Forward { .. } => "outbound",
            },
            port: listener.port(),
            application: open.app,
            addresses: open.addresses.clone(),
        })
        .collect();
    listens.sort_unstable();
    listens
}
