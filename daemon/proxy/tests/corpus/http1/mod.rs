//! Odd and plain HTTP/1 conversations as data: what each side sends, and what the tap records of it. It is used by the
//! tap's own tests and by every test that sends the same bytes through a real tunnel, so it depends on nothing:
//! include it with `#[path = "…/daemon/proxy/tests/corpus/http1/mod.rs"] mod http1;` and iterate over [`cases`].
//!
//! Steps happen one after the other: the server's step comes when all bytes of the steps before it were delivered. A
//! step may be cut into any pieces. A case without an end among its steps ends with the client's FIN, then the
//! server's.

#![allow(dead_code, reason = "each test that includes this uses the part of it that it needs")]

/// A GET with these field lines.
macro_rules! get {
    ($fields:literal) => {
        C(concat!("GET / HTTP/1.1\r\n", $fields, "\r\n").as_bytes())
    };
}

/// A POST with these field lines, and bytes behind its head.
macro_rules! post {
    ($fields:literal, $body:literal) => {
        C(concat!("POST / HTTP/1.1\r\nHost: x\r\n", $fields, "\r\n", $body).as_bytes())
    };
}

/// A 200 with these field lines, and bytes behind its head.
macro_rules! answer {
    ($fields:literal, $body:literal) => {
        S(concat!("HTTP/1.1 200 OK\r\n", $fields, "\r\n", $body).as_bytes())
    };
}

/// A chunked POST: bytes behind its head.
macro_rules! chunks {
    ($body:literal) => {
        C(concat!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", $body).as_bytes())
    };
}

/// A chunked 200: bytes behind its head.
macro_rules! chunked_answer {
    ($body:literal) => {
        S(concat!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", $body).as_bytes())
    };
}

mod chunked;
mod conversations;
mod ends;
mod heads;
mod lengths;
mod responses;

/// One thing that one side does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The client sends.
    C(&'static [u8]),
    /// The server sends.
    S(&'static [u8]),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) outcome: Outcome,
    /// 0: no final response, or one whose status is not known.
    pub(crate) status: u16,
    /// Sizes of the bodies after transfer decoding.
    pub(crate) request: u64,
    pub(crate) response: u64,
}

/// The connection record that must stand beside the exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) protocol: &'static str,
    pub(crate) outcome: Outcome,
    /// Must be part of its detail.
    pub(crate) detail: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) steps: &'static [Step],
    /// In the order in which they are written.
    pub(crate) exchanges: &'static [Exchange],
    /// `None`: the exchanges account for the connection.
    pub(crate) summary: Option<Summary>,
}

impl Case {
    /// The steps, with the ends that go without saying.
    pub(crate) fn all_steps(&self) -> Vec<Step> {
        let mut steps = self.steps.to_vec();
        if steps.iter().all(|step| matches!(step, Step::C(_) | Step::S(_))) {
            steps.extend([Step::ClientFin, Step::ServerFin]);
        }
        steps
    }

    /// All that the client sends.
    pub(crate) fn client_bytes(&self) -> Vec<u8> {
        self.steps.iter().flat_map(|step| if let Step::C(bytes) = step { *bytes } else { &[] }).copied().collect()
    }

    /// All that the server sends.
    pub(crate) fn server_bytes(&self) -> Vec<u8> {
        self.steps.iter().flat_map(|step| if let Step::S(bytes) = step { *bytes } else { &[] }).copied().collect()
    }
}

/// Every case; names are unique.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    [heads::CASES, lengths::CASES, chunked::CASES, responses::CASES, conversations::CASES, ends::CASES]
        .into_iter()
        .flatten()
}

const fn case(
    name: &'static str,
    steps: &'static [Step],
    exchanges: &'static [Exchange],
    summary: Option<Summary>,
) -> Case {
    Case { name, steps, exchanges, summary }
}

const fn exchange(outcome: Outcome, status: u16, request: u64, response: u64) -> Exchange {
    Exchange { outcome, status, request, response }
}

/// A complete exchange: status, size of the request's body, of the response's.
const fn ok(status: u16, request: u64, response: u64) -> Exchange {
    exchange(Outcome::Complete, status, request, response)
}

const fn malformed(status: u16, request: u64, response: u64) -> Exchange {
    exchange(Outcome::Malformed, status, request, response)
}

const fn client_aborted(status: u16, request: u64, response: u64) -> Exchange {
    exchange(Outcome::ClientAborted, status, request, response)
}

const fn server_aborted(status: u16, request: u64, response: u64) -> Exchange {
    exchange(Outcome::ServerAborted, status, request, response)
}

const fn passed(status: u16, request: u64, response: u64) -> Exchange {
    exchange(Outcome::Passthrough, status, request, response)
}

/// The exchanges account for the whole connection.
const WHOLE: Option<Summary> = None;

/// The tap went blind over what is not HTTP/1.
const fn blind(detail: &'static str) -> Option<Summary> {
    Some(Summary { protocol: "http/1.1", outcome: Outcome::Malformed, detail })
}

/// It was not looked into (any more), and that is nobody's fault.
const fn opaque(protocol: &'static str, detail: &'static str) -> Option<Summary> {
    Some(Summary { protocol, outcome: Outcome::Passthrough, detail })
}

/// It was looked into, and there was no exchange.
const fn spoke(protocol: &'static str, detail: &'static str) -> Option<Summary> {
    Some(Summary { protocol, outcome: Outcome::Complete, detail })
}

const GET: Step = Step::C(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
const HEAD: Step = Step::C(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
const POST: Step = Step::C(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
const OK: Step = Step::S(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
/// What servers say to a request that they do not understand.
const BAD_REQUEST: Step = Step::S(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
