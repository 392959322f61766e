//! What an operator sees of an agent: numbers, whether it lives, whether it is ready and if not why, and what it does for
//! each pod.

use std::net::SocketAddr;

use super::metrics::Numbers;
use super::view::{Facts, View};
use crate::capture::Bypass;
use crate::cluster::Health;
use crate::telemetry::{self, Metrics, Said, Serving};

/// Serves until the value is dropped.
///
/// # Errors
/// When the address is taken.
pub(super) fn serve(
    address: SocketAddr,
    numbers: Numbers,
    view: &View,
    health: &Health,
) -> Result<Serving, telemetry::Error> {
    let mut metrics = Metrics::default();
    metrics.add(numbers);
    metrics.page("/healthz", || Said { well: true, json: false, text: "ok\n".into() });
    let (shown, api) = (view.clone(), health.clone());
    metrics.page("/readyz", move || ready(&shown.unready(), &api.troubles(), shown.is_paused()));
    let shown = view.clone();
    metrics.page("/debug/targets", move || targets(&shown));
    Serving::start(address, metrics)
}

/// Trouble with the API server is named, and does not make us unready once all is known: what is captured stays so.
fn ready(unready: &[String], troubles: &[String], paused: bool) -> Said {
    let mut text = if unready.is_empty() { "ready\n".to_owned() } else { "not ready\n".to_owned() };
    if paused {
        text.push_str("paused: nothing is captured, as `nodetap pause` asked\n");
    }
    for line in unready {
        text.push_str(line);
        text.push('\n');
    }
    for trouble in troubles {
        text.push_str("API server: ");
        text.push_str(trouble);
        text.push('\n');
    }
    Said { well: unready.is_empty(), json: false, text }
}

fn targets(view: &View) -> Said {
    #[derive(serde::Serialize)]
    struct Shown {
        #[serde(flatten)]
        facts: Facts,
        open: u64,
        connections: std::collections::BTreeMap<String, u64>,
        /// Where traffic went past us.
        bypasses: Vec<Past>,
        /// Connections that the list has no room for.
        bypasses_more: u64,
    }
    #[derive(serde::Serialize)]
    struct Past {
        process: String,
        destination: SocketAddr,
        reason: &'static str,
        count: u64,
    }
    let past = |bypass: Bypass| Past {
        process: bypass.process.name,
        destination: bypass.destination,
        reason: bypass.reason,
        count: bypass.count,
    };
    let shown: Vec<Shown> = view
        .targets()
        .into_iter()
        .map(|target| {
            let (bypasses, bypasses_more) = target.stats.bypasses();
            let connections = target.stats.connections().into_iter();
            Shown {
                open: target.stats.open(),
                connections: connections.map(|((a, b), n)| (format!("{a} {b}"), n)).collect(),
                bypasses: bypasses.into_iter().map(past).collect(),
                bypasses_more,
                facts: target.facts,
            }
        })
        .collect();
    // Plain values: that cannot fail.
    Said { well: true, json: true, text: serde_json::to_string_pretty(&shown).unwrap_or_default() + "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_missing_and_trouble_alone_does_not_end_it() {
        let said = ready(&["waiting for pods".into()], &["pods: 403 no".into()], false);
        assert_eq!((said.well, said.text.as_str()), (false, "not ready\nwaiting for pods\nAPI server: pods: 403 no\n"));
        assert!(ready(&[], &["pods: 503 no".into()], false).well);
        assert!(ready(&[], &[], true).text.contains("paused"));
    }
}
