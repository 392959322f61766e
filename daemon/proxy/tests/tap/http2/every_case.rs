//! Each conversation of the corpus leaves the records that its row says, however its bytes are cut and whoever is the
//! target.

use std::collections::HashSet;

use nodetap_core::exchange::{Bytes, Direction, Event, Outcome};
use nodetap_core::head::Head;
use nodetap_proxy::tap::{End, Limits, Side};

use super::corpus::{self, Case, Step, cases};
use crate::drive::{Player, timeless};

fn outcome(outcome: Outcome) -> corpus::Outcome {
    match outcome {
        Outcome::Complete => corpus::Outcome::Complete,
        Outcome::ClientAborted => corpus::Outcome::ClientAborted,
        Outcome::ServerAborted => corpus::Outcome::ServerAborted,
        Outcome::Malformed => corpus::Outcome::Malformed,
        Outcome::Passthrough | Outcome::Refused | Outcome::Timeout => corpus::Outcome::Passthrough,
    }
}

/// Plays a case; `cut` makes pieces of each step's bytes.
pub(super) fn play_cut(case: &Case, player: &mut Player, mut cut: impl FnMut(&[u8]) -> Vec<&[u8]>) {
    for step in &case.steps {
        match step {
            Step::C(bytes) => cut(bytes).into_iter().for_each(|piece| player.show(Side::Client, piece)),
            Step::S(bytes) => cut(bytes).into_iter().for_each(|piece| player.show(Side::Server, piece)),
            Step::ClientFin => player.end(Side::Client, End::Fin),
            Step::ServerFin => player.end(Side::Server, End::Fin),
            Step::ClientReset => player.end(Side::Client, End::Reset),
            Step::ServerReset => player.end(Side::Server, End::Reset),
        }
    }
}

fn play(case: &Case, direction: Direction) -> Vec<Event> {
    let mut player = Player::new(direction, Limits::default());
    play_cut(case, &mut player, |bytes| vec![bytes]);
    player.finish()
}

/// What is not as the row says.
fn differences(case: &Case, events: &[Event]) -> Option<String> {
    let (mut rows, mut summaries) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::Exchange(exchange) => {
                let response = exchange.response.as_ref();
                let status = response.and_then(|response| Head::parse(&response.head).start.status().code);
                let row = (
                    exchange.stream.unwrap_or(0),
                    outcome(exchange.outcome),
                    status.unwrap_or(0),
                    exchange.request.body.size,
                    response.map_or(0, |response| response.body.size),
                );
                rows.push((row, exchange.detail.clone().unwrap_or_default()));
            }
            Event::Connection(summary) => summaries.push((
                nodetap_core::row::protocol(summary.protocol),
                outcome(summary.outcome),
                summary.detail.clone().unwrap_or_default(),
            )),
            Event::Loss(_) | Event::Message(_) => {}
        }
    }
    let exchanges_hold = rows.len() == case.exchanges.len()
        && rows.iter().zip(&case.exchanges).all(|((row, detail), expected)| {
            let corpus::Exchange { stream, outcome, status, request, response, .. } = *expected;
            let plain = expected.detail.is_empty();
            *row == (stream, outcome, status, request, response)
                && detail.contains(expected.detail)
                && plain == detail.is_empty()
        });
    let summary_holds = match (&summaries[..], case.summary) {
        ([], None) => true,
        ([(protocol, outcome, detail)], Some(expected)) => {
            (*protocol, *outcome) == (expected.protocol, expected.outcome) && detail.contains(expected.detail)
        }
        _ => false,
    };
    (!exchanges_hold || !summary_holds).then(|| format!("{}:\n  {rows:?}\n  {summaries:?}", case.name))
}

#[test]
fn every_case_leaves_the_records_of_its_row() {
    let wrong: Vec<_> = cases().iter().filter_map(|case| differences(case, &play(case, Direction::Inbound))).collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_case_is_there_twice_and_there_are_many() {
    let cases = cases();
    let names: HashSet<_> = cases.iter().map(|case| case.name.clone()).collect();
    assert_eq!(names.len(), cases.len());
    assert!(names.len() >= 150, "{}", names.len());
}

#[test]
fn every_byte_is_counted_as_the_target_sees_it() {
    for (case, direction) in cases().iter().flat_map(|case| [(case, Direction::Inbound), (case, Direction::Outbound)]) {
        let by_sender = |bytes: Bytes| match direction {
            Direction::Inbound => (bytes.received, bytes.sent),
            Direction::Outbound => (bytes.sent, bytes.received),
        };
        let (mut sum, totals) = ((0, 0), case.totals());
        for event in play(case, direction) {
            match event {
                Event::Exchange(exchange) => {
                    let (client, server) = by_sender(exchange.bytes);
                    sum = (sum.0 + client, sum.1 + server);
                }
                Event::Connection(summary) => assert_eq!(by_sender(summary.bytes), totals, "{}", case.name),
                Event::Loss(_) | Event::Message(_) => {}
            }
        }
        assert!(sum.0 <= totals.0 && sum.1 <= totals.1, "{}", case.name);
    }
}

#[test]
fn records_do_not_depend_on_how_bytes_are_cut() {
    for case in cases() {
        let whole = timeless(play(&case, Direction::Outbound));
        let (client, server) = case.totals();
        let total = usize::try_from(client + server).unwrap();
        // Every byte would take minutes where there are thousands of them.
        for at in (0..=total).step_by(if total > 2000 { 97 } else { 1 }).chain([total]) {
            // At every byte of the conversation, one cut; last, each byte by itself.
            let mut passed = 0;
            let mut player = Player::new(Direction::Outbound, Limits::default());
            play_cut(&case, &mut player, |bytes| {
                let place = at.saturating_sub(passed).min(bytes.len());
                passed += bytes.len();
                if at == total { bytes.chunks(1).collect() } else { vec![&bytes[..place], &bytes[place..]] }
            });
            assert_eq!(timeless(player.finish()), whole, "{} cut at {at} of {total}", case.name);
        }
    }
}

#[test]
fn skipping_what_may_be_skipped_changes_no_record() {
    for (case, body) in cases().iter().flat_map(|case| [0, 1, 3].map(|body| (case, body))) {
        let play = |skips| {
            let mut player = Player::new(Direction::Inbound, Limits { body, ..Limits::default() });
            player.skips = skips;
            play_cut(case, &mut player, |bytes| vec![bytes]);
            timeless(player.finish())
        };
        assert_eq!(play(true), play(false), "{} with {body} bytes of each body", case.name);
    }
}
