//! What several themes of this tier need: commands, servers under a run, and sentences compared without their ports.

use std::net::SocketAddr;
use std::process::Command;

use nodetap_tests::peers::{self, Peer};
use nodetap_tests::process::{Finished, Process};
use nodetap_tests::run::{Options, Run};

/// `PROGRAM ARG…`.
pub(crate) fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    command
}

/// A Python program from its text.
pub(crate) fn python(text: &str, arguments: &[&str]) -> Command {
    let mut command = program("/usr/bin/python3", &["-c", text]);
    command.args(arguments);
    command
}

/// Runs a command to its end without nodetap.
pub(crate) fn direct(command: &Command, input: &[u8]) -> Finished {
    let mut plain = program(&command.get_program().to_string_lossy(), &[]);
    let mut process = Process::start(plain.args(command.get_args())).unwrap();
    process.write(input).unwrap();
    process.finish().unwrap()
}

/// Runs a command to its end under nodetap.
pub(crate) fn under_run(command: &Command, input: &[u8]) -> (Finished, Run) {
    let mut run = Run::start(command).unwrap();
    run.process.write(input).unwrap();
    let finished = run.finish().unwrap();
    (finished, run)
}

/// A peer that serves under a run, and the address to call it at.
pub(crate) fn serving(peer: Peer, place: &str, call: &str) -> (Run, SocketAddr) {
    serving_with(Options::default(), peer, place, call)
}

/// As [`serving`], with options for the run.
pub(crate) fn serving_with(options: Options, peer: Peer, place: &str, call: &str) -> (Run, SocketAddr) {
    let mut run = options.start(&peer.command(&["serve", place]).unwrap()).unwrap();
    let port = peers::port(&run.process).unwrap();
    // Its cgroup is known from here on, whatever becomes of nodetap.
    run.command_pid().unwrap();
    (run, SocketAddr::new(call.parse().unwrap(), port))
}

/// `text` with every known port replaced by its name, and every other one above 1023 by `?`, which differ from call to
/// call for a good reason.
pub(crate) fn without_ports(text: &str, known: &[(u16, &str)]) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(':') {
        let (before, after) = rest.split_at(at + 1);
        shown.push_str(before);
        let digits = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
        let (number, behind) = after.split_at(digits);
        match number.parse::<u16>() {
            Ok(port) if port > 1023 => {
                shown.push_str(known.iter().find(|(known, _)| *known == port).map_or("?", |(_, name)| name));
            }
            _ => shown.push_str(number),
        }
        rest = behind;
    }
    shown + rest
}

#[test]
fn ports_are_told_from_other_numbers() {
    assert_eq!(
        without_ports("[::1]:8080 [::ffff:127.0.0.1]:40000/28/10", &[(8080, "S")]),
        "[::1]:S [::ffff:127.0.0.1]:?/28/10"
    );
}
