//! nodetap is killed, or stopped, while it has traffic: the program under it goes on as if it had never been there.

use std::time::{Duration, Instant};

use nodetap_tests::load::{Attempt, Load};
use nodetap_tests::peers::Peer;
use nodetap_tests::records::eventually_of_kind;
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, machine, process};
use rustix::process::Signal;

use crate::support::serving;

fn failed(attempts: &[Attempt], from: Instant) -> Vec<&Attempt> {
    attempts.iter().filter(|attempt| attempt.begun >= from && attempt.failure.is_some()).collect()
}

fn passes(moment: Instant) {
    eventually(DEADLINE, "a moment", || (Instant::now() >= moment).then_some(())).unwrap();
}

#[test]
fn after_a_kill_under_load_connections_go_to_the_server_and_none_fails() {
    let _machine = machine::alone();
    for peer in [Peer::Go, Peer::Python] {
        let (mut run, address) = serving(peer, "127.0.0.1", "127.0.0.1");
        let server = run.command_pid().unwrap();
        let load = Load::start(4, address);
        load.attempts(100).unwrap();
        run.process.signal(Signal::KILL).unwrap();
        let killed = Instant::now();
        passes(killed + Duration::from_millis(50));
        load.attempts(400).unwrap();
        let attempts = load.stop().unwrap();
        let failures = failed(&attempts, killed + Duration::from_millis(50));
        assert!(failures.is_empty(), "{peer:?}: {failures:?}");
        let before: Vec<&Attempt> = attempts
            .iter()
            .filter(|attempt| attempt.begun + attempt.took < killed && attempt.failure.is_some())
            .collect();
        assert!(before.is_empty(), "before the kill: {before:?}");
        process::send(server, Signal::CONT).unwrap();
    }
}

#[test]
fn while_nodetap_is_stopped_connections_go_to_the_server_and_afterwards_they_are_recorded_again() {
    let _machine = machine::alone();
    let (mut run, address) = serving(Peer::Go, "127.0.0.1", "127.0.0.1");
    http::get(address, "/before").unwrap();
    eventually_of_kind(run.out(), "exchange", 1).unwrap();

    run.process.signal(Signal::STOP).unwrap();
    let stopped = Instant::now();
    passes(stopped + Duration::from_millis(2500));
    let load = Load::start(4, address);
    load.attempts(200).unwrap();
    let attempts = load.stop().unwrap();
    let failures = failed(&attempts, stopped);
    assert!(failures.is_empty(), "{failures:?}");

    run.process.signal(Signal::CONT).unwrap();
    let steered = || {
        http::get(address, "/after").unwrap();
        let exchanges = run.exchanges().unwrap();
        exchanges
            .iter()
            .any(|record| record["request"]["url"].as_str().unwrap_or_default().ends_with("/after"))
            .then_some(())
    };
    eventually(DEADLINE, "a recorded exchange after SIGCONT", steered).unwrap();
    let finished = run.stop().unwrap();
    assert_eq!(finished.code(), 128 + 15, "{finished:?}");
}

#[test]
fn outbound_connections_too_go_on_after_a_kill() {
    let _machine = machine::alone();
    let server = nodetap_tests::server::Server::answering("127.0.0.1:0", nodetap_tests::server::answer("ok")).unwrap();
    // It calls once, waits for a line, then calls fifty times and prints how many failed.
    let text = "import sys, urllib.request\n\
                def call():\n\
                \x20   try: return urllib.request.urlopen(sys.argv[1], timeout=10).read() != b'ok'\n\
                \x20   except OSError as error: print(error, file=sys.stderr); return True\n\
                print('first', call(), flush=True); sys.stdin.readline()\n\
                print('failed', sum(call() for _ in range(50)), flush=True); sys.stdin.readline()\n";
    let url = format!("http://{}/", server.address());
    let mut run = nodetap_tests::run::Run::start(&crate::support::python(text, &[&url])).unwrap();
    run.command_pid().unwrap();
    let line = |run: &nodetap_tests::run::Run, start: &'static str| {
        run.process
            .line(process::Stream::Out, start, |line| line.strip_prefix(start).map(|rest| rest.trim().to_owned()))
            .unwrap()
    };
    assert_eq!(line(&run, "first"), "False");
    run.process.signal(Signal::KILL).unwrap();
    let killed = Instant::now();
    passes(killed + Duration::from_millis(50));
    run.process.write(b"go\n").unwrap();
    assert_eq!(line(&run, "failed"), "0");
}
