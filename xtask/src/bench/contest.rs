//! How a contest is held: its lanes take turns in every round, forwards in one and backwards in the next, so that what
//! else the machine does meets all of them. What is measured, and through what, each contest knows.

use anyhow::Result;

use super::Ground;
use super::bars::Bar;
use super::lane::Lane;
use super::standings::{Figure, Measured, Standing, Standings};

/// What stands between client and server in one row.
pub(super) trait Row: Copy + 'static {
    /// In the table's order.
    const ALL: &'static [Self];

    /// As it stands in the table.
    fn name(self) -> &'static str;

    /// Whether it is `nodetap run`.
    fn needs_root(self) -> bool {
        false
    }
}

/// nodetap beside its peers at one kind of traffic.
pub(super) trait Contest: Sized {
    type Row: Row;

    /// Above the table.
    const TITLE: &'static str;
    /// Under it: what its headings mean.
    const NOTES: &'static str;
    const FIGURES: &'static [Figure];

    /// Starts what all lanes need.
    fn prepare(ground: Ground) -> Result<Self>;

    /// Starts one lane.
    fn lane(&self, row: Self::Row, ground: Ground) -> Result<Lane>;

    /// Measures one turn.
    fn turn(&self, row: Self::Row, lane: &mut Lane, turn: Turn) -> Result<Measured>;

    fn bars(standings: &Standings) -> Vec<Bar>;

    /// Whether every row was what its name says; asked last, for the other rows are right all the same.
    fn check(_standings: &Standings) -> Result<()> {
        Ok(())
    }
}

/// Which turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn<'a> {
    pub(super) ground: Ground<'a>,
    pub(super) is_last: bool,
}

/// The names of a contest's rows, and whether they need root.
pub(super) fn rows<C: Contest>() -> Vec<(&'static str, bool)> {
    C::Row::ALL.iter().map(|row| (row.name(), row.needs_root())).collect()
}

/// Holds a contest between the wanted rows.
pub(super) fn hold<C: Contest>(wanted: &dyn Fn(&str) -> bool, ground: Ground) -> Result<Standings> {
    let contest = C::prepare(ground)?;
    let mut entrants = Vec::new();
    for &row in C::Row::ALL.iter().filter(|row| wanted(row.name())) {
        entrants.push((row, contest.lane(row, ground)?, Vec::new()));
    }
    for round in 1..=ground.extent.rounds {
        let turn = Turn { ground, is_last: round == ground.extent.rounds };
        for (row, lane, each_round) in &mut entrants {
            eprintln!("round {round} of {}: {}", ground.extent.rounds, row.name());
            each_round.push(contest.turn(*row, lane, turn)?);
        }
        entrants.reverse();
    }
    if !ground.extent.rounds.is_multiple_of(2) {
        entrants.reverse();
    }
    let mut rows = Vec::new();
    for (row, mut lane, each_round) in entrants {
        rows.push(Standing { name: row.name(), each_round, losses: lane.end()? });
    }
    Ok(Standings { figures: C::FIGURES, rows })
}
