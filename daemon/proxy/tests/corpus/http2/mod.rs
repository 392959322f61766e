//! Odd and plain HTTP/2 conversations as data: what each side sends, and what the tap records of it. It depends on
//! nothing: include it with `#[path = "…/daemon/proxy/tests/corpus/http2/mod.rs"] mod http2;` and take [`cases`].
//!
//! Steps happen one after the other: the server's step comes when all bytes of the steps before it were delivered. A
//! step may be cut into any pieces. A case without an end among its steps ends with the client's FIN, then the
//! server's. Unless a case says otherwise, both sides have said their preface and empty SETTINGS before its steps.

#![allow(dead_code, reason = "each test that includes this uses the part of it that it needs")]

mod compression;
mod connection;
mod ends;
mod fields;
mod framing;
mod messages;
mod upgrade;
mod wire;

pub(crate) use wire::*;

/// One thing that one side does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The client sends.
    C(Vec<u8>),
    /// The server sends.
    S(Vec<u8>),
    ClientFin,
    ServerFin,
    ClientReset,
    ServerReset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Complete,
    ClientAborted,
    ServerAborted,
    Malformed,
    Passthrough,
}

/// An exchange that must be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) stream: u32,
    pub(crate) outcome: Outcome,
    /// 0: no final response, or one whose status is not known.
    pub(crate) status: u16,
    /// Sizes of the bodies.
    pub(crate) request: u64,
    pub(crate) response: u64,
    /// Must be part of its detail.
    pub(crate) detail: &'static str,
}

/// The connection record that must stand beside the exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) protocol: &'static str,
    pub(crate) outcome: Outcome,
    /// Must be part of its detail.
    pub(crate) detail: &'static str,
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    /// In the order in which they are written.
    pub(crate) exchanges: Vec<Exchange>,
    /// `None`: the exchanges account for the connection.
    pub(crate) summary: Option<Summary>,
}

impl Case {
    /// Bytes that the client sends, that the server sends.
    pub(crate) fn totals(&self) -> (u64, u64) {
        self.steps.iter().fold((0, 0), |(client, server), step| match step {
            Step::C(bytes) => (client + bytes.len() as u64, server),
            Step::S(bytes) => (client, server + bytes.len() as u64),
            _ => (client, server),
        })
    }
}

/// Every case; names are unique.
pub(crate) fn cases() -> Vec<Case> {
    [
        messages::cases(),
        fields::cases(),
        framing::cases(),
        compression::cases(),
        connection::cases(),
        ends::cases(),
        upgrade::cases(),
    ]
    .concat()
}

/// A case whose steps are all there is.
fn raw(name: &str, steps: Vec<Step>, exchanges: &[Exchange], summary: Option<Summary>) -> Case {
    let mut steps = steps;
    if steps.iter().all(|step| matches!(step, Step::C(_) | Step::S(_))) {
        steps.extend([Step::ClientFin, Step::ServerFin]);
    }
    Case { name: name.to_owned(), steps, exchanges: exchanges.to_vec(), summary }
}

/// A case behind the beginning of a connection.
fn case(name: &str, steps: Vec<Step>, exchanges: &[Exchange], summary: Option<Summary>) -> Case {
    let beginning = [Step::C([PREFACE, &settings(&[])].concat()), Step::S(settings(&[]))];
    raw(name, beginning.into_iter().chain(steps).collect(), exchanges, summary)
}

fn exchange(outcome: Outcome, stream: u32, status: u16, request: u64, response: u64, detail: &'static str) -> Exchange {
    Exchange { stream, outcome, status, request, response, detail }
}

/// A complete exchange: stream, status, size of the request's body, of the response's.
fn ok(stream: u32, status: u16, request: u64, response: u64) -> Exchange {
    exchange(Outcome::Complete, stream, status, request, response, "")
}

/// As [`ok`], with a sentence.
fn said(stream: u32, status: u16, request: u64, response: u64, detail: &'static str) -> Exchange {
    exchange(Outcome::Complete, stream, status, request, response, detail)
}

fn malformed(stream: u32, status: u16, request: u64, response: u64, detail: &'static str) -> Exchange {
    exchange(Outcome::Malformed, stream, status, request, response, detail)
}

fn client_aborted(stream: u32, status: u16, request: u64, response: u64, detail: &'static str) -> Exchange {
    exchange(Outcome::ClientAborted, stream, status, request, response, detail)
}

fn server_aborted(stream: u32, status: u16, request: u64, response: u64, detail: &'static str) -> Exchange {
    exchange(Outcome::ServerAborted, stream, status, request, response, detail)
}

fn passed(stream: u32, status: u16, request: u64, response: u64, detail: &'static str) -> Exchange {
    exchange(Outcome::Passthrough, stream, status, request, response, detail)
}

/// The exchanges account for the whole connection.
const WHOLE: Option<Summary> = None;

/// Something was wrong with the connection, whether or not the tap went blind over it.
fn wrong(detail: &'static str) -> Option<Summary> {
    Some(Summary { protocol: "h2", outcome: Outcome::Malformed, detail })
}

/// It was not looked into (any more), and that is nobody's fault.
fn opaque(protocol: &'static str, detail: &'static str) -> Option<Summary> {
    Some(Summary { protocol, outcome: Outcome::Passthrough, detail })
}

/// There was no exchange, and nothing wrong.
fn idle() -> Option<Summary> {
    Some(Summary { protocol: "h2", outcome: Outcome::Complete, detail: "No request was made." })
}
