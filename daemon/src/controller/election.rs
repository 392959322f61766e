//! Who of the replicas writes: the holder of a Lease. Others' clocks are not believed: a Lease is dead when it has not
//! changed for as long as it says, by our own clock since we saw it change.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;

use crate::cluster::health::{Call, Health, Trouble};

/// The Lease's name.
pub(super) const LEASE: &str = "nodetap-controller";
/// A leader that has not renewed for so long is none. What pods need is written again within ten seconds of its end; that two
/// write for a moment does no harm, because both write the same.
const DURATION: Duration = Duration::from_secs(6);
/// A leader that could not renew for so long stops writing, and at the latest when a look is over that began before: before
/// others take over.
const DEADLINE: Duration = Duration::from_secs(4);
/// How often the Lease is looked at, and renewed.
const PERIOD: Duration = Duration::from_secs(1);
/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(2);
const _: () = assert!(DEADLINE.as_millis() + PERIOD.as_millis() < DURATION.as_millis());

/// What to do about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is ours: say that we live.
    Renew,
    /// It is nobody's.
    Take,
    Wait,
}

/// What a Lease said when it changed last, and when that was by our clock.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    holder: Option<String>,
    renewed: Option<MicroTime>,
    at: Instant,
}

/// Takes part in the election, for ever.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) api: Api<Lease>,
    /// Ours alone: the pod's name, and something random.
    pub(super) identity: String,
    pub(super) health: Health,
    /// candidate --true: it resigned--> its part in the election
    over: watch::Sender<bool>,
}

impl Candidate {
    pub(super) fn new(api: Api<Lease>, identity: String, health: Health) -> Self {
        Self { api, identity, health, over: watch::Sender::new(false) }
    }

    /// Tells whether we lead. Ends when nobody listens, or by [`Self::resign`].
    pub(super) async fn run(&self, lead: &watch::Sender<bool>) {
        let mut over = self.over.subscribe();
        tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => self.tell(lead, false),
            () = self.stand(lead) => {}
        }
    }

    async fn stand(&self, lead: &watch::Sender<bool>) {
        let mut seen = None;
        let mut renewed = Instant::now();
        while !lead.is_closed() {
            let begun = Instant::now();
            let patience = if *lead.borrow() { patience(renewed.elapsed()) } else { ANSWER };
            match tokio::time::timeout(patience, self.step(&mut seen)).await {
                Ok(Ok(leads)) => {
                    self.health.well(Call::Election);
                    renewed = begun;
                    self.tell(lead, leads);
                }
                failed => {
                    let trouble = match failed {
                        Ok(Err(error)) => Trouble::of(&error),
                        _ => Trouble { class: "unreachable", text: "no answer in time".into(), wait: None },
                    };
                    self.health.ill(Call::Election, trouble);
                    if renewed.elapsed() + PERIOD > DEADLINE {
                        self.tell(lead, false);
                    }
                }
            }
            tokio::time::sleep(PERIOD.saturating_sub(begun.elapsed())).await;
        }
    }

    /// Gives the Lease back, so that another one need not wait, and does not take it again.
    pub(super) async fn resign(&self) {
        self.over.send_replace(true);
        let given = async {
            let Some(mut lease) = self.api.get_opt(LEASE).await? else { return Ok(()) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.api.replace(LEASE, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(ANSWER, given).await {
            tracing::debug!(%error, "the lease is not given back: others wait until it ends");
        }
    }

    fn tell(&self, lead: &watch::Sender<bool>, leads: bool) {
        let changed = lead.send_if_modified(|led| std::mem::replace(led, leads) != leads);
        if changed {
            let what = if leads { "we write from now on" } else { "another replica writes" };
            tracing::info!(identity = self.identity, "{what}");
        }
    }

    /// One look; true when the Lease is ours. The API server refuses a write to what has changed meanwhile.
    async fn step(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let params = PostParams::default();
        let Some(mut lease) = self.api.get_opt(LEASE).await? else {
            let mut lease = Lease::default();
            lease.metadata.name = Some(LEASE.to_owned());
            self.hold(lease.spec.get_or_insert_default());
            return lost(self.api.create(&params, &lease).await);
        };
        let spec = lease.spec.get_or_insert_default();
        match decide(spec, seen, &self.identity, Instant::now()) {
            Step::Wait => Ok(false),
            Step::Renew | Step::Take => {
                self.hold(spec);
                lost(self.api.replace(LEASE, &params, &lease).await)
            }
        }
    }

    fn hold(&self, spec: &mut LeaseSpec) {
        let now = MicroTime(Timestamp::now());
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.holder_identity = Some(self.identity.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1).saturating_add(1));
        }
        spec.renew_time = Some(now);
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
    }
}

/// How long a leader that renewed so long ago waits for an answer.
fn patience(renewed: Duration) -> Duration {
    DEADLINE.saturating_sub(renewed).clamp(PERIOD, ANSWER)
}

/// Somebody else was faster: that is no failure.
fn lost(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

fn decide(spec: &LeaseSpec, seen: &mut Option<Seen>, identity: &str, now: Instant) -> Step {
    let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
    let same = seen.as_ref().filter(|seen| seen.holder == holder && seen.renewed == spec.renew_time);
    let at = same.map_or(now, |seen| seen.at);
    *seen = Some(Seen { holder: holder.clone(), renewed: spec.renew_time.clone(), at });
    match holder.as_deref() {
        None => Step::Take,
        Some(holder) if holder == identity => Step::Renew,
        Some(_) => {
            let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            let lasts = Duration::from_secs(lasts.unwrap_or(DURATION.as_secs()));
            if now.duration_since(at) > lasts { Step::Take } else { Step::Wait }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_leader_stops_before_others_take_over_whatever_the_api_server_does() {
        // Each look begins when the one before has failed, at once or in the end; no look begins after the deadline.
        for failed_at_once in [0, 500, 999, 1900, 2900, 3000] {
            let begun = Duration::from_millis(failed_at_once).max(PERIOD);
            let mut at = begun;
            while at + PERIOD <= DEADLINE {
                at += patience(at);
            }
            assert!(at <= DEADLINE + PERIOD && at < DURATION, "{at:?}");
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_stands_still_for_its_time_and_not_because_of_its_clock() {
        let start = Instant::now();
        let mut seen = None;
        let mut at = |seconds, spec: &LeaseSpec| decide(spec, &mut seen, "b", start + Duration::from_secs(seconds));
        // Its clock is years behind ours.
        assert_eq!(at(0, &lease("a", 1)), Step::Wait);
        assert_eq!(at(14, &lease("a", 1)), Step::Wait);
        assert_eq!(at(16, &lease("a", 2)), Step::Wait);
        assert_eq!(at(30, &lease("a", 2)), Step::Wait);
        assert_eq!(at(32, &lease("a", 2)), Step::Take);
        assert_eq!(at(33, &lease("b", 3)), Step::Renew);
        assert_eq!(at(34, &lease("", 3)), Step::Take);
    }
}
