//! gRPC, WebSockets and HTTP/2 under load, steered: the same as without, and every message recorded.

use std::process::Command;

use nodetap_tests::origin::{self, Origin};
use nodetap_tests::process::{Process, Stream};
use nodetap_tests::run::{Options, Run};
use nodetap_tests::{machine, records, streams};
use serde_json::Value;

/// Runs a client of `script` directly and under a run, which must print the same; what it printed, and its run.
fn both(script: &str, target: &str) -> (String, Run) {
    let mut command = origin::python(script).unwrap();
    command.args(["call", target, "-"]);
    let expected = Process::start(&mut command).unwrap().finish().unwrap();
    assert_eq!(expected.code(), 0, "{expected:?}");
    let mut run = Options::default().option("--max-body").option("1MiB").start(&command).unwrap();
    let finished = run.finish().unwrap();
    assert_eq!((finished.code(), finished.text()), (0, expected.text()), "{finished:?}");
    (finished.text(), run)
}

#[test]
fn grpc_calls_of_every_kind_are_served_and_recorded() {
    let _machine = machine::shared();
    let (server, port) = origin::serving("grpc_peer.py").unwrap();
    let (_, run) = both("grpc_peer.py", &format!("127.0.0.1:{port}"));
    // The first half is of the direct calls.
    let lines: Vec<String> =
        server.so_far(Stream::Out).lines().filter(|line| line.contains("\"call\"")).map(str::to_owned).collect();
    let lines = lines[lines.len() / 2..].join("\n");
    streams::calls_recorded(&records::records(run.out()).unwrap(), "transparent", &lines).unwrap();
}

#[test]
fn websockets_are_served_and_recorded_message_by_message() {
    let _machine = machine::shared();
    let (_server, port) = origin::serving("websocket_peer.py").unwrap();
    let (lines, run) = both("websocket_peer.py", &format!("ws://127.0.0.1:{port}/echo"));
    streams::websockets_recorded(&records::records(run.out()).unwrap(), "transparent", &lines).unwrap();
}

#[test]
fn h2load_has_no_failure_under_a_run_and_every_request_is_recorded() {
    let _machine = machine::shared();
    let origin = Origin::start().unwrap();
    let mut h2load = Command::new("h2load");
    h2load.args(["-n", "2000", "-c", "4", "-m", "16", &format!("{}/fixed", origin.base())]);
    let mut run = Run::start(&h2load).unwrap();
    let finished = run.finish().unwrap();
    assert!(finished.text().contains("2000 succeeded, 0 failed"), "{finished:?}");
    let exchanges = run.exchanges().unwrap();
    let whole = |record: &&Value| record["protocol"] == "h2" && record["outcome"] == "complete";
    assert_eq!(exchanges.iter().filter(whole).count(), 2000, "of {}", exchanges.len());
}
