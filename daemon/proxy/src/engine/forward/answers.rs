//! Which exchanges of a client's HTTP/1 connection the proxy answered itself, and why: the tap sees bytes only, and could
//! not tell them from a server's answers. Requests are answered one after the other, and written down in that order.

use std::collections::VecDeque;
use std::sync::Arc;

use nodetap_core::exchange::{Connection, Exchange, Outcome};
use nodetap_core::head::Head;

/// Of one connection.
#[derive(Debug)]
pub(super) struct Answers {
    /// The client's, which leads to no server.
    client: Arc<Connection>,
    /// Requests whose head the proxy could read.
    begun: u64,
    /// Exchanges that are written.
    written: u64,
    /// Those that the proxy itself answered, by the number of the request.
    ours: VecDeque<(u64, Ours)>,
}

/// An answer of the proxy's own.
#[derive(Debug)]
pub(super) struct Ours {
    /// Before a server was asked for.
    pub(super) nowhere: bool,
    pub(super) outcome: Outcome,
    /// One sentence.
    pub(super) detail: String,
}

impl Answers {
    pub(super) fn new(client: &Arc<Connection>) -> Self {
        Self { client: Arc::clone(client), begun: 0, written: 0, ours: VecDeque::new() }
    }

    /// The proxy has read another head.
    pub(super) fn begun(&mut self) {
        self.begun += 1;
    }

    /// The proxy answers the last of them itself. To be told only while exchanges are written.
    pub(super) fn ours(&mut self, ours: Ours) {
        self.ours.push_back((self.begun.saturating_sub(1), ours));
    }

    /// Says in the next record what only the proxy knows. `hushed`: it is not to be written, as far as is known.
    pub(super) fn amend(&mut self, exchange: &mut Exchange, hushed: bool) {
        if exchange.stream.is_some() {
            // A server's WebSocket has become HTTP/2, which is its own affair.
            return;
        }
        let number = self.written;
        self.written += 1;
        while self.ours.front().is_some_and(|(of, _)| *of < number) {
            self.ours.pop_front();
        }
        match self.ours.pop_front_if(|(of, _)| *of == number) {
            Some((_, ours)) => self.answered(exchange, ours),
            None if number < self.begun => {}
            // It was meant for the server of the one before, for all that anybody knows.
            None if hushed => {}
            None => self.unread(exchange),
        }
    }

    /// What the tap found wrong by itself stays, for it is nearer to the bytes.
    fn answered(&self, exchange: &mut Exchange, Ours { nowhere, outcome, detail }: Ours) {
        if nowhere {
            self.goes_nowhere(exchange);
        }
        let both = match &exchange.detail {
            Some(seen) => format!("{seen} {detail}"),
            None => detail.clone(),
        };
        match (exchange.outcome, outcome) {
            (_, Outcome::Complete) => {}
            (Outcome::Complete, _) => (exchange.outcome, exchange.detail) = (outcome, Some(detail.into())),
            // A limit of the tap, or our own end.
            (Outcome::Passthrough, _) => (exchange.outcome, exchange.detail) = (outcome, Some(both.into())),
            (_, Outcome::Malformed) => {}
            _ => exchange.detail = Some(both.into()),
        }
    }

    /// A request whose head the proxy did not take: it was answered by hyper alone, or not at all.
    fn unread(&self, exchange: &mut Exchange) {
        self.goes_nowhere(exchange);
        let head = exchange.response.as_ref().map(|response| &response.head[..]);
        let Some((outcome, detail)) = reason(head.and_then(|head| Head::parse(head).start.status().code)) else {
            return;
        };
        // A limit of the tap says nothing about an answer, and the tap takes our end for a server's.
        let is_guess = match exchange.outcome {
            Outcome::Complete => true,
            Outcome::Passthrough => head.is_some(),
            Outcome::ServerAborted => head.is_none(),
            _ => false,
        };
        if is_guess {
            exchange.outcome = outcome;
            exchange.detail = Some(detail.into());
        }
    }

    fn goes_nowhere(&self, exchange: &mut Exchange) {
        exchange.connection = Arc::clone(&self.client);
        exchange.timing.connected = None;
    }
}

/// By the status that hyper answers; `None`: it was not answered.
fn reason(status: Option<u16>) -> Option<(Outcome, &'static str)> {
    Some(match status {
        None => {
            (Outcome::Refused, "The proxy ended the connection before it came to this request, which went nowhere.")
        }
        Some(400) => (Outcome::Malformed, "The head of the request cannot be forwarded: it is not strictly HTTP/1.1."),
        Some(408) => (Outcome::Timeout, "The head of the request did not come whole in time."),
        Some(414) => (Outcome::Refused, "The URL of the request is longer than this proxy takes (64 KiB)."),
        Some(431) => (
            Outcome::Refused,
            "The head of the request is longer than this proxy takes (64 KiB), or has more than 256 fields.",
        ),
        Some(_) => return None,
    })
}
