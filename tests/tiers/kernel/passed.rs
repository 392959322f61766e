//! TLS that cannot be opened, under `nodetap run --tls`: clients that pin, and servers that we do not come to terms with.
//! Each works as without us after at most two failed connections, and why it was not opened is in the records, in the
//! list and in the metrics.

use std::path::{Path, PathBuf};
use std::process::Command;

use nodetap_tests::http::get;
use nodetap_tests::https::{Https, Kind, VARIABLES};
use nodetap_tests::peers::{go, java};
use nodetap_tests::process::{Process, Stream};
use nodetap_tests::run::{Options, Run};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{machine, nodetap, records};
use serde_json::Value;

use crate::support::program;

/// How often each client is run.
const TRIES: usize = 5;
/// How many of them may fail.
const FORGIVEN: usize = 2;
/// Runs its arguments once for each line that it reads.
const AGAIN: &str = "while read line; do \"$@\" </dev/null; echo \"ended with $?\"; done";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// What the client prints when nobody is between it and the server.
fn direct(command: &Command, server: &Https) -> String {
    let mut plain = program(&command.get_program().to_string_lossy(), &[]);
    VARIABLES.iter().for_each(|name| {
        plain.env_remove(name);
    });
    plain.env("SSL_CERT_FILE", server.roots()).args(command.get_args());
    let finished = Process::start(&mut plain).unwrap().finish().unwrap();
    assert_eq!(finished.code(), 0, "without nodetap: {finished:?}");
    finished.text()
}

fn over_and_over(command: &Command, server: &Https) -> Run {
    let options = VARIABLES.iter().fold(Options::default().option("--tls"), |options, name| options.without(name));
    let options = options.with("SSL_CERT_FILE", server.roots()).option("--metrics").option("127.0.0.1:0");
    let mut shell = program("sh", &["-c", AGAIN, "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    options.start(&shell).unwrap()
}

/// Runs the client so often, each time when what it did before is recorded as `kind`; what it has printed each time, and
/// `None` where it failed.
fn tried(run: &mut Run, kind: &str) -> Vec<Option<String>> {
    let mut answers = Vec::new();
    for number in 1..=TRIES {
        let before = run.process.so_far(Stream::Out).len();
        run.process.write(b"again\n").unwrap();
        let ended = eventually(DEADLINE, "the client's end", || {
            let said = run.process.so_far(Stream::Out).split_off(before);
            let (said, code) = said.split_once("ended with ")?;
            code.ends_with('\n').then(|| (code == "0\n").then(|| said.to_owned()))
        });
        answers.push(ended.unwrap_or_else(|error| panic!("{error}: {}", run.process.so_far(Stream::Err))));
        records::eventually_of_kind(run.out(), kind, number).unwrap();
    }
    answers
}

fn works_after_at_most_two(run: &mut Run, kind: &str, expected: &str) {
    let answers = tried(run, kind);
    let failed = answers.iter().take_while(|answer| answer.is_none()).count();
    assert!(failed <= FORGIVEN, "{answers:?}: {}", run.process.so_far(Stream::Err));
    assert!(answers[failed..].iter().flatten().eq([expected; TRIES][failed..].iter()), "{answers:?}");
}

/// The value of `nodetap_tls_passthrough_total` for this reason.
fn counted(run: &Run, reason: &str) -> u64 {
    let address = run.process.line(Stream::Err, "where its metrics are", |line| {
        line.split_once("metrics at http://")?.1.strip_suffix("/metrics")?.parse().ok()
    });
    let text = String::from_utf8(get(address.unwrap(), "/metrics").unwrap()).unwrap();
    let name = format!("nodetap_tls_passthrough_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

/// The client works as it does without us, and one of `reasons` (with what people are told) is told everywhere.
fn is_passed_through(server: &Https, client: &Command, reasons: &[(&str, &str)]) {
    let expected = direct(client, server);
    let mut run = over_and_over(client, server);
    works_after_at_most_two(&mut run, "connection", &expected);
    let all = reasons.iter().map(|(reason, words)| (*reason, *words, counted(&run, reason)));
    let told: Vec<_> = all.filter(|(.., count)| *count > 0).collect();
    let finished = run.finish().unwrap();
    let found = records::records(run.out()).unwrap();
    let &[(reason, words, in_metrics)] = &told[..] else { panic!("{told:?} in the metrics: {found:?}") };
    assert!(in_metrics >= (TRIES - FORGIVEN) as u64, "{found:?}");
    assert!(finished.err.contains(&format!("{in_metrics} {reason}")), "{finished:?}");
    // Those that taught us have a reason, too: theirs.
    let has = |record: &Value, reason: &str| record["tls"]["passthrough"] == reason;
    assert!(found.iter().all(|record| reasons.iter().any(|(reason, _)| has(record, reason))), "{found:?}");
    let passed: Vec<_> = found.iter().filter(|record| record["outcome"] == "passthrough").collect();
    assert!(passed.len() as u64 == in_metrics && passed.iter().all(|record| has(record, reason)), "{found:?}");
    let list = Process::start(nodetap::command(&["ls", "--from"]).arg(run.out())).unwrap().finish().unwrap();
    let with_reason = found.iter().filter(|record| has(record, reason)).count();
    assert_eq!(list.text().matches(words).count(), with_reason, "{list:?}");
}

/// It says so with an alert.
const REJECTED: (&str, &str) = ("client_rejected", "pinned by the client");
/// It does not say so.
const SILENT: (&str, &str) = ("client_silent", "it may pin");

fn curl(server: &Https, path: &str, arguments: &[&str]) -> Command {
    let mut curl = program("curl", &["-q", "-sS"]);
    curl.args(arguments).arg(server.url(path));
    curl
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn curl_with_a_pinned_key_is_left_alone() {
    let _machine = machine::shared();
    let server = Https::start().unwrap();
    let pin = server.certificate().with_extension("pub");
    let client = curl(&server, "/pinned", &["--pinnedpubkey", text(&pin)]);
    is_passed_through(&server, &client, &[SILENT]);
}

#[test]
fn go_with_roots_of_its_own_is_left_alone() {
    let _machine = machine::shared();
    let server = Https::start().unwrap();
    let mut client = Command::new(go(&source("pinned.go")).unwrap());
    client.arg("roots").arg(server.roots()).arg(server.url("/roots"));
    is_passed_through(&server, &client, &[REJECTED]);
}

#[test]
fn go_that_verifies_by_itself_is_left_alone() {
    let _machine = machine::shared();
    let server = Https::start().unwrap();
    let mut client = Command::new(go(&source("pinned.go")).unwrap());
    client.arg("leaf").arg(server.certificate()).arg(server.url("/leaf"));
    is_passed_through(&server, &client, &[REJECTED]);
}

#[test]
fn java_with_a_trust_manager_of_its_own_is_left_alone() {
    let _machine = machine::shared();
    let server = Https::start().unwrap();
    let mut client = java(&source("Pinned.java"), "Pinned").unwrap();
    client.arg(server.certificate()).arg(server.url("/java"));
    // Its HTTP client does not always get its alert out before it closes.
    is_passed_through(&server, &client, &[REJECTED, SILENT]);
}

#[test]
fn a_server_that_wants_a_certificate_gets_the_clients_own() {
    let _machine = machine::shared();
    let server = Https::of(Kind::Mutual).unwrap();
    let certificate = server.certificate();
    let key = certificate.with_extension("key");
    let client = curl(&server, "/mutual", &["--cert", text(&certificate), "--key", text(&key)]);
    is_passed_through(&server, &client, &[("client_certificate_wanted", "wants a client certificate")]);
}

#[test]
fn a_server_that_vouches_for_itself_is_judged_by_the_client() {
    let _machine = machine::shared();
    let server = Https::of(Kind::SelfSigned).unwrap();
    // The user's bundle is of another authority.
    let other = Https::start().unwrap();
    let client = curl(&server, "/alone", &["--insecure"]);
    is_passed_through(&other, &client, &[("upstream_unverified", "certificate does not verify")]);
}

#[test]
fn a_server_of_tls_1_1_is_left_alone() {
    let _machine = machine::shared();
    let server = Https::of(Kind::Old).unwrap();
    let client = curl(&server, "/old", &["--tlsv1.0", "--ciphers", "DEFAULT@SECLEVEL=0"]);
    is_passed_through(&server, &client, &[("upstream_unsupported", "the server's TLS is not supported")]);
}

#[test]
fn a_client_that_greases_ech_is_opened_from_the_first_connection_on() {
    let _machine = machine::shared();
    let server = Https::start().unwrap();
    let mut client = program("sh", &["-c", "exec \"$0\" \"$SSL_CERT_FILE\" \"$1\"", env!("CARGO_BIN_EXE_greasing")]);
    client.arg(server.url("/grease"));
    let expected = direct(&client, &server);
    let mut run = over_and_over(&client, &server);
    assert_eq!(tried(&mut run, "exchange"), vec![Some(expected); TRIES]);
    run.finish().unwrap();
    let exchanges = run.exchanges().unwrap();
    assert!(exchanges.iter().all(|exchange| exchange["tls"]["opened"] == true), "{exchanges:?}");
}
