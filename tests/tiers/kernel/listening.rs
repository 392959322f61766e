//! Servers under a run whose listening sockets come, go and share, and whose callers are many: none is turned away who
//! would not be without us, and all are recorded.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use nodetap_tests::process::Process;
use nodetap_tests::run::Run;
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{client, http, machine, peers};
use serde_json::Value;

use crate::support::{direct, python, under_run};

/// The paths of the exchanges of one direction.
fn paths<'a>(exchanges: &'a [Value], direction: &str) -> BTreeSet<&'a str> {
    let of = exchanges.iter().filter(|record| record["direction"] == direction);
    of.map(|record| record["request"]["url"].as_str().unwrap().splitn(4, '/').last().unwrap()).collect()
}

/// Answers, and closes after its client has.
const CLOSES_LAST: &str = "import socket\n\
    l = socket.create_server(('::1', 0), family=socket.AF_INET6); print('port', l.getsockname()[1], flush=True)\n\
    while True:\n\
    \x20   s, _ = l.accept()\n\
    \x20   while s.recv(65536): s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok')\n\
    \x20   s.close()\n";
const CALLS: usize = 3000;

/// Calls again and again, each time as soon as the time before is over; returns what went wrong.
fn closes_first(server: &Process) -> Vec<String> {
    let address = SocketAddr::new("::1".parse().unwrap(), peers::port(server).unwrap());
    let call = |number: usize| -> anyhow::Result<()> {
        let mut stream = client::connect(address)?;
        stream.write_all(format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())?;
        http::read_head(&mut stream).ok_or_else(|| anyhow::anyhow!("no head"))?;
        Ok(stream.read_exact(&mut [0; 2])?)
    };
    (0..CALLS).filter_map(|number| call(number).err().map(|error| format!("{number}: {error:#}"))).collect()
}

#[test]
fn three_thousand_short_calls_over_ipv6_whose_callers_close_first_all_succeed_and_are_recorded() {
    let _machine = machine::alone();
    let plain = Process::start(&mut python(CLOSES_LAST, &[])).unwrap();
    assert_eq!(closes_first(&plain), Vec::<String>::new());
    drop(plain);
    let mut run = Run::start(&python(CLOSES_LAST, &[])).unwrap();
    assert_eq!(closes_first(&run.process), Vec::<String>::new());
    run.stop().unwrap();
    let exchanges = run.exchanges().unwrap();
    assert_eq!((exchanges.len(), paths(&exchanges, "inbound").len()), (CALLS, CALLS));
    let wrong: Vec<&Value> = exchanges.iter().filter(|record| record["outcome"] != "complete").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Ten times forty sockets begin to listen on one endpoint at once, and all but one end at once. The last one serves,
/// and ends when it is asked to.
const CROWD: &str = "import signal, socket, threading\n\
    def made(port):\n\
    \x20   s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.bind(('127.0.0.1', port))\n\
    \x20   return s\n\
    def at_once(tasks):\n\
    \x20   barrier = threading.Barrier(len(tasks))\n\
    \x20   threads = [threading.Thread(target=lambda task=task: (barrier.wait(), task())) for task in tasks]\n\
    \x20   for thread in threads: thread.start()\n\
    \x20   for thread in threads: thread.join()\n\
    last = made(0); port = last.getsockname()[1]; crowd = [last]\n\
    for _ in range(10):\n\
    \x20   crowd += [made(port) for _ in range(40 - len(crowd))]\n\
    \x20   at_once([s.listen for s in crowd]); last = crowd.pop(); at_once([s.close for s in crowd]); crowd = [last]\n\
    print('port', port, flush=True)\n\
    while last.fileno() >= 0:\n\
    \x20   s, _ = last.accept(); closing = b'/close' in s.recv(65536)\n\
    \x20   if closing: last.close()\n\
    \x20   s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n'); s.close()\n\
    signal.pause()\n";

/// The address of a crowd that has come down to one.
fn last_of(crowd: &Process) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], peers::port(crowd).unwrap()))
}

#[test]
fn where_forty_sockets_listened_at_once_the_last_one_is_steered_and_its_end_is_a_refusal() {
    let _machine = machine::shared();
    let plain = Process::start(&mut python(CROWD, &[])).unwrap();
    http::get(last_of(&plain), "/close").unwrap();
    assert_eq!(client::connect(last_of(&plain)).unwrap_err().kind(), ErrorKind::ConnectionRefused);

    let mut run = Run::start(&python(CROWD, &[])).unwrap();
    let address = last_of(&run.process);
    let steered = || {
        http::get(address, "/").unwrap();
        (!run.exchanges().unwrap().is_empty()).then_some(())
    };
    eventually(DEADLINE, "a recorded exchange", steered).unwrap();
    http::get(address, "/close").unwrap();
    assert_eq!(client::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(!run.process.has_ended());
    run.stop().unwrap();
}

#[test]
fn what_calls_at_once_after_listeners_came_and_went_is_recorded_from_the_first_call_on() {
    let _machine = machine::shared();
    for round in 0..5 {
        let mut run = Run::start(&python(CROWD, &[])).unwrap();
        let address = last_of(&run.process);
        for path in ["/1", "/2", "/3", "/4", "/close"] {
            http::get(address, path).unwrap();
        }
        run.stop().unwrap();
        let exchanges = run.exchanges().unwrap();
        assert_eq!(paths(&exchanges, "inbound"), BTreeSet::from(["1", "2", "3", "4", "close"]), "round {round}");
    }
}

/// One thread asks its own server until it answers, another begins to listen once that has failed three times.
const POLLS: &str = "import http.server, socket, sys, threading, urllib.request\n\
    class Handler(http.server.BaseHTTPRequestHandler):\n\
    \x20   def do_GET(self): self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()\n\
    \x20   def log_message(self, *_): pass\n\
    server = http.server.ThreadingHTTPServer((sys.argv[1], 0), Handler, bind_and_activate=False)\n\
    server.allow_reuse_port = False; server.server_bind(); url = f'http://127.0.0.1:{server.server_port}/'\n\
    failed = threading.Semaphore(0)\n\
    def serve():\n\
    \x20   for _ in range(3): failed.acquire()\n\
    \x20   server.server_activate(); server.serve_forever()\n\
    threading.Thread(target=serve, daemon=True).start()\n\
    while True:\n\
    \x20   try: print('ready', urllib.request.urlopen(url + 'ready', timeout=10).status); break\n\
    \x20   except OSError: failed.release()\n\
    for number in range(5): print(urllib.request.urlopen(f'{url}{number}', timeout=10).status)\n";

#[test]
fn a_program_that_polls_for_its_own_server_is_recorded_from_the_moment_that_it_listens() {
    let _machine = machine::shared();
    for place in ["127.0.0.1", "0.0.0.0"] {
        let polls = python(POLLS, &[place]);
        let expected = direct(&polls, b"").text();
        assert_eq!(expected, format!("ready 200\n{}", "200\n".repeat(5)));
        let (finished, run) = under_run(&polls, b"");
        assert_eq!((finished.code(), &finished.text()), (0, &expected), "{finished:?}");
        let exchanges = run.exchanges().unwrap();
        for direction in ["inbound", "outbound"] {
            // The first that is answered may have been on its way, past us, when the server began to listen.
            let all = BTreeSet::from(["0", "1", "2", "3", "4"]);
            let answered: Vec<Value> =
                exchanges.iter().filter(|record| record["response"]["status"] == 200).cloned().collect();
            assert!(paths(&answered, direction).is_superset(&all), "{direction} at {place}: {exchanges:?}");
        }
    }
}
