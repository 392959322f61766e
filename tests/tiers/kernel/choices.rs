//! What a program chose for its own end of a connection — an address, a port, a mark, a device — is what the other side
//! sees, as without us. Where we could not keep the choice, the connection is left alone and said to be.

use std::io::{Read, Write};
use std::process::Command;

use nodetap_tests::machine;
use nodetap_tests::netns::{Namespace, WIRE};
use nodetap_tests::peers;
use nodetap_tests::process::{Finished, Process};
use nodetap_tests::run::Options;
use nodetap_tests::server::Server;
use serde_json::Value;

use crate::support::{direct, program, python, under_run, without_ports};

/// A server that says where it is called from, and closes.
fn mirror() -> Server {
    Server::start("127.0.0.1:0", |mut stream| {
        let seen = format!("seen {}", stream.peer_addr().unwrap());
        stream.write_all(seen.as_bytes()).unwrap();
    })
    .unwrap()
}

/// Binds to `argv[2]:argv[3]` if there is an address or a port, marks with `argv[4]` unless it is 0.
const CALLS: &str = "import socket, sys\n\
    host, port, mark = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])\n\
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
    if mark: s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)\n\
    if host or port: s.bind((host, port))\n\
    s.connect(('127.0.0.1', int(sys.argv[1]))); print('own %s:%d' % s.getsockname())\n\
    while part := s.recv(100): print(part.decode())\n";

/// Calls directly and under a run, a server of its own each; both must see and say the same. Returns what was said, the
/// one record, and the port of the server that it is of.
fn called(choice: [&str; 3]) -> (Finished, Value, u16) {
    let calls = |server: &Server| {
        let mut arguments = vec![server.address().port().to_string()];
        arguments.extend(choice.map(str::to_owned));
        python(CALLS, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let expected = direct(&calls(&mirror()), b"");
    let server = mirror();
    let (finished, run) = under_run(&calls(&server), b"");
    assert_eq!(
        (finished.code(), without_ports(&finished.text(), &[])),
        (expected.code(), without_ports(&expected.text(), &[])),
        "{finished:?}"
    );
    let mut records = nodetap_tests::records::records(run.out()).unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    (finished, records.remove(0), server.address().port())
}

#[test]
fn a_client_that_binds_another_loopback_address_is_seen_from_there() {
    let _machine = machine::shared();
    let (finished, record, port) = called(["127.0.0.5", "0", "0"]);
    assert_eq!(without_ports(&finished.text(), &[]), "own 127.0.0.5:?\nseen 127.0.0.5:?\n", "{finished:?}");
    assert_eq!((&record["via"], &record["client"]["address"]), (&"transparent".into(), &"127.0.0.5".into()));
    assert_eq!((&record["server"]["address"], &record["server"]["port"]), (&"127.0.0.1".into(), &port.into()));
}

fn is_direct(record: &Value, port: u16) {
    assert_eq!((&record["kind"], &record["via"]), (&"connection".into(), &"direct".into()), "{record}");
    assert_eq!(record["client"]["address"], "127.0.0.1", "{record}");
    assert_eq!((&record["server"]["address"], &record["server"]["port"]), (&"127.0.0.1".into(), &port.into()));
    assert_eq!(record["outcome"], "passthrough", "{record}");
}

#[test]
fn a_client_that_chose_a_low_port_is_seen_from_it_and_recorded_as_direct() {
    let _machine = machine::shared();
    for address in ["", "127.0.0.1"] {
        let (finished, record, port) = called([address, "777", "0"]);
        assert_eq!(finished.text(), "own 127.0.0.1:777\nseen 127.0.0.1:777\n", "{finished:?}");
        is_direct(&record, port);
        assert_eq!(record["client"]["port"], 777, "{record}");
    }
}

#[test]
fn a_marked_socket_goes_its_own_way_and_is_recorded_as_direct() {
    let _machine = machine::shared();
    let (finished, record, port) = called(["", "0", "7"]);
    let seen = finished.text().lines().nth(1).unwrap().to_owned();
    is_direct(&record, port);
    // Nobody stood between: the server saw the very port that the program had.
    assert_eq!(finished.text().lines().next().unwrap().strip_prefix("own"), seen.strip_prefix("seen"), "{finished:?}");
}

/// Sends three bytes from a marked socket, hears five, and closes first or second.
const SENDS_THREE: &str = "import socket, sys\n\
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)\n\
    s.connect(('127.0.0.1', int(sys.argv[1]))); s.sendall(b'abc')\n\
    print(s.recv(5, socket.MSG_WAITALL))\n\
    if sys.argv[2] == 'first': s.shutdown(socket.SHUT_WR)\n\
    print(s.recv(1))\n";

#[test]
fn the_bytes_of_a_connection_that_went_past_us_are_those_of_the_program_whoever_closes_first() {
    let _machine = machine::shared();
    for order in ["first", "second"] {
        let server = Server::start("127.0.0.1:0", move |mut stream| {
            stream.read_exact(&mut [0; 3]).unwrap();
            stream.write_all(b"hello").unwrap();
            if order == "first" {
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            }
        })
        .unwrap();
        let client = python(SENDS_THREE, &[&server.address().port().to_string(), order]);
        let expected = direct(&client, b"").text();
        let (finished, run) = under_run(&client, b"");
        assert_eq!(finished.text(), expected, "{finished:?}");
        let records = nodetap_tests::records::records(run.out()).unwrap();
        assert_eq!(records.len(), 1, "{records:?}");
        let bytes = &records[0]["bytes"];
        assert_eq!((&bytes["sent"], &bytes["received"]), (&3.into(), &5.into()), "closes {order}: {records:?}");
    }
}

const BOUND: &str = "import socket, sys\n\
    l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())\n\
    l.bind((sys.argv[2], 0)); l.listen(); print('port', l.getsockname()[1], flush=True)\n\
    while True:\n\
    \x20   s, peer = l.accept(); s.recv(65536); body = f'{peer[0]} calls {s.getsockname()[0]}'.encode()\n\
    \x20   s.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%s' % (len(body), body))\n\
    \x20   s.close()\n";

#[test]
fn a_server_that_is_bound_to_a_device_is_reached_through_it_as_without_us() {
    let _machine = machine::shared();
    let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    here.join("10.7.0.1/24", &there, "10.7.0.2/24").unwrap();
    let called = |server: &Process| {
        let port = peers::port(server).unwrap();
        let curl: Command = program("curl", &["-sS", "-m", "10", &format!("http://10.7.0.1:{port}/")]);
        let finished = Process::start(&mut there.enter(&curl)).unwrap().finish().unwrap();
        (finished.code(), finished.text(), finished.err)
    };
    for address in ["0.0.0.0", "10.7.0.1"] {
        let server = python(BOUND, &[WIRE, address]);
        let plain = Process::start(&mut here.enter(&server)).unwrap();
        let expected = called(&plain);
        assert_eq!(expected, (0, "10.7.0.2 calls 10.7.0.1".to_owned(), String::new()));
        let mut run = Options::default().in_namespace(&here.file()).start(&server).unwrap();
        assert_eq!(called(&run.process), expected, "bound to {address}");
        run.stop().unwrap();
        assert_eq!(run.exchanges().unwrap(), Vec::<Value>::new(), "what is not steered is not claimed to be recorded");
    }
}
