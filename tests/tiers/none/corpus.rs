//! Every odd HTTP/1 conversation of the corpus through a real tunnel, whole, byte by byte, and cut at every byte: what
//! comes out is what went in, and the records are those of the corpus.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use nodetap_tests::client::{self, Ending};
use nodetap_tests::proxy::Proxy;
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{records, server};
use serde_json::Value;

use http1::{Case, Outcome, Step};

#[path = "../../../daemon/proxy/tests/corpus/http1/mod.rs"]
mod http1;

/// Where a conversation is cut into pieces that arrive one after the other.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Nowhere,
    /// Before this byte of all that both sides send.
    At(usize),
    Everywhere,
}

/// Both ends of one conversation, with the tunnel between them.
struct Ends {
    client: TcpStream,
    server: TcpStream,
    /// How many bytes have been sent so far, by both sides.
    passed: usize,
}

impl Ends {
    fn new(proxy: &Proxy, upstream: &TcpListener) -> Self {
        let client = client::connect(proxy.address()).unwrap();
        let (server, _) = upstream.accept().unwrap();
        server.set_nodelay(true).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { client, server, passed: 0 }
    }

    fn play(mut self, case: &Case, cut: Cut) {
        let what = format!("{} cut {cut:?}", case.name);
        let (mut client_ended, mut server_ended) = (false, false);
        for step in case.all_steps() {
            match step {
                Step::C(bytes) => self.send(true, bytes, cut, &what),
                Step::S(bytes) => self.send(false, bytes, cut, &what),
                Step::ClientFin => {
                    self.client.shutdown(Shutdown::Write).unwrap();
                    client_ended = true;
                    ends(&mut self.server, Ending::Closed, &what);
                }
                Step::ServerFin => {
                    self.server.shutdown(Shutdown::Write).unwrap();
                    server_ended = true;
                    ends(&mut self.client, Ending::Closed, &what);
                }
                Step::ClientReset => {
                    server::reset(self.client);
                    return is_reset(&mut self.server, client_ended, &what);
                }
                Step::ServerReset => {
                    server::reset(self.server);
                    return is_reset(&mut self.client, server_ended, &what);
                }
            }
        }
        assert!(client_ended && server_ended, "{what}");
    }

    /// Sends bytes in pieces; each has arrived before the next one is sent.
    fn send(&mut self, from_client: bool, bytes: &[u8], cut: Cut, what: &str) {
        let (from, to) =
            if from_client { (&mut self.client, &mut self.server) } else { (&mut self.server, &mut self.client) };
        let place = match cut {
            Cut::At(place) => place.saturating_sub(self.passed).min(bytes.len()),
            Cut::Nowhere | Cut::Everywhere => 0,
        };
        self.passed += bytes.len();
        let (first, second) = bytes.split_at(place);
        let size = if matches!(cut, Cut::Everywhere) { 1 } else { usize::MAX };
        for piece in first.chunks(size).chain(second.chunks(size)) {
            from.write_all(piece).unwrap();
            let mut arrived = vec![0; piece.len()];
            to.read_exact(&mut arrived).unwrap_or_else(|error| panic!("{what}: {error} for {piece:?}"));
            assert_eq!(arrived, piece, "{what}");
        }
    }
}

fn ends(stream: &mut TcpStream, expected: Ending, what: &str) {
    assert_eq!(client::drain(stream).unwrap(), (Vec::new(), expected), "{what}");
}

/// A reader that has read the end is told of a reset behind it by the socket's error only.
fn is_reset(stream: &mut TcpStream, ended: bool, what: &str) {
    if ended {
        eventually(DEADLINE, what, || stream.take_error().unwrap()).unwrap();
    } else {
        ends(stream, Ending::Reset, what);
    }
}

/// What a row of the corpus says, or what the records say: exchanges as outcome, status, sizes; and the summary.
type Told = (Vec<(String, u64, u64, u64)>, Option<(String, String, String)>);

fn named(outcome: Outcome) -> String {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::ClientAborted => "client_aborted",
        Outcome::ServerAborted => "server_aborted",
        Outcome::Malformed => "malformed",
        Outcome::Passthrough => "passthrough",
    }
    .to_owned()
}

fn of_row(case: &Case) -> Told {
    let exchange = |row: &http1::Exchange| (named(row.outcome), u64::from(row.status), row.request, row.response);
    let mut exchanges: Vec<_> = case.exchanges.iter().map(exchange).collect();
    exchanges.sort();
    let summary =
        case.summary.map(|summary| (summary.protocol.to_owned(), named(summary.outcome), summary.detail.to_owned()));
    (exchanges, summary)
}

fn of_records(records: &[Value]) -> Told {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let size = |value: &Value| value["body"]["size"].as_u64().unwrap_or(0);
    let mut exchanges: Vec<_> = records
        .iter()
        .filter(|record| record["kind"] == "exchange")
        .map(|record| {
            let status = record["response"]["status"].as_u64().unwrap_or(0);
            (text(&record["outcome"]), status, size(&record["request"]), size(&record["response"]))
        })
        .collect();
    exchanges.sort();
    let summary = records
        .iter()
        .find(|record| record["kind"] == "connection")
        .map(|record| (text(&record["protocol"]), text(&record["outcome"]), text(&record["detail"])));
    (exchanges, summary)
}

fn agree(told: &Told, row: &Told) -> bool {
    let summaries = match (&told.1, &row.1) {
        (None, None) => true,
        (Some(told), Some(row)) => (&told.0, &told.1) == (&row.0, &row.1) && told.2.contains(&row.2),
        _ => false,
    };
    told.0 == row.0 && summaries
}

/// Plays conversations one after the other through one proxy, and holds its records against the corpus.
fn through_a_tunnel(plays: &[(&'static Case, Cut)]) {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    // One worker, so that the identities of connections sort as they were played.
    let mut proxy = Proxy::with(upstream.local_addr().unwrap(), &["--workers", "1"]).unwrap();
    for (case, cut) in plays {
        Ends::new(&proxy, &upstream).play(case, *cut);
    }
    let finished = proxy.stop().unwrap();
    let mut connections: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in records::records(proxy.out()).unwrap() {
        connections.entry(record["connection"].as_str().unwrap().to_owned()).or_default().push(record);
    }
    assert_eq!(connections.len(), plays.len(), "{}", finished.err.lines().last().unwrap_or_default());
    let mut wrong = Vec::new();
    for ((case, cut), records) in plays.iter().zip(connections.values()) {
        let (told, row) = (of_records(records), of_row(case));
        if !agree(&told, &row) {
            wrong.push(format!("{} cut {cut:?}:\n  recorded {told:?}\n  expected {row:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), plays.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn every_conversation_comes_through_whole_and_leaves_its_records() {
    through_a_tunnel(&http1::cases().map(|case| (case, Cut::Nowhere)).collect::<Vec<_>>());
}

#[test]
fn every_conversation_comes_through_byte_by_byte_and_leaves_the_same_records() {
    through_a_tunnel(&http1::cases().map(|case| (case, Cut::Everywhere)).collect::<Vec<_>>());
}

/// A quarter of all conversations, each as often as it has places to be cut at.
fn cut_at_every_byte(quarter: usize) {
    let places = |case: &'static Case| {
        let bytes = case.client_bytes().len() + case.server_bytes().len();
        (1..bytes).map(move |place| (case, Cut::At(place)))
    };
    through_a_tunnel(&http1::cases().skip(quarter).step_by(4).flat_map(places).collect::<Vec<_>>());
}

#[test]
fn every_conversation_cut_at_every_byte_leaves_the_same_records_1() {
    cut_at_every_byte(0);
}

#[test]
fn every_conversation_cut_at_every_byte_leaves_the_same_records_2() {
    cut_at_every_byte(1);
}

#[test]
fn every_conversation_cut_at_every_byte_leaves_the_same_records_3() {
    cut_at_every_byte(2);
}

#[test]
fn every_conversation_cut_at_every_byte_leaves_the_same_records_4() {
    cut_at_every_byte(3);
}
