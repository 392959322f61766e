//! Each conversation of the corpus leaves the records that its row says, however its bytes are cut and whoever is the
//! target.

use std::collections::HashSet;

use nodetap_core::exchange::{Bytes, Direction, Event, Outcome, Protocol};
use nodetap_core::head::Head;
use nodetap_proxy::tap::Limits;

use crate::corpus::{self, Case, cases};
use crate::drive::{Player, play, timeless};

fn outcome(outcome: Outcome) -> corpus::Outcome {
    match outcome {
        Outcome::Complete => corpus::Outcome::Complete,
        Outcome::ClientAborted => corpus::Outcome::ClientAborted,
        Outcome::ServerAborted => corpus::Outcome::ServerAborted,
        Outcome::Malformed => corpus::Outcome::Malformed,
        Outcome::Passthrough | Outcome::Refused | Outcome::Timeout => corpus::Outcome::Passthrough,
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    nodetap_core::row::protocol(protocol)
}

/// What a row would say of these events, and the detail of the summary.
fn as_row(events: &[Event]) -> (Vec<corpus::Exchange>, Option<(&'static str, corpus::Outcome, String)>) {
    let (mut exchanges, mut summaries) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::Exchange(exchange) => exchanges.push(corpus::Exchange {
                outcome: outcome(exchange.outcome),
                status: exchange
                    .response
                    .as_ref()
                    .and_then(|response| Head::parse(&response.head).start.status().code)
                    .unwrap_or(0),
                request: exchange.request.body.size,
                response: exchange.response.as_ref().map_or(0, |response| response.body.size),
            }),
            Event::Connection(summary) => summaries.push((
                protocol(summary.protocol),
                outcome(summary.outcome),
                summary.detail.clone().unwrap_or_default().into_owned(),
            )),
            Event::Loss(_) | Event::Message(_) => {}
        }
    }
    assert!(summaries.len() <= 1, "{summaries:?}");
    (exchanges, summaries.pop())
}

/// Bytes that the client sent, that the server sent.
fn totals(case: &Case) -> (u64, u64) {
    (case.client_bytes().len() as u64, case.server_bytes().len() as u64)
}

fn by_sender(bytes: Bytes, direction: Direction) -> (u64, u64) {
    match direction {
        Direction::Inbound => (bytes.received, bytes.sent),
        Direction::Outbound => (bytes.sent, bytes.received),
    }
}

#[test]
fn every_case_leaves_the_records_of_its_row() {
    let mut wrong = Vec::new();
    for case in cases() {
        let events = play(&case.all_steps(), Direction::Inbound);
        let (exchanges, summary) = as_row(&events);
        let summary_holds = match (&summary, case.summary) {
            (None, None) => true,
            (Some((protocol, outcome, detail)), Some(expected)) => {
                (*protocol, *outcome) == (expected.protocol, expected.outcome) && detail.contains(expected.detail)
            }
            _ => false,
        };
        if exchanges != case.exchanges || !summary_holds {
            wrong.push(format!("{}:\n  {exchanges:?}\n  {summary:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_case_is_there_twice_and_there_are_many() {
    let names: HashSet<_> = cases().map(|case| case.name).collect();
    assert_eq!(names.len(), cases().count());
    assert!(names.len() >= 150);
}

#[test]
fn what_is_not_complete_says_why() {
    for case in cases() {
        for event in play(&case.all_steps(), Direction::Inbound) {
            if let Event::Exchange(exchange) = event {
                assert!(exchange.outcome == Outcome::Complete || exchange.detail.is_some(), "{}", case.name);
            }
        }
    }
}

#[test]
fn every_byte_is_counted_as_the_target_sees_it() {
    for (case, direction) in cases().flat_map(|case| [(case, Direction::Inbound), (case, Direction::Outbound)]) {
        let mut sum = (0, 0);
        let mut summed_up = None;
        for event in play(&case.all_steps(), direction) {
            match event {
                Event::Exchange(exchange) => {
                    let (client, server) = by_sender(exchange.bytes, direction);
                    sum = (sum.0 + client, sum.1 + server);
                }
                Event::Connection(summary) => summed_up = Some(by_sender(summary.bytes, direction)),
                Event::Loss(_) | Event::Message(_) => {}
            }
        }
        assert_eq!(summed_up.unwrap_or(sum), totals(case), "{} {direction:?}", case.name);
        assert!(sum.0 <= totals(case).0 && sum.1 <= totals(case).1, "{}", case.name);
    }
}

#[test]
fn records_do_not_depend_on_how_bytes_are_cut() {
    for (case, direction) in cases().flat_map(|case| [(case, Direction::Inbound), (case, Direction::Outbound)]) {
        let steps = case.all_steps();
        let whole = timeless(play(&steps, direction));
        let total = case.client_bytes().len() + case.server_bytes().len();
        for at in 0..=total {
            // At every byte of the conversation, one cut; last, each byte by itself.
            let mut passed = 0;
            let mut cut = |bytes: &'static [u8]| {
                let place = at.saturating_sub(passed).min(bytes.len());
                passed += bytes.len();
                if at == total { bytes.chunks(1).collect() } else { vec![&bytes[..place], &bytes[place..]] }
            };
            let mut player = Player::new(direction, Limits::default());
            steps.iter().for_each(|step| player.step(*step, &mut cut));
            assert_eq!(timeless(player.finish()), whole, "{} cut at {at} of {total}", case.name);
        }
    }
}

#[test]
fn skipping_what_may_be_skipped_changes_no_record() {
    for (case, body) in cases().flat_map(|case| [0, 1, 3].map(|body| (case, body))) {
        let play = |skips| {
            let mut player = Player::new(Direction::Inbound, Limits { body, ..Limits::default() });
            player.skips = skips;
            case.all_steps().into_iter().for_each(|step| player.step(step, &mut |bytes| vec![bytes]));
            timeless(player.finish())
        };
        assert_eq!(play(true), play(false), "{} with {body} bytes of each body", case.name);
    }
}
