//! What a recording came to so far, as numbers for Prometheus. Labels take fixed words only: no name, address or url of
//! the traffic stands in one.

use std::fmt::Error;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::Failure;
use super::passed::PassedThrough;
use crate::store::SoFar;
use crate::telemetry::families::counter;
use crate::telemetry::{Metrics, Serving};

/// Serves them until the value is dropped, and says where.
///
/// # Errors
/// When the address is taken.
pub(super) fn serve(address: SocketAddr, so_far: SoFar, passed: Arc<PassedThrough>) -> Result<Serving, Failure> {
    let mut metrics = Metrics::default();
    metrics.add(Numbers { so_far, passed });
    let serving = Serving::start(address, metrics)?;
    let _ = writeln!(io::stderr(), "nodetap: metrics at http://{}/metrics", serving.address());
    Ok(serving)
}

#[derive(Debug)]
struct Numbers {
    so_far: SoFar,
    passed: Arc<PassedThrough>,
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let totals = self.so_far.totals();
        let by_direction =
            |inbound, outbound| [([("direction", "inbound")], inbound), ([("direction", "outbound")], outbound)];
        let exchanges = by_direction(totals.inbound_exchanges, totals.outbound_exchanges);
        counter(&mut encoder, "nodetap_exchanges", "Exchanges recorded", exchanges)?;
        let connections = by_direction(totals.inbound_connections, totals.outbound_connections);
        counter(&mut encoder, "nodetap_connections", "Connections recorded that hold no exchange", connections)?;
        let help = "Messages recorded, of exchanges";
        let messages = encoder.encode_descriptor("nodetap_messages", help, None, MetricType::Counter)?;
        ConstCounter::new(totals.messages).encode(messages)?;
        let lost = totals.lost.iter().map(|loss| ([("reason", loss.reason.as_ref())], loss.exchanges));
        counter(&mut encoder, "nodetap_lost_records", "Records that were lost", lost)?;
        let passed = self.passed.counts();
        let passed = passed.iter().map(|(reason, count)| ([("reason", *reason)], *count));
        counter(&mut encoder, "nodetap_tls_passthrough", "TLS connections that could not be opened", passed)
    }
}

#[cfg(test)]
mod tests {
    use nodetap_core::exchange::Target;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::store::{Recorder, Settings};

    #[test]
    fn the_numbers_say_what_was_recorded_and_what_was_not_opened() {
        let home = tempfile::tempdir().unwrap();
        let (recorder, recording) =
            Recorder::start(Settings::new(home.path().join("recording"), Target::command("app")), vec![]).unwrap();
        recorder.lost("queue_full", 3, 9);
        let passed = Arc::new(PassedThrough::default());
        passed.add("client_rejected");
        let numbers = Numbers { so_far: recording.so_far(), passed };
        recording.close();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(numbers));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "nodetap_exchanges_total{direction=\"inbound\"} 0",
            "nodetap_messages_total 0",
            "nodetap_lost_records_total{reason=\"queue_full\"} 3",
            "nodetap_tls_passthrough_total{reason=\"client_rejected\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }
}
