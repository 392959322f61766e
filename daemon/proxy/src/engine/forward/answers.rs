//! Which exchanges of a client's HTTP/1 connection the proxy answered itself, and why: the tap sees bytes only, and could
//! not tell them from a server's answers. Requests are answered one after the other, and written down in that order.

use std::collections::VecDeque;

use nodetap_core::exchange::{Exchange, Outcome};
use nodetap_core::head::Head;

/// Of one connection.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Requests whose head the proxy could read.
    begun: u64,
    /// Exchanges that are written.
    written: u64,
    /// Why the proxy itself answered, by the number of the request.
    ours: VecDeque<(u64, Outcome, String)>,
}

impl Answers {
    /// The proxy has read another head.
    pub(super) fn begun(&mut self) {
        self.begun += 1;
    }

    /// The proxy answers the last of them itself.
    pub(super) fn ours(&mut self, outcome: Outcome, detail: String) {
        self.ours.push_back((self.begun.saturating_sub(1), outcome, detail));
    }

    /// Says in the next record what only the proxy knows. What the tap found wrong by itself stays: it is nearer to the
    /// bytes; but a limit of the tap says nothing about an answer.
    pub(super) fn amend(&mut self, exchange: &mut Exchange) {
        let number = self.written;
        self.written += 1;
        let ours = self.ours.pop_front_if(|(of, ..)| *of <= number).filter(|(of, ..)| *of == number);
        let reason = match ours {
            Some((_, outcome, detail)) => Some((outcome, detail.into())),
            None if number < self.begun => None,
            None => unread(exchange).map(|(outcome, detail)| (outcome, detail.into())),
        };
        let Some((outcome, detail)) = reason else { return };
        let by_limit = exchange.outcome == Outcome::Passthrough && exchange.response.is_some();
        let unheard = exchange.outcome == Outcome::ServerAborted;
        if exchange.outcome == Outcome::Complete || by_limit || unheard {
            exchange.outcome = outcome;
            exchange.detail = Some(detail);
        }
    }
}

/// A request whose head the proxy did not take.
fn unread(exchange: &Exchange) -> Option<(Outcome, &'static str)> {
    let Some(response) = &exchange.response else {
        return Some((
            Outcome::Refused,
            "The proxy had ended the connection with the answer before; this went nowhere.",
        ));
    };
    match Head::parse(&response.head).start.status().code? {
        400 => Some((Outcome::Malformed, "The head of the request cannot be forwarded: it is not strictly HTTP/1.1.")),
        408 => Some((Outcome::Timeout, "The head of the request did not come whole in time.")),
        414 => Some((Outcome::Refused, "The URL of the request is longer than this proxy takes (64 KiB).")),
        431 => Some((
            Outcome::Refused,
            "The head of the request is longer than this proxy takes (64 KiB), or has more than 256 fields.",
        )),
        _ => None,
    }
}
