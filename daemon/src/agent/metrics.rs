//! The agent's numbers for Prometheus. Labels of a pod are its namespace and name; everything else is a fixed word. The
//! numbers of a pod go with the pod.

use std::collections::BTreeMap;
use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::stats::BOUNDS;
use super::view::{Target, View};
use crate::cluster::Health;
use crate::cluster::report::Reporter;
use crate::store::SoFar;
use crate::telemetry::families::{counter, gauge};

/// Where the numbers come from.
#[derive(Debug)]
pub(super) struct Numbers {
    pub view: View,
    pub health: Health,
    pub reporter: Reporter,
    pub so_far: SoFar,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

fn of<'a>(target: &'a Target, more: &[(&'static str, &'a str)]) -> Labels<'a> {
    let mut labels = vec![("namespace", target.facts.namespace.as_str()), ("pod", target.facts.pod.as_str())];
    labels.extend_from_slice(more);
    labels
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let targets = self.view.targets();
        self.connections(&mut encoder, &targets)?;
        requests(&mut encoder, &targets)?;
        self.recording(&mut encoder, &targets)?;
        pods(&mut encoder, &targets)?;
        self.process(&mut encoder)
    }
}

impl Numbers {
    fn connections(&self, encoder: &mut DescriptorEncoder<'_>, targets: &[Target]) -> Result<(), Error> {
        let counts: Vec<_> = targets.iter().map(|target| (target, target.stats.connections())).collect();
        let values = counts.iter().flat_map(|(target, counts)| {
            counts
                .iter()
                .map(|((direction, route), count)| (of(target, &[("direction", direction), ("route", route)]), *count))
        });
        counter(encoder, "nodetap_connections", "Connections of a pod, by direction and by the way they went", values)?;
        let active = targets.iter().map(|target| (of(target, &[]), target.stats.open()));
        gauge(encoder, "nodetap_connections_active", "Connections that pass through us now", active)?;
        let full = targets.iter().map(|target| (target, target.stats.kernel_full()));
        let full = full.flat_map(|(target, (ring, map))| {
            [(of(target, &[("table", "ring")]), ring), (of(target, &[("table", "map")]), map)]
        });
        counter(encoder, "nodetap_bpf_dropped", "Events and entries for which the kernel had no room", full)
    }

    fn recording(&self, encoder: &mut DescriptorEncoder<'_>, targets: &[Target]) -> Result<(), Error> {
        let recorded = targets.iter().map(|target| (of(target, &[]), target.stats.recorded().0));
        counter(encoder, "nodetap_exchanges_recorded", "Exchanges recorded", recorded)?;
        let messages = targets.iter().map(|target| (of(target, &[]), target.stats.recorded().1));
        counter(encoder, "nodetap_messages_recorded", "Messages recorded, of exchanges", messages)?;
        let lost: Vec<_> = targets.iter().map(|target| (target, target.stats.lost())).collect();
        let lost = lost
            .iter()
            .flat_map(|(target, lost)| lost.iter().map(|(reason, count)| (of(target, &[("reason", reason)]), *count)));
        counter(encoder, "nodetap_exchanges_dropped", "Records that were lost", lost)?;
        let passed: Vec<_> = targets.iter().map(|target| (target, target.stats.passed())).collect();
        let passed = passed.iter().flat_map(|(target, passed)| {
            passed.iter().map(|(reason, count)| (of(target, &[("reason", reason)]), *count))
        });
        counter(encoder, "nodetap_tls_passthrough", "TLS connections that could not be opened", passed)?;
        let totals = self.so_far.totals();
        let bytes = [(Labels::new(), totals.bytes)];
        gauge(encoder, "nodetap_store_bytes", "Bytes of all segments", bytes)?;
        let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
        totals.lost.iter().for_each(|loss| *by_reason.entry(loss.reason.as_ref()).or_default() += loss.exchanges);
        let lost = by_reason.into_iter().map(|(reason, count)| (vec![("reason", reason)], count));
        counter(encoder, "nodetap_store_lost_records", "Records that the store lost, of all pods", lost)
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let calls = self.health.calls();
        let calls = calls.iter().map(|(call, count)| (vec![("call", *call)], *count));
        counter(
            encoder,
            "nodetap_api_calls",
            "Answers of the API server that were as hoped, by what was asked",
            calls,
        )?;
        let failures = self.health.failures();
        let failures = failures.iter().map(|(call, class, count)| (vec![("call", *call), ("class", *class)], *count));
        counter(encoder, "nodetap_api_failures", "Failures of calls to the API server", failures)?;
        let dropped = [(Labels::new(), self.reporter.events_dropped())];
        counter(encoder, "nodetap_events_dropped", "Events that were not sent, because too many waited", dropped)?;
        let paused = [(Labels::new(), u64::from(self.view.is_paused()))];
        gauge(encoder, "nodetap_paused", "1 while all capture is stopped, as `nodetap pause` asked", paused)?;
        let build = [(vec![("version", env!("CARGO_PKG_VERSION"))], 1)];
        gauge(encoder, "nodetap_build_info", "Which nodetap this is", build)
    }
}

fn requests(encoder: &mut DescriptorEncoder<'_>, targets: &[Target]) -> Result<(), Error> {
    let requests: Vec<_> = targets.iter().map(|target| (target, target.stats.requests())).collect();
    let values = requests.iter().flat_map(|(target, requests)| {
        requests.iter().map(|((direction, protocol, method, class), count)| {
            let more = [("direction", *direction), ("protocol", protocol), ("method", method), ("code_class", class)];
            (of(target, &more), *count)
        })
    });
    counter(encoder, "nodetap_requests", "Requests whose exchange has ended", values)?;
    let help = "Time from a request's first byte to its response's last";
    let name = "nodetap_request_duration_seconds";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for target in targets {
        for (direction, durations) in target.stats.durations() {
            let labels = of(target, &[("direction", direction)]);
            let bounds = BOUNDS.iter().map(|micros| seconds(*micros)).chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(durations.buckets).collect();
            let count = durations.buckets.iter().sum();
            family.encode_family(&labels)?.encode_histogram::<[(&str, &str); 0]>(
                seconds(durations.sum_us),
                count,
                &buckets,
                None,
            )?;
        }
    }
    Ok(())
}

fn pods(encoder: &mut DescriptorEncoder<'_>, targets: &[Target]) -> Result<(), Error> {
    let mut states: BTreeMap<&str, u64> =
        ["Pending", "Capturing", "Degraded", "Refused", "Draining"].map(|state| (state, 0)).into();
    targets.iter().for_each(|target| *states.entry(target.facts.state).or_default() += 1);
    let states = states.into_iter().map(|(state, count)| (vec![("state", state)], count));
    gauge(encoder, "nodetap_pods", "Pods of this node that asked to be captured, by state", states)?;
    let ports: Vec<_> = targets
        .iter()
        .flat_map(|target| target.facts.ports.iter().map(move |port| (target, port.to_string())))
        .collect();
    let ports = ports.iter().map(|(target, port)| (of(target, &[("port", port)]), 1));
    gauge(encoder, "nodetap_listeners", "Ports that a pod's application listens on", ports)?;
    let attach = targets.iter().filter(|target| target.stats.attach_us() > 0);
    let attach = attach.map(|target| (of(target, &[]), seconds(target.stats.attach_us())));
    let help = "Time from when a pod could be captured to when it was";
    let mut family = encoder.encode_descriptor("nodetap_attach_duration_seconds", help, None, MetricType::Gauge)?;
    for (labels, value) in attach {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
