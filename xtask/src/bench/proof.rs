//! Whether what passed a lane was understood: a recorder that looks away is fast. One request more after the load has to
//! be found among the records, as an exchange.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::Ground;
use super::lane::Lane;
use super::standings::{Standing, Standings};
use crate::{process, started};

/// What a lane's proof stands under in [`super::standings::Measured`]: 1 when it was found, else 0.
pub(super) const RECORDED: &str = "recorded";
/// The path of the request that is looked for; the site has such a file.
const PATH: &str = "/proof";

/// Sends the request through `lane`, and says by 1 or 0 whether it is found in `records`, once they are written. `curl`
/// are curl's options for this lane; `site` begins the URL.
pub(super) fn seek(ground: Ground, lane: &mut Lane, records: &Path, curl: &[&str], site: &str) -> Result<f64> {
    let mut arguments = vec!["-sSf", "-o", "/dev/null"];
    arguments.extend(curl);
    let url = format!("{site}{PATH}");
    arguments.push(&url);
    lane.client("curl", &arguments.into_iter().map(str::to_owned).collect::<Vec<_>>())?;
    let mut list = Command::new(ground.programs.nodetap()?);
    list.args(["ls", "-o", "json", "--path", PATH, "--from"]).arg(records);
    let mut said = Ok(String::new());
    let found = started::until("a record", || {
        said = process::output(&mut list);
        said.as_ref().is_ok_and(|lines| holds_exchange(lines))
    });
    said?;
    Ok(if found.is_ok() { 1.0 } else { 0.0 })
}

fn holds_exchange(lines: &str) -> bool {
    let records = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    records.into_iter().any(|record| record["kind"] == "exchange" && record["response"]["status"] == 200)
}

/// Fails when a row's proof was looked for in vain.
pub(super) fn check(standings: &Standings) -> Result<()> {
    let in_vain = |row: &&Standing| row.each_round.iter().any(|round| round.get(RECORDED) == Some(&0.0));
    let names: Vec<&str> = standings.rows.iter().filter(in_vain).map(|row| row.name).collect();
    ensure!(
        names.is_empty(),
        "what passed was not recorded as exchanges, so the figures mean nothing: {}",
        names.join(" · ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_with_its_answer_is_a_proof_and_a_connection_is_none() {
        assert!(holds_exchange("{\"kind\":\"connection\"}\n{\"kind\":\"exchange\",\"response\":{\"status\":200}}\n"));
        assert!(!holds_exchange("{\"kind\":\"connection\"}\n{\"kind\":\"exchange\"}\n"));
        assert!(!holds_exchange(""));
    }
}
