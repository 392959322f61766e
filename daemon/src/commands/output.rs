//! How commands speak: errors in one line with their exit code, tables that fit the terminal, and silence when the
//! reader of our output has gone.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use jiff::tz::TimeZone;
use nodetap_core::style::Style;
use nodetap_core::table::Layout;

use crate::store::{folder, read};

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// One line that says what to do, and the exit code: 1, or 2 for input that is not what it should be.
    Said(String, u8),
    /// Nobody reads on: that is no failure (`| head`).
    NobodyReads,
}

impl Failure {
    pub fn new(text: impl fmt::Display) -> Self {
        Self::Said(text.to_string(), 1)
    }

    pub fn bad_input(text: impl fmt::Display) -> Self {
        Self::Said(text.to_string(), 2)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(text, _) => f.write_str(text),
            Self::NobodyReads => f.write_str("nobody reads what is written"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::new(format!("writing failed: {error}")),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

impl From<folder::Error> for Failure {
    fn from(error: folder::Error) -> Self {
        Self::new(error)
    }
}

impl From<read::Error> for Failure {
    fn from(error: read::Error) -> Self {
        match error {
            read::Error::NotASegment(..) => Self::bad_input(error),
            read::Error::Unreadable(..) => Self::new(error),
        }
    }
}

/// Says what went wrong, on stderr, and gives the exit code.
pub fn report(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) | Err(Failure::NobodyReads) => ExitCode::SUCCESS,
        Err(Failure::Said(text, code)) => {
            warn(&text);
            ExitCode::from(code)
        }
    }
}

/// A line on stderr; that nobody reads it is no reason to fail.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "nodetap: {}", nodetap_core::text::one_line(text));
}

/// Colours are for terminals, and for those who have not said no (<https://no-color.org>).
pub(crate) fn style(terminal: bool) -> Style {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if terminal && !no_colour { Style::Ansi } else { Style::Plain }
}

/// A table for stdout, as wide as the terminal if it is one; `pods`: with a column for them.
pub(crate) fn layout(wide: bool, id_width: usize, pods: bool) -> Layout {
    let terminal = io::stdout().is_terminal();
    let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    Layout {
        width: width.filter(|_| terminal && !wide),
        style: style(terminal),
        zone: TimeZone::system(),
        wide,
        id_width,
        pods,
    }
}
