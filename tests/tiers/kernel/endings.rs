//! When nodetap ends and when it does not: it outlives a hangup where the command does, and it does not outlive the
//! command for the sake of a server that never answers.

use std::process::Command;
use std::time::Duration;

use nodetap_tests::machine;
use nodetap_tests::netns::Namespace;
use nodetap_tests::process::{self, Process, Stream};
use nodetap_tests::records;
use nodetap_tests::run::Options;
use nodetap_tests::wait::{DEADLINE, eventually};
use rustix::process::Signal;

use crate::support::program;

/// Prints which signals it ignores and blocks, waits for a line, and prints that.
const WAITS: &str = "grep -E '^Sig(Ign|Blk)' /proc/self/status; read line; echo \"$line\"; exit 4";

/// For `env`: whoever runs the tests may have been started by nohup.
const LISTENS: &str = "--default-signal=HUP";

/// What the command says of its signals, once it has said it.
fn signals(process: &Process) -> (String, String) {
    let of = |name: &'static str| {
        let look = |line: &str| line.strip_prefix(name).map(|mask| mask.trim().to_owned());
        process.line(Stream::Out, name, look).unwrap()
    };
    (of("SigIgn:"), of("SigBlk:"))
}

/// Whether the set of signals, as `/proc` prints it, holds SIGHUP.
fn holds_hangup(set: &str) -> bool {
    u64::from_str_radix(set, 16).unwrap() & 1 == 1
}

#[test]
fn a_run_that_was_started_by_nohup_survives_a_hangup_and_so_does_its_command() {
    let _machine = machine::shared();
    let waits = program("sh", &["-c", WAITS]);
    let mut behind = program("nohup", &[]);
    behind.arg(waits.get_program()).args(waits.get_args());
    let mut plain = Process::start(&mut behind).unwrap();
    let expected = signals(&plain);
    assert!(holds_hangup(&expected.0), "{expected:?}");
    plain.signal(Signal::HUP).unwrap();
    plain.write(b"still here\n").unwrap();
    let expected_end = plain.finish().unwrap();

    let mut run = Options::default().behind(&["nohup"]).start(&waits).unwrap();
    assert_eq!(signals(&run.process), expected);
    let command = run.command_pid().unwrap();
    run.process.signal(Signal::HUP).unwrap();
    process::send(command, Signal::HUP).unwrap();
    run.process.write(b"still here\n").unwrap();
    let finished = run.finish().unwrap();
    assert_eq!((finished.code(), finished.text()), (expected_end.code(), expected_end.text()), "{finished:?}");
    assert!(finished.text().ends_with("still here\n"), "{finished:?}");
}

#[test]
fn a_run_that_was_not_started_by_nohup_passes_the_hangup_on() {
    let _machine = machine::shared();
    let mut plain = Process::start(&mut program("env", &[LISTENS, "sh", "-c", WAITS])).unwrap();
    let expected = signals(&plain);
    assert!(!holds_hangup(&expected.0), "{expected:?}");
    plain.signal(Signal::HUP).unwrap();
    let code = plain.finish().unwrap().code();
    assert_eq!(code, 129);

    let waits = program("sh", &["-c", WAITS]);
    let mut run = Options::default().behind(&["env", LISTENS]).start(&waits).unwrap();
    assert_eq!(signals(&run.process), expected);
    run.command_pid().unwrap();
    run.process.signal(Signal::HUP).unwrap();
    // Its standard input stays open meanwhile: the end of that would be an end of another kind.
    eventually(DEADLINE, "the end after a hangup", || run.process.has_ended().then_some(())).unwrap();
    assert_eq!(run.finish().unwrap().code(), code);
}

/// A neighbour that is there, and keeps quiet: the packets for this address reach it, and it is not its own.
const SILENT: &str = "10.7.1.9";

#[test]
fn nodetap_ends_soon_after_a_command_that_called_an_address_that_never_answers() {
    let _machine = machine::shared();
    let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    here.join("10.7.1.1/24", &there, "10.7.1.2/24").unwrap();
    let nobody = "02:00:00:00:00:09";
    here.ip(&["neigh", "add", SILENT, "lladdr", nobody, "dev", "wire0", "nud", "permanent"]).unwrap();
    let curl: Command = program("curl", &["-sS", "-m", "1", &format!("http://{SILENT}/")]);
    let expected = Process::start(&mut here.enter(&curl)).unwrap().finish().unwrap();
    assert_eq!(expected.code(), 28, "{expected:?}");

    let mut run = Options::default().in_namespace(&here.file()).start(&curl).unwrap();
    let finished = run.process.finish_within(Duration::from_secs(10)).unwrap();
    assert_eq!((finished.code(), &finished.out), (expected.code(), &expected.out), "{finished:?}");
    let records = records::records(run.out()).unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["server"]["address"], SILENT, "{records:?}");
    assert_ne!(records[0]["outcome"], "complete", "{records:?}");
}
