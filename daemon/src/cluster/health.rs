//! What goes well and what does not between us and the API server: counted for metrics, named for `/readyz`. It refuses
//! to decide whether that matters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::runtime::watcher;

/// What we ask the API server for. Labels of metrics: fixed words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Pods,
    Namespaces,
    Pause,
    Services,
    Condition,
    Event,
    Lease,
    Authority,
    Certificates,
    Agents,
    FrontProxy,
    Election,
    ApiService,
    Workloads,
    Resolved,
    Mesh,
    Routes,
    Egress,
    Sidecar,
    TrustBundle,
}

impl Call {
    pub fn word(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Namespaces => "namespaces",
            Self::Pause => "pause",
            Self::Services => "services",
            Self::Condition => "condition",
            Self::Event => "event",
            Self::Lease => "lease",
            Self::Authority => "authority",
            Self::Certificates => "certificates",
            Self::Agents => "agents",
            Self::FrontProxy => "front_proxy",
            Self::Election => "election",
            Self::ApiService => "api_service",
            Self::Workloads => "workloads",
            Self::Resolved => "resolved",
            Self::Mesh => "mesh",
            Self::Routes => "routes",
            Self::Egress => "egress",
            Self::Sidecar => "sidecar",
            Self::TrustBundle => "trust_bundle",
        }
    }
}

/// Why a call failed, as far as it makes a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// A fixed word: `401`, `403`, `404`, `409`, `410`, `422`, `429`, `4xx`, `5xx`, `unreachable`, `garbled`.
    pub class: &'static str,
    pub text: String,
    /// What the server asked us to wait.
    pub wait: Option<Duration>,
}

impl Trouble {
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::status(status),
            kube::Error::SerdeError(error) => Self { class: "garbled", text: error.to_string(), wait: None },
            error => Self { class: "unreachable", text: chain(error), wait: None },
        }
    }

    pub fn of_watch(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::of(error),
            watcher::Error::WatchError(status) => Self::status(status),
            error @ watcher::Error::NoResourceVersion => Self { class: "garbled", text: error.to_string(), wait: None },
        }
    }

    fn status(status: &kube::core::Status) -> Self {
        let class = match status.code {
            401 => "401",
            403 => "403",
            404 => "404",
            409 => "409",
            410 => "410",
            422 => "422",
            429 => "429",
            400..=499 => "4xx",
            _ => "5xx",
        };
        let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let wait = (asked > 0).then(|| Duration::from_secs(asked.into()));
        Self { class, text: format!("{} {}", status.code, status.message), wait }
    }
}

/// The error and what caused it, in one line: kube's own texts name only the layer.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}

#[derive(Debug, Default)]
struct State {
    trouble: BTreeMap<Call, Trouble>,
    failures: BTreeMap<(Call, &'static str), u64>,
    calls: BTreeMap<Call, u64>,
}

/// Shared by whoever calls and whoever shows.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

impl Health {
    /// A call of this kind succeeded.
    pub fn well(&self, call: Call) {
        let mut state = self.state();
        *state.calls.entry(call).or_default() += 1;
        if state.trouble.remove(&call).is_some() {
            tracing::info!(call = call.word(), "the API server answers again");
        }
    }

    /// A call of this kind failed.
    pub fn ill(&self, call: Call, trouble: Trouble) {
        let mut state = self.state();
        *state.failures.entry((call, trouble.class)).or_default() += 1;
        // Said when it begins, and when it becomes something else: not at every try.
        if state.trouble.get(&call).is_none_or(|before| before.class != trouble.class) {
            tracing::warn!(call = call.word(), class = trouble.class, error = trouble.text, "the API server");
        }
        state.trouble.insert(call, trouble);
    }

    /// What fails now, one line a kind of call.
    pub fn troubles(&self) -> Vec<String> {
        let say = |(call, trouble): (&Call, &Trouble)| format!("{}: {}", call.word(), trouble.text);
        self.state().trouble.iter().map(say).collect()
    }

    /// Failures by kind of call and class.
    pub fn failures(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.state().failures.iter().map(|((call, class), count)| (call.word(), *class, *count)).collect()
    }

    /// Successes by kind of call.
    pub fn calls(&self) -> Vec<(&'static str, u64)> {
        self.state().calls.iter().map(|(call, count)| (call.word(), *count)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> Trouble {
        let status = kube::core::Status { code, message: "no".into(), ..kube::core::Status::success() };
        Trouble::of(&kube::Error::Api(status.boxed()))
    }

    #[test]
    fn what_fails_is_named_until_it_works_again_and_counted_for_good() {
        let health = Health::default();
        health.ill(Call::Pods, refused(403));
        health.ill(Call::Pods, refused(403));
        health.ill(Call::Lease, refused(503));
        assert_eq!(health.troubles(), ["pods: 403 no", "lease: 503 no"]);
        health.well(Call::Pods);
        assert_eq!(health.troubles(), ["lease: 503 no"]);
        assert_eq!(health.failures(), [("pods", "403", 2), ("lease", "5xx", 1)]);
        assert_eq!(health.calls(), [("pods", 1)]);
    }
}
