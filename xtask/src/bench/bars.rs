//! The ratios that the project is held to, and their bars.

use super::kind::Kind;
use super::report::Row;

/// On which side of its bar a value has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// One bar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    /// `None` when a row that it compares was not measured.
    pub(crate) value: Option<f64>,
    pub(crate) limit: Limit,
}

impl Bar {
    /// Whether the value is on the right side; `None` without a value.
    pub(crate) fn met(&self) -> Option<bool> {
        self.value.map(|value| match self.limit {
            Limit::AtLeast(least) => value >= least,
            Limit::AtMost(most) => value <= most,
        })
    }
}

/// All bars.
pub(super) fn all(rows: &[Row]) -> [Bar; 4] {
    let tail = |kind| over_undisturbed(rows, kind);
    [
        Bar {
            name: "req/s at c=16: run inbound ÷ nginx proxy_pass",
            value: throughput(rows, Kind::RunInbound),
            limit: Limit::AtLeast(0.95),
        },
        Bar {
            name: "added p50 at c=1: run inbound ÷ nginx proxy_pass",
            value: added(rows, Kind::RunInbound),
            limit: Limit::AtMost(1.5),
        },
        Bar {
            name: "p99 at c=16: full disk ÷ undisturbed", value: tail(Kind::RunFullDisk), limit: Limit::AtMost(1.2)
        },
        Bar {
            name: "p99 at c=16: sink that does not read ÷ undisturbed",
            value: tail(Kind::RunUnread),
            limit: Limit::AtMost(1.2),
        },
    ]
}

/// A row's requests per second to nginx's, at 16 connections.
pub(super) fn throughput(rows: &[Row], kind: Kind) -> Option<f64> {
    Some(row(rows, kind)?.c16.per_second / row(rows, Kind::Nginx)?.c16.per_second)
}

/// What a row adds to the median latency of the direct path at one connection, to what nginx adds. `None` also when the
/// measurement was so disturbed that nginx seems to add nothing.
pub(super) fn added(rows: &[Row], kind: Kind) -> Option<f64> {
    let p50 = |kind| Some(row(rows, kind)?.c1?.p50);
    let direct = p50(Kind::Direct)?;
    let nginx = p50(Kind::Nginx)? - direct;
    (nginx > 0.0).then_some((p50(kind)? - direct) / nginx)
}

/// A row's 99th percentile to that of the undisturbed run, at 16 connections.
pub(super) fn over_undisturbed(rows: &[Row], kind: Kind) -> Option<f64> {
    Some(row(rows, kind)?.c16.p99 / row(rows, Kind::RunInbound)?.c16.p99)
}

fn row(rows: &[Row], kind: Kind) -> Option<&Row> {
    rows.iter().find(|row| row.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::losses::Losses;
    use crate::bench::measure::Figures;
    use crate::bench::wrk::Load;

    fn row(kind: Kind, p50: f64, per_second: f64, p99: f64) -> Row {
        let load = Load { requests: per_second, per_second, p50, p99 };
        let figures = Figures { c1: Some(load), c16: load, requests: per_second, download: None, used: None };
        Row::new(kind, &[figures], Losses::default())
    }

    #[test]
    fn a_value_on_its_bar_meets_it_and_one_beyond_does_not() {
        let rows = [
            row(Kind::Direct, 40.0, 200.0, 100.0),
            row(Kind::Nginx, 60.0, 100.0, 100.0),
            row(Kind::RunInbound, 70.0, 95.0, 100.0),
            row(Kind::RunFullDisk, 70.0, 95.0, 121.0),
        ];
        let bars = all(&rows);
        assert_eq!(bars.map(|bar| bar.value), [Some(0.95), Some(1.5), Some(1.21), None]);
        assert_eq!(bars.map(|bar| bar.met()), [Some(true), Some(true), Some(false), None]);
    }

    #[test]
    fn what_nginx_does_not_add_is_no_measure() {
        let rows = [row(Kind::Direct, 40.0, 1.0, 1.0), row(Kind::Nginx, 40.0, 1.0, 1.0)];
        assert_eq!(added(&rows, Kind::Nginx), None);
    }
}
