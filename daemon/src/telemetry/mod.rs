//! Numbers for Prometheus, and pages beside them: what a part of the daemon counts or knows is read when somebody asks,
//! and served as text over HTTP. It refuses to know what the numbers mean, and who counts them.

pub mod families;
mod serve;

use prometheus_client::collector::Collector;
use prometheus_client::registry::Registry;

pub use serve::{Error, Serving};

/// What is served: collectors and pages are asked anew for each answer.
#[derive(Debug, Default)]
pub struct Metrics {
    registry: Registry,
    pages: Vec<Page>,
}

/// What a page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whoever asks whether all is well goes by this.
    pub well: bool,
    pub json: bool,
    pub text: String,
}

/// A page beside `/metrics`.
struct Page {
    path: &'static str,
    ask: Box<dyn Fn() -> Said + Send + Sync>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Page").field(&self.path).finish()
    }
}

impl Metrics {
    /// Adds a part's numbers.
    pub fn add(&mut self, collector: impl Collector) {
        self.registry.register_collector(Box::new(collector));
    }

    /// Adds a page.
    pub fn page(&mut self, path: &'static str, ask: impl Fn() -> Said + Send + Sync + 'static) {
        self.pages.push(Page { path, ask: Box::new(ask) });
    }

    fn say(&self, path: &str) -> Option<Said> {
        self.pages.iter().find(|page| page.path == path).map(|page| (page.ask)())
    }

    /// As OpenMetrics text (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
    fn render(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            // A collector that failed: what it says would be half of the truth.
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use prometheus_client::encoding::DescriptorEncoder;
    use prometheus_client::metrics::counter::ConstCounter;

    use super::*;

    #[derive(Debug)]
    struct Seven;

    impl Collector for Seven {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
            use prometheus_client::encoding::EncodeMetric;
            let counter = ConstCounter::new(7u64);
            let metric = encoder.encode_descriptor("nodetap_sevens", "Seven.", None, counter.metric_type())?;
            counter.encode(metric)
        }
    }

    fn ask(serving: &Serving, request: &str) -> String {
        let mut stream = TcpStream::connect(serving.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_scraper_gets_the_numbers_and_others_are_told_what_there_is() {
        let mut metrics = Metrics::default();
        metrics.add(Seven);
        metrics.page("/readyz", || Said { well: false, json: false, text: "not yet\n".into() });
        let serving = Serving::start("127.0.0.1:0".parse().unwrap(), metrics).unwrap();
        let get = |line: &str| ask(&serving, &format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        let numbers = get("GET /metrics");
        assert!(
            numbers.starts_with("HTTP/1.1 200 OK\r\n") && numbers.contains("nodetap_sevens_total 7\n"),
            "{numbers}"
        );
        assert!(numbers.ends_with("# EOF\n"), "{numbers}");
        assert!(get("POST /metrics").starts_with("HTTP/1.1 405 "));
        assert!(get("GET /").starts_with("HTTP/1.1 404 "));
        let ready = get("GET /readyz");
        assert!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("not yet\n"), "{ready}");
    }
}
