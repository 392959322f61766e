//! What a contest has measured: the figures of its rows over all rounds, and what compares them. Where they come from is
//! not known here.

use std::collections::BTreeMap;

use super::losses::Losses;

/// What one turn of one row gives, by the keys of the contest's figures.
pub(super) type Measured = BTreeMap<&'static str, f64>;

/// The key under which a turn tells how many requests were answered, warm-up included.
pub(super) const REQUESTS: &str = "requests";

/// A figure of a contest: a column of its table and a key of its JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    pub(super) key: &'static str,
    pub(super) heading: &'static str,
    /// Digits after the point, in the table.
    pub(super) digits: usize,
    pub(super) over: Over,
}

/// How the figures of all rounds become one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Over {
    Median,
    Sum,
    /// That of the last round.
    Last,
    /// Not measured: made of what all rows have, for the row of that name.
    Compared(fn(&Standings, &str) -> Option<f64>),
}

impl Figure {
    pub(super) const fn median(key: &'static str, heading: &'static str, digits: usize) -> Self {
        Self { key, heading, digits, over: Over::Median }
    }

    pub(super) const fn sum(key: &'static str, heading: &'static str) -> Self {
        Self { key, heading, digits: 0, over: Over::Sum }
    }

    pub(super) const fn last(key: &'static str, heading: &'static str, digits: usize) -> Self {
        Self { key, heading, digits, over: Over::Last }
    }

    pub(super) const fn compared(
        key: &'static str,
        heading: &'static str,
        how: fn(&Standings, &str) -> Option<f64>,
    ) -> Self {
        Self { key, heading, digits: 2, over: Over::Compared(how) }
    }
}

/// One row.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) name: &'static str,
    pub(super) each_round: Vec<Measured>,
    pub(super) losses: Losses,
}

impl Standing {
    /// The requests of all rounds.
    pub(super) fn requests(&self) -> f64 {
        self.all(REQUESTS).iter().sum()
    }

    fn all(&self, key: &str) -> Vec<f64> {
        self.each_round.iter().filter_map(|measured| measured.get(key).copied()).collect()
    }
}

/// All rows of a contest, in the table's order.
#[derive(Debug)]
pub(super) struct Standings {
    pub(super) figures: &'static [Figure],
    pub(super) rows: Vec<Standing>,
}

impl Standings {
    /// A figure of the row of that name; `None` when it was not measured.
    pub(super) fn value(&self, name: &str, key: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.key == key)?;
        let all = self.rows.iter().find(|row| row.name == name)?.all(key);
        match figure.over {
            Over::Median => median(all),
            Over::Sum => (!all.is_empty()).then(|| all.iter().sum()),
            Over::Last => all.last().copied(),
            Over::Compared(how) => how(self, name),
        }
    }

    /// A row's figure to that of another row; `None` also when that is 0, for it is no measure.
    pub(super) fn ratio(&self, key: &str, name: &str, to: &str) -> Option<f64> {
        let (value, to) = (self.value(name, key)?, self.value(to, key)?);
        (to > 0.0).then(|| value / to)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let lower = if values.len().is_multiple_of(2) { *values.get(middle.checked_sub(1)?)? } else { upper };
    Some(f64::midpoint(lower, upper))
}

/// The standings of a made-up contest, for tests: rows with their rounds.
#[cfg(test)]
pub(super) fn of(figures: &'static [Figure], rows: &[(&'static str, &[Measured])]) -> Standings {
    let rows = rows
        .iter()
        .map(|(name, each_round)| Standing { name, each_round: each_round.to_vec(), losses: Losses::default() })
        .collect();
    Standings { figures, rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_its_two_middles() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn rounds_become_one_figure_as_it_asks_and_what_is_absent_stays_absent() {
        const FIGURES: &[Figure] = &[
            Figure::median("speed", "", 0),
            Figure::sum("failed", ""),
            Figure::last("memory", "", 0),
            Figure::compared("double", "", |standings, name| Some(standings.value(name, "speed")? * 2.0)),
        ];
        let round = |value| Measured::from([("speed", value), ("failed", value), ("memory", value)]);
        let standings = of(FIGURES, &[("one", &[round(5.0), round(1.0), round(2.0)]), ("none", &[])]);
        let of_one = ["speed", "failed", "memory", "double"].map(|key| standings.value("one", key));
        assert_eq!(of_one, [Some(2.0), Some(8.0), Some(2.0), Some(4.0)]);
        let of_none = ["speed", "failed", "memory", "double"].map(|key| standings.value("none", key));
        assert_eq!(of_none, [None; 4]);
        assert_eq!(standings.ratio("speed", "one", "one"), Some(1.0));
        assert_eq!(standings.ratio("speed", "one", "none"), None);
        assert_eq!(of(FIGURES, &[("one", &[round(0.0)])]).ratio("speed", "one", "one"), None);
    }
}
