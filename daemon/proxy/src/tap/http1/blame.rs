//! Who ended a conversation too early: an order of events in, an outcome and a sentence out. It refuses to know bytes.
//!
//! The first of these that holds decides, for every exchange that is not whole:
//!
//! | first | the exchange | outcome |
//! |---|---|---|
//! | any | response whole, request not | `complete`, with a sentence: a server may answer early |
//! | client's FIN | request not whole | `client_aborted`, at once; a response that comes all the same is recorded |
//! | client's RST | any | `client_aborted` |
//! | server's FIN or RST | response begun | `server_aborted` |
//! | server's FIN or RST | response not begun, client's FIN came before | `client_aborted`: it is what servers do when a client leaves |
//! | server's FIN or RST | response not begun | `server_aborted` |
//! | we ended it | any | `passthrough`: neither of them did |

use std::borrow::Cow;

use nodetap_core::exchange::Outcome;

use super::super::messages::Fault;
use super::super::{End, Side};
use super::open::{Open, Progress};

const ANSWERED_EARLY: (Outcome, &str) =
    (Outcome::Complete, "The response was whole before the request was; the rest of the request never came.");

/// What makes it certain that no more is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decisive {
    ClientReset,
    ServerFin,
    ServerReset,
    Us,
}

/// The ends of the two directions, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// The client's FIN came, and before anything decisive.
    client_fin: bool,
    decisive: Option<Decisive>,
}

impl Ends {
    pub(super) fn note(&mut self, from: Side, end: End) {
        let decisive = match (from, end) {
            (_, End::Cut) => Decisive::Us,
            (Side::Client, End::Reset) => Decisive::ClientReset,
            (Side::Server, End::Reset) => Decisive::ServerReset,
            (Side::Server, End::Fin) => Decisive::ServerFin,
            (Side::Client, End::Fin) => {
                self.client_fin |= self.decisive.is_none();
                return;
            }
        };
        self.decisive.get_or_insert(decisive);
    }

    pub(super) fn client_fin(&self) -> bool {
        self.client_fin
    }

    /// The client's FIN came within its request, at the time of the FIN: what is said of the exchange.
    pub(super) fn cut_request(&self, open: &Open) -> Option<Fault> {
        let (outcome, detail) = match open.response {
            _ if self.decisive.is_some() => return None,
            Progress::Done => ANSWERED_EARLY,
            _ => (Outcome::ClientAborted, "The client closed before its request was whole."),
        };
        Some(Fault { outcome, detail: Cow::Borrowed(detail) })
    }

    /// Why this exchange ends as it is, when the connection is over.
    pub(super) fn blame(&self, open: &Open) -> Fault {
        if let Some(fault) = &open.fault {
            return fault.clone();
        }
        let begun = open.response > Progress::NotBegun;
        let (outcome, detail) = match self.decisive {
            _ if open.response == Progress::Done => ANSWERED_EARLY,
            Some(Decisive::ClientReset) if open.request_over => {
                (Outcome::ClientAborted, "The client reset the connection before the response was whole.")
            }
            Some(Decisive::ClientReset) => {
                (Outcome::ClientAborted, "The client reset the connection before its request was whole.")
            }
            Some(Decisive::ServerFin | Decisive::ServerReset) if !begun && self.client_fin => {
                (Outcome::ClientAborted, "The client closed while it was owed a response, and the server sent none.")
            }
            Some(Decisive::ServerFin) if begun => {
                (Outcome::ServerAborted, "The server closed before its response was whole.")
            }
            Some(Decisive::ServerFin) => (Outcome::ServerAborted, "The server closed without a response."),
            Some(Decisive::ServerReset) if begun => {
                (Outcome::ServerAborted, "The server reset the connection before its response was whole.")
            }
            Some(Decisive::ServerReset) => {
                (Outcome::ServerAborted, "The server reset the connection without a response.")
            }
            Some(Decisive::Us) | None => {
                (Outcome::Passthrough, "The connection was ended by nodetap while the exchange was going on.")
            }
        };
        Fault { outcome, detail: Cow::Borrowed(detail) }
    }
}
