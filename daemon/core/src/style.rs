//! Colours of a terminal, or none. Whether there are any is the caller's decision (is it a terminal, is `NO_COLOR` set).

use crate::exchange::Outcome;
use crate::row::Row;

/// SGR parameters (ECMA-48 §8.3.117).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
    Magenta,
}

impl Colour {
    fn parameter(self) -> Option<&'static str> {
        Some(match self {
            Self::Plain => return None,
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Cyan => "36",
            Self::Magenta => "35",
        })
    }
}

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Ansi,
}

impl Style {
    /// The text in that colour.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        match colour.parameter().filter(|_| self == Self::Ansi && !text.is_empty()) {
            Some(parameter) => format!("\x1b[{parameter}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// A status is green when it is well, and the more alarming the worse it is.
pub fn of_status(row: &Row<'_>) -> Colour {
    if row.http.as_ref().and_then(|http| http.grpc).is_some_and(|grpc| grpc != 0) {
        return Colour::Red;
    }
    match row.http.as_ref().and_then(|http| http.status) {
        Some(100..300) => Colour::Green,
        Some(300..400) => Colour::Cyan,
        Some(400..500) => Colour::Yellow,
        Some(_) => Colour::Red,
        None if row.http.is_some() => Colour::Red,
        None => Colour::Dim,
    }
}

pub fn of_outcome(outcome: Outcome) -> Colour {
    match outcome {
        Outcome::Complete => Colour::Plain,
        Outcome::Passthrough => Colour::Dim,
        Outcome::Malformed => Colour::Magenta,
        Outcome::ClientAborted | Outcome::ServerAborted | Outcome::Refused | Outcome::Timeout => Colour::Red,
    }
}
