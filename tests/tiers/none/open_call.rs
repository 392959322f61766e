//! A gRPC call of both directions that stays open: its messages are told while it lasts, and it costs no memory.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nodetap_tests::process::Process;
use nodetap_tests::proxy::Proxy;
use nodetap_tests::wait::DEADLINE;
use nodetap_tests::{memory, nodetap, origin, records};

/// Bytes of a message beyond its number.
const SIZE: usize = 10_000;
/// How long the long call is open.
const LONG: Duration = Duration::from_secs(60);
/// After which its memory is first looked at.
const SETTLED: Duration = Duration::from_secs(10);
/// The most that may pass between a message's sending and its being told.
const SOON: Duration = Duration::from_secs(1);
/// Bytes that nodetap may have grown by, of some 10 MB that went through.
const GROWTH: u64 = 4 << 20;

/// `nodetap tail -o json`, line by line.
struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Tail {
    fn of(proxy: &Proxy) -> Self {
        let mut command = nodetap::command(&["tail", "-o", "json", "--lines", "0", "--from"]);
        let mut child = command.arg(proxy.out()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Waits for the text of a message of this side.
    fn tells(&self, from: &str, text: &str) {
        loop {
            let record = records::parse(&self.lines.recv_timeout(DEADLINE).unwrap()).unwrap();
            assert_eq!(record["kind"], "message", "the call is over: {record}");
            if record["from"] == from && record["body"]["text"].as_str() == Some(text) {
                return;
            }
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was seen of an open call.
#[derive(Debug, Default)]
struct Measured {
    messages: usize,
    /// The longest between a message's sending and its answer's being told.
    delay: Duration,
    /// Resident bytes, when it had settled and at most after that.
    settled: u64,
    most: u64,
}

/// Sends messages one after the other, each when the one before and its answer were told: `rounds`, and then until
/// `length` has passed.
fn call(rounds: usize, length: Duration) -> Measured {
    let (_server, port) = origin::serving("grpc_peer.py").unwrap();
    let proxy = Proxy::before(([127, 0, 0, 1], port).into()).unwrap();
    let mut command = origin::python("grpc_peer.py").unwrap();
    let mut client = Process::start(command.args(["stay", &proxy.address().to_string(), "-"])).unwrap();
    let (tail, begin) = (Tail::of(&proxy), Instant::now());
    let mut measured = Measured::default();
    while measured.messages < rounds || begin.elapsed() < length {
        let text = format!("{}{}", measured.messages, "x".repeat(SIZE));
        let answer: String = text.chars().rev().collect();
        let sent = Instant::now();
        client.write(format!("{text}\n").as_bytes()).unwrap();
        tail.tells("client", &text);
        tail.tells("server", &answer);
        // The first one waits for Python and for the connection.
        if measured.messages > 0 {
            measured.delay = measured.delay.max(sent.elapsed());
        }
        measured.messages += 1;
        let resident = memory::resident(proxy.process.pid()).unwrap();
        if begin.elapsed() < SETTLED {
            measured.settled = resident;
        }
        measured.most = measured.most.max(resident);
    }
    assert_eq!(client.finish().unwrap().code(), 0);
    measured
}

#[test]
fn what_an_open_call_says_is_told_by_tail_meanwhile() {
    assert_eq!(call(5, Duration::ZERO).messages, 5);
}

#[test]
#[ignore = "it takes a minute and looks at the clock: `cargo xtask soak` runs it"]
fn a_call_that_is_open_for_a_minute_is_told_within_a_second_and_costs_no_memory() {
    let measured = call(1, LONG);
    eprintln!("{measured:?}, grown by {} KiB", measured.most.saturating_sub(measured.settled) / 1024);
    assert!(measured.delay <= SOON, "{measured:?}");
    assert!(measured.most - measured.settled <= GROWTH, "{measured:?}");
}
