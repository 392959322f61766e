//! What a contest has measured, as a table and as JSON: one figure of all rounds, bars, and what was lost.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Extent;
use super::bars::Bar;
use super::contest::Contest;
use super::standings::{Standing, Standings};

/// The table, followed by what was lost, and the bars.
pub(super) fn table<C: Contest>(standings: &Standings) -> String {
    let mut text = format!("{}\n", C::TITLE);
    let headings: Vec<String> = standings.figures.iter().map(|figure| figure.heading.to_owned()).collect();
    let widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count().max(6)).collect();
    line(&mut text, "", &headings, &widths);
    for row in &standings.rows {
        let cell =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let cells: Vec<String> =
            standings.figures.iter().map(|figure| cell(standings.value(row.name, figure.key), figure.digits)).collect();
        line(&mut text, row.name, &cells, &widths);
    }
    let _ = writeln!(text, "{}", C::NOTES);
    for row in standings.rows.iter().filter(|row| row.losses.any()) {
        lost(&mut text, row);
    }
    for bar in C::bars(standings) {
        verdict(&mut text, &bar);
    }
    text
}

// Writing to a string does not fail: the results below are dropped.

fn line(text: &mut String, name: &str, cells: &[String], widths: &[usize]) {
    let _ = write!(text, "{name:<36}");
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(text, " {cell:>width$}");
    }
    text.push('\n');
}

fn lost(text: &mut String, row: &Standing) {
    let _ = write!(text, "lost of {:.0} exchanges, {}:", row.requests(), row.name);
    for (reason, count) in &row.losses.records {
        let _ = write!(text, " {count} records ({reason})");
    }
    if row.losses.lines > 0 {
        let _ = write!(text, " {} lines", row.losses.lines);
    }
    text.push('\n');
}

fn verdict(text: &mut String, bar: &Bar) {
    let (sign, limit) = bar.limit.sides();
    let value = bar.value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let verdict = match bar.met() {
        Some(true) => "met",
        Some(false) => "not met",
        None => "not measured",
    };
    let _ = writeln!(text, "{:<58} {value:>7}  {sign} {limit:>5.2}  {verdict}", bar.name);
}

/// The same for programs, with each round's figures.
pub(super) fn json<C: Contest>(standings: &Standings, extent: Extent) -> Value {
    let bars: Vec<Value> = C::bars(standings)
        .iter()
        .map(|bar| {
            let (sign, limit) = bar.limit.sides();
            json!({"name": bar.name, "value": bar.value, "sign": sign, "limit": limit, "met": bar.met()})
        })
        .collect();
    let rows: Vec<Value> = standings.rows.iter().map(|row| path(standings, row)).collect();
    json!({"rounds": extent.rounds, "seconds": extent.seconds, "paths": rows, "bars": bars})
}

fn path(standings: &Standings, row: &Standing) -> Value {
    let figures: Map<String, Value> = standings
        .figures
        .iter()
        .map(|figure| (figure.key.to_owned(), standings.value(row.name, figure.key).into()))
        .collect();
    json!({
        "path": row.name,
        "figures": figures,
        "requests": row.requests(),
        "lost": {"records": row.losses.records, "lines": row.losses.lines},
        "each_round": row.each_round,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::http::Http;
    use crate::bench::losses::Losses;
    use crate::bench::standings::{self, Measured, REQUESTS};

    #[test]
    fn what_was_not_measured_is_a_dash_and_null_and_says_so() {
        let round = Measured::from([("c16_per_second", 1.0), (REQUESTS, 1.0)]);
        let mut standings = standings::of(Http::FIGURES, &[("run inbound, undisturbed", &[round.clone(), round])]);
        for row in &mut standings.rows {
            row.losses = Losses { lines: 3, ..Losses::default() };
        }
        let json = json::<Http>(&standings, Extent { rounds: 2, seconds: 1, requests: 1, mebibytes: 1 });
        assert_eq!(json["paths"][0]["figures"]["c16_per_second"], 1.0);
        assert_eq!(json["paths"][0]["figures"]["c1_per_second"], Value::Null);
        assert_eq!(json["paths"][0]["figures"]["throughput_to_nginx_c16"], Value::Null);
        assert_eq!(json["paths"][0]["each_round"][1]["c16_per_second"], 1.0);
        assert_eq!(json["bars"][0]["met"], Value::Null);
        let text = table::<Http>(&standings);
        assert!(text.contains("not measured"), "{text}");
        assert!(text.contains("lost of 2 exchanges, run inbound, undisturbed: 3 lines"), "{text}");
    }
}
