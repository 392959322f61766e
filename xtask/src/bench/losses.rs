//! What nodetap says at its end of what it has not recorded or not shown. A figure without it would be half a figure.

use std::collections::BTreeMap;

/// What was lost over all rounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Records, by reason.
    pub(super) records: BTreeMap<String, u64>,
    /// Lines for the terminal or the `--json` file; their records are kept.
    pub(super) lines: u64,
}

impl Losses {
    /// Reads what nodetap printed to standard error; lines of another form are skipped.
    pub(super) fn said(text: &str) -> Self {
        let mut losses = Self::default();
        for said in text.lines().filter_map(|line| line.strip_prefix("nodetap: ")) {
            if let Some((count, reason)) = record_loss(said) {
                *losses.records.entry(reason.to_owned()).or_default() += count;
            } else if let Some(count) = said.split_once(" lines were lost").and_then(|(count, _)| count.parse().ok()) {
                losses.lines = count;
            }
        }
        losses
    }

    pub(super) fn any(&self) -> bool {
        self.lines > 0 || !self.records.is_empty()
    }
}

/// `lost N records (B bytes): REASON; …`
fn record_loss(said: &str) -> Option<(u64, &str)> {
    let (count, rest) = said.strip_prefix("lost ")?.split_once(" records (")?;
    let (reason, _) = rest.split_once("): ")?.1.split_once(';')?;
    Some((count.parse().ok()?, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_by_reason_and_lines_apart() {
        let text = "12:00 GET / 200\nnodetap: lost 7 records (900 bytes): disk_full; `nodetap ls --losses` says when\n\
            nodetap: lost 2 records (90 bytes): queue_full; `nodetap ls --losses` says when\n\
            nodetap: 41 lines were lost: stderr or the --json file did not take them in time\n";
        let losses = Losses::said(text);
        assert_eq!(losses.records, BTreeMap::from([("disk_full".to_owned(), 7), ("queue_full".to_owned(), 2)]));
        assert_eq!(losses.lines, 41);
        assert!(!Losses::said("nodetap: 3 exchanges recorded\n").any());
    }
}
