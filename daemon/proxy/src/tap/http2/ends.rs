//! Who ended an exchange before it was whole: an order of events in, an outcome and a sentence out. It refuses to know
//! bytes.
//!
//! The first of these that holds decides:
//!
//! | event | the exchange | outcome |
//! |---|---|---|
//! | any | response whole, request not | `complete`, with a sentence: a server may answer early |
//! | RST_STREAM of a side | any | that side's |
//! | GOAWAY of a side, and the stream is beyond those it will look at | any | that side's, and it was refused |
//! | the first end of the connection: GOAWAY with an error, FIN or RST of a side | any | that side's |
//! | we ended it | any | `passthrough`: neither of them did |

use std::borrow::Cow;

use nodetap_core::exchange::Outcome;

pub(super) use super::super::messages::Fault;
use super::super::{End, Side};
use super::flaw::error_name;

const REFUSED_STREAM: u32 = 7;

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// The request is not whole.
    Asking,
    /// It is, and no final response has begun.
    Waiting,
    Answering,
    /// The response is whole, and the request is not.
    Answered,
}

/// What makes it certain that no more is exchanged on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decisive {
    Fin(Side),
    Reset(Side),
    GoAway(Side, u32),
    Us,
}

/// The first end that came.
#[derive(Debug, Default)]
pub(super) struct Ends(Option<Decisive>);

impl Ends {
    pub(super) fn note(&mut self, from: Side, end: End) {
        self.0.get_or_insert(match end {
            End::Fin => Decisive::Fin(from),
            End::Reset => Decisive::Reset(from),
            End::Cut => Decisive::Us,
        });
    }

    pub(super) fn note_go_away(&mut self, from: Side, code: u32) {
        if code != 0 {
            self.0.get_or_insert(Decisive::GoAway(from, code));
        }
    }

    /// Why an exchange ends as it is, when the connection is over.
    pub(super) fn blame(&self, stand: Stand) -> Fault {
        let (by, did) = match self.0 {
            _ if stand == Stand::Answered => return answered_early(None),
            Some(Decisive::Fin(by)) => (by, Cow::Borrowed("closed the connection")),
            Some(Decisive::Reset(by)) => (by, Cow::Borrowed("reset the connection")),
            Some(Decisive::GoAway(by, code)) => {
                (by, Cow::Owned(format!("gave up the connection ({})", error_name(code))))
            }
            Some(Decisive::Us) | None => {
                let detail = "The connection was ended by nodetap while the exchange was going on.";
                return Fault { outcome: Outcome::Passthrough, detail: Cow::Borrowed(detail) };
            }
        };
        aborted(by, &did, stand)
    }
}

/// A side reset the stream.
pub(super) fn reset(by: Side, code: u32, stand: Stand) -> Fault {
    match (by, code, stand) {
        (_, _, Stand::Answered) => answered_early((code != 0).then_some(code)),
        (Side::Server, REFUSED_STREAM, _) => Fault {
            outcome: Outcome::ServerAborted,
            detail: Cow::Borrowed("The server refused the request (REFUSED_STREAM): it was not processed."),
        },
        _ => aborted(by, &format!("reset the stream ({})", error_name(code)), stand),
    }
}

/// A side will not look at the stream, said its GOAWAY.
pub(super) fn refused(by: Side) -> Fault {
    let (outcome, detail) = match by {
        Side::Client => (Outcome::ClientAborted, "The client left (GOAWAY) before it looked at this stream."),
        Side::Server => (
            Outcome::ServerAborted,
            "The server refused the request (GOAWAY): it came after the last one it processed.",
        ),
    };
    Fault { outcome, detail: Cow::Borrowed(detail) }
}

fn aborted(by: Side, did: &str, stand: Stand) -> Fault {
    let (outcome, who) = match by {
        Side::Client => (Outcome::ClientAborted, "client"),
        Side::Server => (Outcome::ServerAborted, "server"),
    };
    let when = match (by, stand) {
        (Side::Client, Stand::Asking) => "before its request was whole",
        (Side::Client, _) => "before the response was whole",
        (Side::Server, Stand::Asking | Stand::Waiting) => "without a response",
        (Side::Server, _) => "before its response was whole",
    };
    Fault { outcome, detail: Cow::Owned(format!("The {who} {did} {when}.")) }
}

fn answered_early(reset: Option<u32>) -> Fault {
    let detail = match reset {
        None => "The response was whole before the request was; the rest of the request never came.".into(),
        Some(code) => {
            format!("The response was whole before the request was; then the stream was reset ({}).", error_name(code))
                .into()
        }
    };
    Fault { outcome: Outcome::Complete, detail }
}
