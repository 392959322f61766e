//! What is said to the API server: the newest condition of each pod, and events. Whoever says something never waits; one
//! task sends it, and tries again for as long as the server is away. Of each pod only its newest condition waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::Notify;

use super::backoff::Backoff;
use super::condition::{self, Condition, PodName};
use super::events::{self, Event, Gate};
use super::follow::random;
use super::health::{Call, Health, Trouble};

/// Events that wait to be sent, at most; what comes on top is counted.
const EVENTS: usize = 512;
/// Tries for one event: it is of its moment.
const TRIES: u32 = 6;
/// How long one request may take.
const PATIENCE: Duration = super::client::ANSWER;

#[derive(Debug, Default)]
struct Waiting {
    conditions: VecDeque<PodName>,
    newest: HashMap<PodName, (Condition, Option<String>)>,
    events: VecDeque<(PodName, Event)>,
    gate: Gate,
    events_dropped: u64,
    /// The last one of each pod that the server took.
    sent: HashMap<String, Condition>,
}

/// Takes what is to be said; clones go to whoever has something to say.
#[derive(Debug, Clone, Default)]
pub struct Reporter {
    waiting: Arc<Mutex<Waiting>>,
    more: Arc<Notify>,
}

impl Reporter {
    /// The pod's condition from now on; `since` when its status became what it is, if that is known. Says nothing if the
    /// server has it already.
    pub fn condition(&self, pod: &PodName, condition: Condition, since: Option<String>) {
        let mut waiting = self.waiting();
        if !waiting.newest.contains_key(pod) {
            if waiting.sent.get(&pod.uid) == Some(&condition) {
                return;
            }
            waiting.conditions.push_back(pod.clone());
        }
        waiting.newest.insert(pod.clone(), (condition, since));
        drop(waiting);
        self.more.notify_one();
    }

    /// An event on the pod, unless it was said a moment ago.
    pub fn event(&self, pod: &PodName, event: Event) {
        let mut waiting = self.waiting();
        if !waiting.gate.lets_through(&pod.uid, &event, Instant::now()) {
            return;
        }
        tracing::info!(namespace = pod.namespace, pod = pod.name, reason = event.reason, "{}", event.note);
        if waiting.events.len() >= EVENTS {
            waiting.events_dropped += 1;
            return;
        }
        waiting.events.push_back((pod.clone(), event));
        drop(waiting);
        self.more.notify_one();
    }

    /// The pod is gone: nothing is said about it any more.
    pub fn forget(&self, pod: &PodName) {
        let mut waiting = self.waiting();
        waiting.newest.remove(pod);
        waiting.conditions.retain(|other| other != pod);
        waiting.events.retain(|(other, _)| other != pod);
        waiting.gate.forget(&pod.uid);
        waiting.sent.remove(&pod.uid);
    }

    /// The server shows this condition of the pod: if it is not what we said last, somebody else wrote it.
    pub fn seen(&self, pod: &PodName, status: &str, reason: &str, message: &str) {
        let mut waiting = self.waiting();
        let same = |sent: &Condition| sent.status == status && sent.reason == reason && sent.message == message;
        if waiting.sent.get(&pod.uid).is_some_and(|sent| !same(sent)) {
            waiting.sent.remove(&pod.uid);
        }
    }

    /// Events that were not sent because too many waited.
    pub fn events_dropped(&self) -> u64 {
        self.waiting().events_dropped
    }

    /// Is everything said?
    pub fn is_idle(&self) -> bool {
        let waiting = self.waiting();
        waiting.conditions.is_empty() && waiting.events.is_empty()
    }

    /// Sends what waits, for ever.
    pub async fn run(self, client: Client, node: String, health: Health) {
        let mut backoff = Backoff::default();
        let mut tries = 0;
        loop {
            let next = self.next();
            let (call, answer) = match &next {
                None => {
                    self.more.notified().await;
                    continue;
                }
                Some(Next::Condition(pod, condition, since)) => {
                    let sent = condition::write(client.clone(), pod, condition, since.as_deref());
                    (Call::Condition, tokio::time::timeout(PATIENCE, sent).await)
                }
                Some(Next::Event(pod, event)) => {
                    let by = events::Speaker { component: condition::MANAGER, instance: &node };
                    let sent = events::write(client.clone(), by, pod, event);
                    (Call::Event, tokio::time::timeout(PATIENCE, sent).await)
                }
            };
            let trouble = match answer {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Trouble::of(&error)),
                Err(_) => Some(Trouble { class: "unreachable", text: "no answer in time".into(), wait: None }),
            };
            let Some(next) = next else { continue };
            match trouble {
                None => {
                    health.well(call);
                    backoff.success();
                    tries = 0;
                    self.done(next);
                }
                // The pod is gone, or another one has its name.
                Some(trouble) if matches!(trouble.class, "404" | "409") => self.done(next),
                Some(trouble) => {
                    let is_event = matches!(next, Next::Event(..));
                    // What the server finds wrong does not become right by saying it again.
                    let hopeless = trouble.class == "422" || is_event && tries >= TRIES;
                    let wait = backoff.after_failure(trouble.wait, random());
                    health.ill(call, trouble);
                    tries += 1;
                    if hopeless {
                        self.done(next);
                        tries = 0;
                    } else {
                        self.put_back(next);
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        }
    }

    /// Conditions go first: they are what readers act on.
    fn next(&self) -> Option<Next> {
        let mut waiting = self.waiting();
        while let Some(pod) = waiting.conditions.pop_front() {
            if let Some((condition, since)) = waiting.newest.remove(&pod) {
                return Some(Next::Condition(pod, condition, since));
            }
        }
        waiting.events.pop_front().map(|(pod, event)| Next::Event(pod, event))
    }

    fn done(&self, next: Next) {
        if let Next::Condition(pod, condition, _) = next {
            self.waiting().sent.insert(pod.uid, condition);
        }
    }

    fn put_back(&self, next: Next) {
        let mut waiting = self.waiting();
        match next {
            Next::Condition(pod, condition, since) => {
                // A newer one may have come meanwhile.
                if !waiting.newest.contains_key(&pod) {
                    waiting.newest.insert(pod.clone(), (condition, since));
                    waiting.conditions.push_back(pod);
                }
            }
            Next::Event(pod, event) => waiting.events.push_front((pod, event)),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
enum Next {
    Condition(PodName, Condition, Option<String>),
    Event(PodName, Event),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> PodName {
        PodName { namespace: "shop".into(), name: name.into(), uid: format!("uid-{name}") }
    }

    fn saying(reason: &str) -> Condition {
        Condition { status: "True", reason: reason.into(), message: String::new() }
    }

    #[test]
    fn only_the_newest_condition_of_a_pod_waits() {
        let reporter = Reporter::default();
        reporter.condition(&pod("a"), saying("One"), None);
        reporter.condition(&pod("b"), saying("One"), None);
        reporter.condition(&pod("a"), saying("Two"), None);
        let Some(Next::Condition(first, condition, _)) = reporter.next() else { panic!("nothing waits") };
        assert_eq!((first, condition), (pod("a"), saying("Two")));
        assert!(matches!(reporter.next(), Some(Next::Condition(second, ..)) if second == pod("b")));
        assert!(reporter.next().is_none());
    }

    #[test]
    fn what_the_server_has_is_not_said_again_unless_somebody_changed_it() {
        let reporter = Reporter::default();
        reporter.condition(&pod("a"), saying("One"), None);
        let next = reporter.next().unwrap();
        reporter.done(next);
        reporter.condition(&pod("a"), saying("One"), None);
        assert!(reporter.is_idle());
        reporter.seen(&pod("a"), "True", "Other", "");
        reporter.condition(&pod("a"), saying("One"), None);
        assert!(!reporter.is_idle());
    }

    #[test]
    fn what_could_not_be_sent_waits_unless_something_newer_does() {
        let reporter = Reporter::default();
        reporter.condition(&pod("a"), saying("One"), None);
        let old = reporter.next().unwrap();
        reporter.condition(&pod("a"), saying("Two"), None);
        reporter.put_back(old);
        assert!(matches!(reporter.next(), Some(Next::Condition(_, condition, _)) if condition == saying("Two")));
        assert!(reporter.next().is_none());
    }

    #[test]
    fn waiting_events_are_bounded_and_what_falls_over_is_counted() {
        let reporter = Reporter::default();
        for number in 0..EVENTS + 5 {
            let event = Event { warning: false, reason: "Captured", note: String::new() };
            reporter.event(&pod(&number.to_string()), event);
        }
        assert_eq!(reporter.events_dropped(), 5);
        reporter.forget(&pod("0"));
        assert_eq!(reporter.waiting().events.len(), EVENTS - 1);
    }
}
