//! The recorder in trouble: a full disk, a reader that does not read, a body without end. Traffic does not notice, and
//! what is not recorded is counted.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nodetap_tests::folder::Folder;
use nodetap_tests::load::Load;
use nodetap_tests::peers::Peer;
use nodetap_tests::process::Process;
use nodetap_tests::run::{Options, Run};
use nodetap_tests::{client, http, machine, memory, peers, records};

use crate::support::{program, python, serving_with};

/// A file system of a mebibyte, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(folder: &Path) -> Self {
        let place = folder.join("disk");
        std::fs::create_dir(&place).unwrap();
        let mount =
            program("mount", &["-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", place.to_str().unwrap()]).status();
        assert!(mount.unwrap().success());
        Self(place)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(program("umount", &["-l", self.0.to_str().unwrap()]).status());
    }
}

/// Answers everything with 4 KiB on one connection each: enough to fill a mebibyte soon, and nothing that compresses.
const TALKATIVE: &str = "import http.server, os\n\
    class Handler(http.server.BaseHTTPRequestHandler):\n\
    \x20   def do_GET(self):\n\
    \x20       body = os.urandom(4096); self.send_response(200)\n\
    \x20       self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)\n\
    \x20   def log_message(self, *_): pass\n\
    class Server(http.server.ThreadingHTTPServer): request_queue_size = 128\n\
    server = Server(('127.0.0.1', 0), Handler)\n\
    print('port', server.server_port, flush=True); server.serve_forever()\n";

fn talkative(options: Options) -> (Run, SocketAddr) {
    let mut run = options.start(&python(TALKATIVE, &[])).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], peers::port(&run.process).unwrap()));
    run.command_pid().unwrap();
    (run, address)
}

/// At least `count` exchanges at two clients, all of them answered; returns how many there were.
fn answered(address: SocketAddr, count: usize) -> usize {
    let load = Load::start(2, address);
    load.attempts(count).unwrap();
    let attempts = load.stop().unwrap();
    let failures: Vec<_> = attempts.iter().filter_map(|attempt| attempt.failure.as_ref()).collect();
    assert!(failures.is_empty(), "{failures:?}");
    attempts.len()
}

/// How many records `nodetap ls --losses` says were lost.
fn lost(folder: &Path) -> u64 {
    let losses = records::losses(folder).unwrap();
    losses.iter().map(|loss| loss["exchanges"].as_u64().unwrap_or(0)).sum()
}

#[test]
fn a_full_disk_costs_records_that_are_counted_and_no_traffic() {
    let _machine = machine::shared();
    let folder = Folder::new().unwrap();
    let disk = SmallDisk::new(&folder);
    let out = disk.0.join("out");
    let (mut run, address) = talkative(Options::default().out(&out));
    let asked = answered(address, 1000);
    let finished = run.stop().unwrap();
    let lost = lost(&out);
    assert!(lost > 0, "{}", finished.err);
    assert!(
        finished.err.contains(&format!("lost {lost} records")),
        "{lost} were lost, and the end says: {}",
        finished.err
    );
    // Whatever is whole on the disk can be read, and nothing is missing that was not counted.
    let kept = records::exchanges(&out).unwrap().len();
    assert!(kept as u64 + lost >= asked as u64, "{asked} asked, {kept} kept, {lost} counted as lost");
}

#[test]
fn a_reader_that_does_not_read_costs_lines_that_are_counted_and_neither_traffic_nor_records() {
    let _machine = machine::shared();
    let folder = Folder::new().unwrap();
    let fifo = folder.join("lines");
    assert!(program("mkfifo", &[fifo.to_str().unwrap()]).status().unwrap().success());
    // Open for both, so that neither open waits; it is never read.
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let (mut run, address) = talkative(Options::default().option("--json").option(fifo.to_str().unwrap()));
    let asked = answered(address, 2000);
    let finished = run.stop().unwrap();
    drop(reader);
    assert!(finished.err.contains("lines were lost"), "{}", finished.err);
    let kept = run.exchanges().unwrap().len();
    assert!(kept >= asked, "{asked} asked, {kept} kept");
}

#[test]
fn a_store_at_its_limit_gives_up_its_oldest_segment_and_counts_it() {
    let _machine = machine::shared();
    let (mut run, address) = talkative(Options::default().option("--max-store").option("1MiB"));
    let asked = answered(address, 1000);
    run.stop().unwrap();
    let sizes = nodetap_tests::folder::files(run.out()).unwrap();
    let bytes: u64 = sizes.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes <= 2 << 20, "{bytes} bytes in {sizes:?}");
    let kept = run.exchanges().unwrap().len();
    let lost = lost(run.out());
    assert!(lost > 0 && kept > 0, "{kept} kept, {lost} counted as lost");
    assert!(kept as u64 + lost >= asked as u64, "{asked} asked, {kept} kept, {lost} counted as lost");
}

#[test]
fn a_gibibyte_out_of_a_server_under_a_run_takes_eight_mebibytes_of_memory() {
    let _machine = machine::alone();
    let text = "import socket\n\
        l = socket.create_server(('127.0.0.1', 0)); print('port', l.getsockname()[1], flush=True)\n\
        piece = bytes(1 << 20)\n\
        while True:\n\
        \x20   s, _ = l.accept(); s.recv(65536); s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % (1 << 30))\n\
        \x20   for _ in range(1024): s.sendall(piece)\n\
        \x20   s.close()\n";
    let mut run = Run::start(&python(text, &[])).unwrap();
    run.command_pid().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], peers::port(&run.process).unwrap()));
    let mut stream = client::connect(address).unwrap();
    let before = memory::resident(run.process.pid()).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    http::read_head(&mut stream).unwrap();
    let (mut left, mut most, mut buffer) = (1_usize << 30, 0, vec![0; 1 << 18]);
    while left > 0 {
        let read = std::io::Read::read(&mut stream, &mut buffer).unwrap();
        assert_ne!(read, 0, "{left} bytes are missing");
        left -= read;
        most = most.max(memory::resident(run.process.pid()).unwrap());
    }
    assert!(most < before + (8 << 20), "{before} bytes before, {most} at the most");
    run.stop().unwrap();
    assert_eq!(run.exchanges().unwrap()[0]["response"]["body"]["size"], 1_u64 << 30);
}

#[test]
fn the_har_of_a_run_holds_what_was_recorded() {
    let _machine = machine::shared();
    let folder = Folder::new().unwrap();
    let har = folder.join("all.har");
    let (mut run, address) = serving_with(
        Options::default().option("--har").option(har.to_str().unwrap()),
        Peer::C,
        "127.0.0.1",
        "127.0.0.1",
    );
    for number in 0..3 {
        http::get(address, &format!("/{number}")).unwrap();
    }
    run.stop().unwrap();
    let whole: serde_json::Value = serde_json::from_slice(&std::fs::read(&har).unwrap()).unwrap();
    assert_eq!(whole["log"]["version"], "1.2");
    assert_eq!(whole["log"]["entries"].as_array().unwrap().len(), 3, "{whole}");
    let export = nodetap_tests::nodetap::command(&["export", "--format", "har", "--from", run.out().to_str().unwrap()]);
    let exported = Process::start(&mut { export }).unwrap().finish().unwrap();
    let exported: serde_json::Value = serde_json::from_slice(&exported.out).unwrap();
    assert_eq!(exported["log"]["entries"], whole["log"]["entries"]);
}
