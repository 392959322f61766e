//! What was measured, as a table and as JSON: medians over the rounds, ratios, bars, and what was lost.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::bars::{self, Bar, Limit};
use super::kind::Kind;
use super::losses::Losses;
use super::measure::{Figures, Used};
use super::wrk::Load;

/// The medians of one path; memory is that of the last round.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) c1: Option<Load>,
    pub(crate) c16: Load,
    download: Option<f64>,
    used: Option<Used>,
    /// Over all rounds.
    requests: f64,
    losses: Losses,
    rounds: Vec<Figures>,
}

impl Row {
    pub(crate) fn new(kind: Kind, figures: &[Figures], losses: Losses) -> Self {
        let of = |value: &dyn Fn(&Figures) -> Option<f64>| median(figures.iter().filter_map(value).collect());
        let load = |which: &dyn Fn(&Figures) -> Option<Load>| {
            let part = |part: &dyn Fn(Load) -> f64| of(&|figures| which(figures).map(part)).unwrap_or(f64::NAN);
            Load {
                requests: part(&|load| load.requests),
                per_second: part(&|load| load.per_second),
                p50: part(&|load| load.p50),
                p99: part(&|load| load.p99),
            }
        };
        let cpu = of(&|figures| figures.used.map(|used| used.cpu));
        let last = figures.last().and_then(|figures| figures.used);
        Self {
            kind,
            c1: figures.iter().any(|figures| figures.c1.is_some()).then(|| load(&|figures| figures.c1)),
            c16: load(&|figures| Some(figures.c16)),
            download: of(&|figures| figures.download),
            used: last.zip(cpu).map(|(last, cpu)| Used { cpu, ..last }),
            requests: figures.iter().map(|figures| figures.requests).sum(),
            losses,
            rounds: figures.to_vec(),
        }
    }

    /// Whether the recorder was to be in trouble and was not: its figures are then those of another row.
    pub(crate) fn was_spared(&self) -> bool {
        self.kind.is_disturbed() && !self.losses.any()
    }
}

/// The table, followed by what was lost, and the bars.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from("1 KiB keep-alive, one worker everywhere; medians\n");
    line(
        &mut text,
        "",
        &[
            "c=1 req/s",
            "p50 µs",
            "p99 µs",
            "c=16",
            "p50 µs",
            "p99 µs",
            "MiB/s",
            "CPU µs",
            "RSS MiB",
            "peak",
            "÷ nginx",
            "added ÷",
        ]
        .map(str::to_owned),
    );
    for row in rows {
        let shown =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        line(
            &mut text,
            row.kind.name(),
            &[
                shown(row.c1.map(|load| load.per_second), 0),
                shown(row.c1.map(|load| load.p50), 0),
                shown(row.c1.map(|load| load.p99), 0),
                shown(Some(row.c16.per_second), 0),
                shown(Some(row.c16.p50), 0),
                shown(Some(row.c16.p99), 0),
                shown(row.download, 0),
                shown(row.used.map(|used| used.cpu), 1),
                shown(row.used.map(|used| used.rss), 1),
                shown(row.used.map(|used| used.peak), 1),
                shown(bars::throughput(rows, row.kind), 2),
                shown(bars::added(rows, row.kind), 2),
            ],
        );
    }
    text.push_str(
        "CPU µs: per request at c=16, of the process in the middle. RSS: after the last round. ÷ nginx: req/s at c=16 to\n\
         nginx proxy_pass. added ÷: what the path adds to the p50 of the direct one at c=1, to what nginx proxy_pass adds.\n",
    );
    for row in rows.iter().filter(|row| row.losses.any()) {
        lost(&mut text, row);
    }
    for bar in bars::all(rows) {
        verdict(&mut text, &bar);
    }
    text
}

// Writing to a string does not fail: the results below are dropped.

fn line(text: &mut String, name: &str, cells: &[String; 12]) {
    let _ = write!(text, "{name:<36}");
    for (cell, width) in cells.iter().zip([9, 6, 6, 6, 6, 6, 5, 6, 7, 6, 7, 7]) {
        let _ = write!(text, " {cell:>width$}");
    }
    text.push('\n');
}

fn lost(text: &mut String, row: &Row) {
    let _ = write!(text, "lost of {:.0} exchanges, {}:", row.requests, row.kind.name());
    for (reason, count) in &row.losses.records {
        let _ = write!(text, " {count} records ({reason})");
    }
    if row.losses.lines > 0 {
        let _ = write!(text, " {} lines", row.losses.lines);
    }
    text.push('\n');
}

fn verdict(text: &mut String, bar: &Bar) {
    let (sign, limit) = sides(bar.limit);
    let value = bar.value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let verdict = match bar.met() {
        Some(true) => "met",
        Some(false) => "not met",
        None => "not measured",
    };
    let _ = writeln!(text, "{:<52} {value:>6}  {sign} {limit:.2}  {verdict}", bar.name);
}

fn sides(limit: Limit) -> (&'static str, f64) {
    match limit {
        Limit::AtLeast(limit) => ("≥", limit),
        Limit::AtMost(limit) => ("≤", limit),
    }
}

/// The same for programs, with each round's figures.
pub(crate) fn json(rows: &[Row], rounds: u32, seconds: u32) -> Value {
    let bars: Vec<Value> = bars::all(rows)
        .iter()
        .map(|bar| {
            let (sign, limit) = sides(bar.limit);
            json!({"name": bar.name, "value": bar.value, "sign": sign, "limit": limit, "met": bar.met()})
        })
        .collect();
    let paths: Vec<Value> = rows.iter().map(|row| path(rows, row)).collect();
    json!({"rounds": rounds, "seconds": seconds, "workers": 1, "paths": paths, "bars": bars})
}

fn path(rows: &[Row], row: &Row) -> Value {
    let rounds: Vec<Value> = row.rounds.iter().map(|one| figures(one.c1, one.c16, one.download, one.used)).collect();
    let mut path = figures(row.c1, row.c16, row.download, row.used);
    if let Some(path) = path.as_object_mut() {
        path.insert("path".to_owned(), row.kind.name().into());
        path.insert("requests".to_owned(), row.requests.into());
        path.insert("lost".to_owned(), json!({"records": row.losses.records, "lines": row.losses.lines}));
        let p99 = row.kind.is_disturbed().then(|| bars::over_undisturbed(rows, row.kind)).flatten();
        path.insert(
            "ratio".to_owned(),
            json!({
                "throughput_to_nginx_c16": bars::throughput(rows, row.kind),
                "added_p50_to_nginx_c1": bars::added(rows, row.kind),
                "p99_to_undisturbed_c16": p99,
            }),
        );
        path.insert("each_round".to_owned(), rounds.into());
    }
    path
}

fn figures(c1: Option<Load>, c16: Load, download: Option<f64>, used: Option<Used>) -> Value {
    let load = |load: Load| json!({"requests_per_second": load.per_second, "p50_us": load.p50, "p99_us": load.p99});
    json!({
        "c1": c1.map(load),
        "c16": load(c16),
        "download_mib_per_second": download,
        "cpu_us_per_request": used.map(|used| used.cpu),
        "rss_mib": used.map(|used| used.rss),
        "peak_rss_mib": used.map(|used| used.peak),
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

    fn row(kind: Kind) -> Row {
        let load = Load { requests: 1.0, per_second: 1.0, p50: 1.0, p99: 1.0 };
        let figures = Figures { c1: None, c16: load, requests: 1.0, download: None, used: None };
        Row::new(kind, &[figures, figures], Losses { lines: 3, ..Losses::default() })
    }

    #[test]
    fn what_was_not_measured_is_a_dash_and_null_and_says_so() {
        let rows = [row(Kind::RunInbound)];
        let json = json(&rows, 2, 1);
        assert_eq!(json["paths"][0]["c1"], Value::Null);
        assert_eq!(json["paths"][0]["ratio"]["throughput_to_nginx_c16"], Value::Null);
        assert_eq!(json["bars"][0]["met"], Value::Null);
        let text = table(&rows);
        assert!(text.contains("not measured"), "{text}");
        assert!(text.contains("lost of 2 exchanges, run inbound, undisturbed: 3 lines"), "{text}");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_its_two_middles() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
