//! Records read back the way a user reads them: through `nodetap ls`. Every record that a test sees has passed the
//! shipped schema.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jsonschema::Validator;
use serde_json::Value;

use crate::wait::{DEADLINE, eventually};
use crate::{nodetap, process};

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../daemon/core/record.schema.json");

/// All records of a folder of segments, oldest first, messages among them.
///
/// # Errors
/// When `nodetap ls` fails, or a record does not pass the schema.
pub fn records(folder: &Path) -> Result<Vec<Value>> {
    list(folder, &["--messages"])
}

/// The losses of a folder of segments.
///
/// # Errors
/// As [`records`].
pub fn losses(folder: &Path) -> Result<Vec<Value>> {
    list(folder, &["--losses"])
}

/// The records of kind `exchange`.
///
/// # Errors
/// As [`records`].
pub fn exchanges(folder: &Path) -> Result<Vec<Value>> {
    Ok(of_kind(records(folder)?, "exchange"))
}

/// Waits until the folder has `count` records of `kind`, and returns them: a record is written after its traffic.
///
/// # Errors
/// When there are fewer after the deadline.
pub fn eventually_of_kind(folder: &Path, kind: &str, count: usize) -> Result<Vec<Value>> {
    let mut last = String::new();
    let found = eventually(DEADLINE, "records", || match records(folder) {
        Ok(records) => {
            last = format!("{records:?}");
            Some(of_kind(records, kind)).filter(|found| found.len() >= count)
        }
        Err(error) => {
            last = format!("{error:#}");
            // `ls` is a whole process each time: not so often.
            std::thread::sleep(Duration::from_millis(50));
            None
        }
    });
    found.with_context(|| format!("{count} of kind {kind}; at last: {last}"))
}

fn of_kind(records: Vec<Value>, kind: &str) -> Vec<Value> {
    records.into_iter().filter(|record| record["kind"] == kind).collect()
}

fn list(folder: &Path, more: &[&str]) -> Result<Vec<Value>> {
    let mut command = nodetap::command(&["ls", "-o", "json", "--from"]);
    let finished = process::Process::start(command.arg(folder).args(more))?.finish()?;
    if finished.code() != 0 {
        bail!("nodetap ls ended with {}: {}", finished.code(), finished.err);
    }
    finished.text().lines().map(parse).collect()
}

/// Reads one JSON line and holds it against the schema.
///
/// # Errors
/// When it is not JSON or not a record.
pub fn parse(line: &str) -> Result<Value> {
    let record: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
    let wrong: Vec<String> =
        schema()?.iter_errors(&record).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    if !wrong.is_empty() {
        bail!("not a record by the schema: {}: {line}", wrong.join("; "));
    }
    Ok(record)
}

fn schema() -> Result<&'static Validator> {
    static VALIDATOR: OnceLock<Result<Validator, String>> = OnceLock::new();
    let read = || {
        let text = std::fs::read_to_string(SCHEMA).map_err(|error| format!("{SCHEMA}: {error}"))?;
        let schema: Value = serde_json::from_str(&text).map_err(|error| format!("{SCHEMA}: {error}"))?;
        jsonschema::validator_for(&schema).map_err(|error| format!("{SCHEMA}: {error}"))
    };
    VALIDATOR.get_or_init(read).as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}
