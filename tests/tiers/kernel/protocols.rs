//! Conversations that are not a request and its answer, held by real programs under a run: in each the program must see
//! what it sees without.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use nodetap_tests::client::{Ending, connect, drain};
use nodetap_tests::process::{Finished, Process};
use nodetap_tests::run::Run;
use nodetap_tests::server::{self, Server};
use nodetap_tests::{machine, peers};

use crate::support::{direct, program, python, under_run};

/// Runs a client directly and under a run; both must end alike and print the same.
fn both(client: &std::process::Command, input: &[u8]) -> (Finished, Run) {
    let expected = direct(client, input);
    let (finished, run) = under_run(client, input);
    assert_eq!((finished.code(), finished.text()), (expected.code(), expected.text()), "{}", finished.err);
    (finished, run)
}

#[test]
fn netcat_closes_its_half_and_gets_the_whole_answer() {
    let _machine = machine::shared();
    let server = Server::start("127.0.0.1:0", |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        request.reverse();
        stream.write_all(&request).unwrap();
    })
    .unwrap();
    let port = server.address().port().to_string();
    let (finished, run) = both(&program("nc.openbsd", &["-N", "127.0.0.1", &port]), b"desserts");
    assert_eq!(finished.text(), "stressed");
    let records = nodetap_tests::records::records(run.out()).unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["kind"], "connection");
    assert_eq!((&records[0]["bytes"]["sent"], &records[0]["bytes"]["received"]), (&8.into(), &8.into()), "{records:?}");
}

#[test]
fn a_greeting_is_heard_before_a_word_is_said() {
    let _machine = machine::shared();
    for greeting in [&b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"[..], b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0\n"] {
        let server = Server::start("127.0.0.1:0", move |mut stream| {
            stream.write_all(greeting).unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).unwrap();
            stream.write_all(b"bye\n").unwrap();
        })
        .unwrap();
        let text = "import socket, sys\n\
                    s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); print(s.recv(100))\n\
                    s.sendall(b'user'); print(s.recv(100), s.recv(100))\n";
        both(&python(text, &[&server.address().port().to_string()]), b"");
    }
}

const SEES_THE_END: &str = "import socket, sys\n\
    s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n\
    print(s.recv(100)); s.sendall(b'!')\n\
    try: print('end', s.recv(100))\n\
    except OSError as error: print(error)\n";

#[test]
fn a_reset_and_a_close_in_the_middle_of_an_answer_are_seen_as_what_they_are() {
    let _machine = machine::shared();
    for (reset, expected) in [(true, "Connection reset by peer"), (false, "end b''")] {
        let server = Server::start("127.0.0.1:0", move |mut stream| {
            nodetap_tests::http::read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            if reset {
                server::reset(stream);
            }
        })
        .unwrap();
        let (finished, run) = both(&python(SEES_THE_END, &[&server.address().port().to_string()]), b"");
        assert!(finished.text().contains(expected), "{finished:?}");
        let exchanges = run.exchanges().unwrap();
        // The byte after the request is the beginning of another one, for who reads along.
        let answered: Vec<_> = exchanges.iter().filter(|record| record["response"]["status"] == 200).collect();
        assert_eq!(answered.len(), 1, "{exchanges:?}");
        assert_eq!(answered[0]["outcome"], "server_aborted", "{exchanges:?}");
    }
}

/// A server that answers half, waits for a byte, and ends as its argument says.
const ENDS: &str = "import socket, struct, sys\n\
    l = socket.create_server(('127.0.0.1', 0)); print('port', l.getsockname()[1], flush=True)\n\
    while True:\n\
    \x20   s, _ = l.accept(); s.recv(65536); s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nhalf'); s.recv(1)\n\
    \x20   if sys.argv[1] == 'reset': s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n\
    \x20   s.close()\n";

#[test]
fn a_server_that_resets_or_closes_in_the_middle_is_heard_so_by_its_caller() {
    let _machine = machine::shared();
    for (how, expected) in [("reset", Ending::Reset), ("close", Ending::Closed)] {
        let mut run = Run::start(&python(ENDS, &[how])).unwrap();
        run.command_pid().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], peers::port(&run.process).unwrap()));
        let mut stream = connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut half = [0; 44];
        stream.read_exact(&mut half).unwrap();
        stream.write_all(b"!").unwrap();
        assert_eq!(drain(&mut stream).unwrap(), (Vec::new(), expected));
        run.stop().unwrap();
    }
}

/// A server that answers each byte with the next one.
const NEXT_BYTE: &str = "import socket\n\
    l = socket.create_server(('127.0.0.1', 0)); print('port', l.getsockname()[1], flush=True)\n\
    s, _ = l.accept(); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n\
    while b := s.recv(1): s.sendall(bytes([(b[0] + 1) % 256]))\n";

#[test]
fn bytes_that_come_one_at_a_time_arrive_at_once_and_as_they_are() {
    let _machine = machine::shared();
    let mut run = Run::start(&python(NEXT_BYTE, &[])).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], peers::port(&run.process).unwrap()));
    let mut stream = connect(address).unwrap();
    for byte in 0..=u8::MAX {
        let mut answer = [0];
        stream.write_all(&[byte]).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], byte.wrapping_add(1));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(drain(&mut stream).unwrap().1, Ending::Closed);
    assert_eq!(run.finish().unwrap().code(), 0);
}

#[test]
fn a_server_under_a_run_that_waits_for_the_end_of_the_request_hears_it() {
    let _machine = machine::shared();
    let text = "import socket\n\
        l = socket.create_server(('127.0.0.1', 0)); print('port', l.getsockname()[1], flush=True)\n\
        s, _ = l.accept(); all = b''\n\
        while b := s.recv(65536): all += b\n\
        s.sendall(all[::-1]); s.close()\n";
    let mut run = Run::start(&python(text, &[])).unwrap();
    let port = peers::port(&run.process).unwrap().to_string();
    let mut caller = Process::start(&mut program("nc.openbsd", &["-N", "127.0.0.1", &port])).unwrap();
    caller.write(b"desserts").unwrap();
    assert_eq!(caller.finish().unwrap().text(), "stressed");
    assert_eq!(run.finish().unwrap().code(), 0);
}
