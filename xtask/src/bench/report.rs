//! What was measured, as a table and as JSON: medians over the rounds, and the ratios that the project is held to.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Kind;
use super::measure::Figures;

/// The medians of one path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    kind: Kind,
    c1_per_second: f64,
    c1_p50: f64,
    c1_p99: f64,
    c16_per_second: f64,
    c16_p50: f64,
    c16_p99: f64,
    download: Option<f64>,
    cpu: Option<f64>,
    memory: Option<f64>,
}

impl Row {
    pub(crate) fn new(kind: Kind, figures: &[Figures]) -> Self {
        let of = |value: &dyn Fn(&Figures) -> Option<f64>| median(figures.iter().filter_map(value).collect());
        let always = |value: &dyn Fn(&Figures) -> f64| of(&|figures| Some(value(figures))).unwrap_or(f64::NAN);
        Self {
            kind,
            c1_per_second: always(&|figures| figures.c1.per_second),
            c1_p50: always(&|figures| figures.c1.p50),
            c1_p99: always(&|figures| figures.c1.p99),
            c16_per_second: always(&|figures| figures.c16.per_second),
            c16_p50: always(&|figures| figures.c16.p50),
            c16_p99: always(&|figures| figures.c16.p99),
            download: of(&|figures| figures.download),
            cpu: of(&|figures| figures.cpu),
            memory: of(&|figures| figures.memory),
        }
    }
}

/// The ratios: a path's requests per second to nginx's at 16 connections, and what it adds to the median latency at one
/// connection to what nginx adds. `None` when a path was not measured.
fn ratios(rows: &[Row], kind: Kind) -> (Option<f64>, Option<f64>) {
    let row = |kind: Kind| rows.iter().find(|row| row.kind == kind);
    let throughput = row(kind).zip(row(Kind::Nginx)).map(|(ours, nginx)| ours.c16_per_second / nginx.c16_per_second);
    let added = row(Kind::Direct)
        .zip(row(Kind::Nginx))
        .zip(row(kind))
        .map(|((direct, nginx), ours)| (ours.c1_p50 - direct.c1_p50) / (nginx.c1_p50 - direct.c1_p50));
    (throughput, added)
}

/// The table, ended by the ratios.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let shown =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "1 KiB keep-alive, one worker everywhere; medians\n{:<26} {:>9} {:>7} {:>8} {:>9} {:>7} {:>8} {:>9} {:>7} {:>8} {:>8} {:>8}",
        "",
        "c=1 req/s",
        "p50 µs",
        "p99 µs",
        "c=16",
        "p50 µs",
        "p99 µs",
        "MiB/s",
        "CPU µs",
        "RSS MiB",
        "÷ nginx",
        "added ÷"
    );
    for row in rows {
        let (throughput, added) = ratios(rows, row.kind);
        let _ = writeln!(
            text,
            "{:<26} {:>9.0} {:>7.0} {:>8.0} {:>9.0} {:>7.0} {:>8.0} {:>9} {:>7} {:>8} {:>8} {:>8}",
            row.kind.name(),
            row.c1_per_second,
            row.c1_p50,
            row.c1_p99,
            row.c16_per_second,
            row.c16_p50,
            row.c16_p99,
            shown(row.download, 0),
            shown(row.cpu, 1),
            shown(row.memory, 1),
            shown(throughput, 2),
            shown(added, 2)
        );
    }
    text.push_str(
        "CPU µs: per request at c=16, of the process in the middle. ÷ nginx: req/s at c=16 to nginx proxy_pass.\n\
         added ÷: what the path adds to the p50 of the direct one at c=1, to what nginx proxy_pass adds.\n",
    );
    text
}

/// The same for programs.
pub(crate) fn json(rows: &[Row], rounds: u32, seconds: u32) -> Value {
    let paths: Vec<Value> = rows
        .iter()
        .map(|row| {
            let (throughput, added) = ratios(rows, row.kind);
            json!({
                "path": row.kind.name(),
                "c1": {"requests_per_second": row.c1_per_second, "p50_us": row.c1_p50, "p99_us": row.c1_p99},
                "c16": {"requests_per_second": row.c16_per_second, "p50_us": row.c16_p50, "p99_us": row.c16_p99},
                "download_mib_per_second": row.download,
                "cpu_us_per_request": row.cpu,
                "peak_rss_mib": row.memory,
                "ratio": {"throughput_to_nginx_c16": throughput, "added_p50_to_nginx_c1": added},
            })
        })
        .collect();
    let (throughput, added) = ratios(rows, Kind::RunInbound);
    json!({
        "rounds": rounds,
        "seconds": seconds,
        "workers": 1,
        "paths": paths,
        "ratio": {"run_inbound_throughput_to_nginx_c16": throughput, "run_inbound_added_p50_to_nginx_c1": added},
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let lower = if values.len().is_multiple_of(2) { *values.get(middle.checked_sub(1)?)? } else { upper };
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Load;

    fn row(kind: Kind, p50: f64, per_second: f64) -> Row {
        let load = Load { per_second, p50, p99: p50 };
        Row::new(kind, &[Figures { c1: load, c16: load, download: None, cpu: None, memory: None }])
    }

    #[test]
    fn the_ratios_are_those_to_what_nginx_does_and_adds() {
        let rows = [row(Kind::Direct, 40.0, 200.0), row(Kind::Nginx, 60.0, 100.0), row(Kind::RunInbound, 70.0, 95.0)];
        let ratio = &json(&rows, 1, 1)["ratio"];
        assert_eq!(ratio["run_inbound_throughput_to_nginx_c16"], 0.95);
        assert_eq!(ratio["run_inbound_added_p50_to_nginx_c1"], 1.5);
    }

    #[test]
    fn a_path_that_was_not_measured_has_no_ratio() {
        assert_eq!(
            json(&[row(Kind::Direct, 1.0, 1.0)], 1, 1)["ratio"]["run_inbound_added_p50_to_nginx_c1"],
            Value::Null
        );
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_its_two_middles() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
