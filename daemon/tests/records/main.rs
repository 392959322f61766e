//! The commands that read recordings, as a user calls them: what they print, what they warn of, how they end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of this is test code; the lints only spare functions that are marked so"
)]

mod messages;
mod pods;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use nodetap::store::{Recorder, Settings};
use nodetap_core::exchange::{
    Body, Bytes, Connection, ConnectionSummary, Direction, Event, Exchange, Loss, Message, Outcome, Process, Protocol,
    Target, Timing, Via,
};
use nodetap_core::record::Record;
use nodetap_core::ulid::UlidSource;
use serde_json::Value;

const SECRET: &str = "pl4nted-s3cret";
const RECORDS: usize = 41;

fn events() -> Vec<Event> {
    let mut ids = UlidSource::new(7);
    let mut events = Vec::new();
    for number in 0..40u64 {
        let time = 1_795_389_939_000_000 + number * 400;
        let server: SocketAddr = if number % 4 == 0 { "[::1]:8080" } else { "127.0.0.1:8080" }.parse().unwrap();
        let connection = Arc::new(Connection {
            id: ids.next(time),
            direction: if number % 2 == 0 { Direction::Inbound } else { Direction::Outbound },
            via: Via::Transparent,
            target: Target::command("app"),
            container: None,
            process: Some(Process { pid: 4711, name: "python3".into() }),
            client: "127.0.0.1:50000".parse().unwrap(),
            client_name: None,
            server,
            server_name: None,
            accepted: time,
        });
        if number == 39 {
            events.push(Event::Connection(Box::new(ConnectionSummary {
                id: ids.next(time),
                connection: Arc::clone(&connection),
                protocol: Protocol::Tcp,
                tls: None,
                timing: Timing::default(),
                bytes: Bytes::default(),
                outcome: Outcome::Passthrough,
                detail: None,
            })));
        }
        let method = if number % 5 == 0 { "POST" } else { "GET" };
        let head = format!("{method} /items/{number} HTTP/1.1\r\nHost: web.shop\r\nAuthorization: {SECRET}\r\n\r\n");
        let status = if number % 10 == 0 { "404 Not Found" } else { "200 OK" };
        let response = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nSet-Cookie: {SECRET}\r\n\r\n");
        let json = br#"{"answer":42}"#.to_vec();
        events.push(Event::Exchange(Box::new(Exchange {
            id: ids.next(time),
            connection,
            time,
            protocol: Protocol::Http11,
            stream: None,
            tls: None,
            request: Message { head: head.into_bytes(), ..Message::default() },
            interim: vec![],
            response: Some(Message {
                head: response.into_bytes(),
                body: Body { size: json.len() as u64, kept: json, in_messages: false },
                trailers: vec![],
            }),
            timing: Timing { end: Some(5120), ..Timing::default() },
            bytes: Bytes { sent: 1, received: 2 },
            messages: None,
            outcome: Outcome::Complete,
            detail: None,
            redacted: vec![],
            dropped: vec![],
        })));
    }
    events
}

fn recording() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("nodetap/01KD3000000000000000000000");
    let (recorder, recording) = Recorder::start(Settings::new(folder.clone(), Target::command("app")), vec![]).unwrap();
    for event in events() {
        assert!(recorder.record(event));
    }
    recording.close();
    (home, folder)
}

fn nodetap(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodetap"));
    command.args(arguments).env("XDG_STATE_HOME", home).env("TZ", "UTC").stdin(Stdio::null());
    command
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    nodetap(home, arguments).output().unwrap()
}

/// stdout of a run that must go well and say nothing else.
fn good(home: &Path, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), error.as_str()), (Some(0), ""), "{arguments:?}");
    out
}

fn ids(lines: &str) -> Vec<String> {
    let id = |line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    lines.lines().map(id).collect()
}

fn segment(folder: &Path) -> PathBuf {
    let mut segments = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    segments.find(|path| !path.to_str().unwrap().contains("losses")).unwrap()
}

#[test]
fn ls_lists_the_newest_recording_in_time_order() {
    let (home, _folder) = recording();
    let table = good(home.path(), &["ls"]);
    assert_eq!(table.lines().count(), 1 + RECORDS);
    let first: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(first[1..7], ["23:25:39.000", "in", "python3[4711]", "POST", "404", "http://web.shop/items/0"]);
    assert!(!table.contains('\x1b'), "no colours where there is no terminal");

    let lines = good(home.path(), &["ls", "-o", "json"]);
    assert_eq!(lines.lines().count(), RECORDS);
    let records: Vec<Record> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), RECORDS);
    let mut sorted = ids(&lines);
    sorted.sort();
    assert_eq!(ids(&lines).len(), sorted.len());
    assert!(!lines.contains(SECRET) && lines.contains("[redacted]"));
    assert!(good(home.path(), &["ls", "-o", "wide"]).lines().nth(1).unwrap().starts_with(&ids(&lines)[0]));
}

#[test]
fn filters_narrow_what_every_command_shows() {
    let (home, _folder) = recording();
    for (arguments, expected) in [
        (&["--method", "post"][..], 8),
        (&["--status", "4xx"], 4),
        (&["--status", "200,404", "--direction", "out"], 20),
        (&["--host", "*.shop"], 40),
        (&["--host", "[::1]:8080"], 10),
        (&["--path", "/items/1"], 11),
        (&["--path", "/items/1?"], 10),
        (&["--since", "2026-11-22T23:25:39.008Z"], 21),
        (&["--since", "1h"], 0),
        (&["--grep", "answer..42", "--direction", "in"], 20),
        (&["--grep", SECRET], 0),
    ] {
        let list = [&["ls", "-o", "json"], arguments].concat();
        assert_eq!(good(home.path(), &list).lines().count(), expected, "{arguments:?}");
        let tail = [&["tail", "-o", "json", "--no-follow", "--lines", "1000"], arguments].concat();
        assert_eq!(good(home.path(), &tail).lines().count(), expected, "{arguments:?}");
        let export = [&["export"], arguments].concat();
        assert_eq!(good(home.path(), &export).lines().count(), expected, "{arguments:?}");
    }
    for bad in [&["--status", "abc"][..], &["--grep", "("], &["--since", "yesterday"], &["--direction", "up"]] {
        let output = run(home.path(), &[&["ls"], bad].concat());
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn show_takes_what_ls_shows_of_an_id() {
    let (home, _folder) = recording();
    let short = good(home.path(), &["ls"]).lines().nth(2).unwrap().split_whitespace().next().unwrap().to_owned();
    let full = ids(&good(home.path(), &["ls", "-o", "json"]))[1].clone();
    let page = good(home.path(), &["show", &short]);
    assert!(page.contains(&full) && page.contains("\n  \"answer\": 42\n"), "{page}");
    assert_eq!(ids(&good(home.path(), &["show", &full.to_lowercase(), "-o", "json"])), std::slice::from_ref(&full));
    assert!(good(home.path(), &["show", &full, "-o", "wide"]).contains(&full));
    let curl = good(home.path(), &["show", &full, "--curl"]);
    assert!(curl.starts_with("# Authorization was redacted"), "{curl}");
    assert!(curl.contains("\ncurl --connect-to ::127.0.0.1:8080 http://web.shop/items/1 "), "{curl}");

    let ambiguous = run(home.path(), &["show", &full[..6]]);
    let said = String::from_utf8(ambiguous.stderr).unwrap();
    assert_eq!((ambiguous.status.code(), said.contains("fits 41 records")), (Some(1), true), "{said}");
    assert_eq!(run(home.path(), &["show", "zzzz"]).status.code(), Some(1));
}

#[test]
fn export_writes_har_and_json_lines() {
    let (home, _folder) = recording();
    let file = home.path().join("out.har");
    assert_eq!(good(home.path(), &["export", "--format", "har", "--to", file.to_str().unwrap()]), "");
    let har: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let entries = har["log"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 40, "connections have no place in a HAR");
    assert_eq!(entries[0]["response"]["content"]["text"], r#"{"answer":42}"#);
    let lines = good(home.path(), &["export", "--format", "jsonl"]);
    assert_eq!(lines, good(home.path(), &["ls", "-o", "json"]));
    let refused = run(home.path(), &["export", "--to", "/nonexistent/x"]);
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (home, _folder) = recording();
    for arguments in [&["ls"][..], &["ls", "-o", "json"], &["export", "--format", "har"], &["tail", "--lines", "50"]] {
        let mut child = nodetap(home.path(), arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn tail_shows_the_last_and_then_what_comes() {
    let (home, folder) = recording();
    let last = good(home.path(), &["tail", "-o", "json", "--lines", "3", "--no-follow"]);
    assert_eq!(ids(&last), ids(&good(home.path(), &["ls", "-o", "json"]))[RECORDS - 3..]);

    let mut child =
        nodetap(home.path(), &["tail", "--lines", "1", "-o", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let (recorder, recording) = Recorder::start(Settings::new(folder, Target::command("app")), vec![]).unwrap();
    let event = events().remove(0);
    let Event::Exchange(exchange) = &event else { panic!() };
    let id = exchange.id.to_string();
    recorder.record(event.clone());
    assert_eq!(ids(&lines.next().unwrap().unwrap()), [id]);
    recording.close();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_damaged_segment_is_read_as_far_as_it_is_whole_with_a_warning() {
    let (home, folder) = recording();
    let path = segment(&folder);
    let whole = std::fs::read(&path).unwrap();
    for (bytes, expected, said) in [
        (whole[..whole.len() - 7].to_vec(), RECORDS - 1, "the last record is not whole"),
        ([&whole[..300], &[whole[300] ^ 1], &whole[301..]].concat(), RECORDS - 1, "damaged at offset 28"),
        ([&[0], &whole[1..]].concat(), RECORDS, "its header is damaged"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let output = run(home.path(), &["ls", "-o", "json"]);
        let error = String::from_utf8(output.stderr).unwrap();
        let lines = String::from_utf8(output.stdout).unwrap().lines().count();
        assert_eq!((output.status.code(), lines), (Some(0), expected), "{said}: {error}");
        assert!(
            error.contains(said) && error.contains(path.to_str().unwrap()) && error.lines().count() == 1,
            "{error}"
        );
    }
}

#[test]
fn bad_input_is_one_line_that_says_what_to_do() {
    let (home, folder) = recording();
    let alien = folder.join("alien.seg");
    std::fs::write(&alien, "not ours").unwrap();
    for (arguments, code, said) in [
        (&["ls"][..], 2, "alien.seg"),
        (&["ls", "--from", alien.to_str().unwrap()], 2, "no nodetap segment"),
        (&["ls", "--from", "/nonexistent"], 1, "--from DIR"),
        (&["export", "--from", "/nonexistent"], 1, "--from DIR"),
        (&["tail", "--from", "/nonexistent"], 1, "--from DIR"),
        (&["show", "x", "--from", "/nonexistent"], 1, "--from DIR"),
    ] {
        let output = run(home.path(), arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(said) && error.lines().count() == 1, "{arguments:?}: {error}");
    }
    let nothing = tempfile::tempdir().unwrap();
    let output = run(nothing.path(), &["ls"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("nodetap run -- CMD"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn losses_are_listed_and_never_passed_over_in_silence() {
    let (home, folder) = recording();
    let (recorder, recording) = Recorder::start(Settings::new(folder, Target::command("app")), vec![]).unwrap();
    let loss =
        Loss { time: 1, until: 2, target: Target::command("app"), reason: "tap_panic".into(), exchanges: 17, bytes: 5 };
    recorder.record(Event::Loss(loss));
    assert_eq!(recording.close().lost.len(), 1);
    let output = run(home.path(), &["ls"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("ls --losses"));
    let table = good(home.path(), &["ls", "--losses"]);
    assert!(table.lines().nth(1).unwrap().contains("tap_panic") && table.contains(" 17 "), "{table}");
    let json: Value = serde_json::from_str(&good(home.path(), &["ls", "--losses", "-o", "json"])).unwrap();
    assert_eq!((&json["kind"], &json["exchanges"]), (&Value::from("loss"), &Value::from(17)));
}
