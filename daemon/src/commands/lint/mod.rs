//! `nodetap lint`: what the pods of a manifest would get, without a cluster. It decides with the same code as the agent;
//! here is only what reads files and speaks.

mod check;
mod manifest;
mod show;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::output::{Failure, report};

/// Bytes of one file.
const LARGEST: u64 = 16 << 20;
/// Exit code when something is wrong in what was read.
const WRONG: u8 = 1;

/// Say what the pods of a manifest would get
#[derive(Debug, Clone, Args)]
pub struct Lint {
    /// Manifest to read, - for stdin; may be repeated, and all are looked at together
    #[arg(short, long = "filename", value_name = "FILE", required_unless_present = "keys")]
    filename: Vec<PathBuf>,
    /// Namespace of objects that name none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// How to write it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// List all annotations instead: what they accept and mean
    #[arg(long, conflicts_with = "filename")]
    keys: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    #[default]
    Table,
    /// One JSON object a line: each pod, and each document that cannot be read
    Json,
}

impl Lint {
    pub fn run(&self) -> ExitCode {
        let mut out = BufWriter::new(std::io::stdout().lock());
        match self.write(&mut out, &mut std::io::stderr()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(WRONG),
            Err(failure) => report(Err(failure)),
        }
    }

    /// `false`: something is wrong in what was read.
    fn write(&self, out: &mut dyn Write, aside: &mut dyn Write) -> Result<bool, Failure> {
        if self.keys {
            show::keys(self.output == Format::Json, out)?;
            return Ok(out.flush().map(|()| true)?);
        }
        let mut files = Vec::new();
        for path in &self.filename {
            files.push((name(path), read(path)?));
        }
        let documents = files.iter().flat_map(|(file, text)| manifest::documents(file, text));
        let findings = check::check(documents, &self.namespace);
        match self.output {
            Format::Table => show::table(&findings, out, aside)?,
            Format::Json => show::json(&findings, out)?,
        }
        out.flush()?;
        Ok(findings.iter().all(|finding| finding.errors.is_empty()))
    }
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() }
}

fn read(path: &Path) -> Result<String, Failure> {
    let wrong = |error: std::io::Error| Failure::bad_input(format!("cannot read {}: {error}", name(path)));
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(LARGEST + 1).read_to_string(&mut text)
    } else {
        File::open(path).map_err(wrong)?.take(LARGEST + 1).read_to_string(&mut text)
    };
    match read.map_err(wrong)? as u64 {
        size if size > LARGEST => Err(Failure::bad_input(format!("{} is larger than 16 MiB", name(path)))),
        _ => Ok(text),
    }
}
