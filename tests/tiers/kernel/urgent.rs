//! Urgent data: a receiver that wants it in line finds it in its place of the stream, as without us.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use nodetap_tests::client::{Ending, connect, drain};
use nodetap_tests::process::Process;
use nodetap_tests::records::eventually_of_kind;
use nodetap_tests::run::Run;
use nodetap_tests::server::Server;
use nodetap_tests::{machine, peers};
use serde_json::Value;
use socket2::SockRef;

use crate::support::{direct, python, under_run};

fn is_of_seven_bytes(records: &[Value]) {
    assert_eq!(records.len(), 1, "{records:?}");
    let bytes = &records[0]["bytes"];
    assert_eq!((&bytes["sent"], &bytes["received"]), (&7.into(), &7.into()), "{records:?}");
}

#[test]
fn an_urgent_byte_of_the_program_arrives_in_its_place() {
    let _machine = machine::shared();
    let server = Server::start("127.0.0.1:0", |mut stream| {
        SockRef::from(&stream).set_out_of_band_inline(true).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        stream.write_all(&heard).unwrap();
    })
    .unwrap();
    let text = "import socket, sys\n\
        s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
        s.sendall(b'abc'); s.send(b'!', socket.MSG_OOB); s.sendall(b'def'); s.shutdown(socket.SHUT_WR)\n\
        while part := s.recv(100): print(part.decode(), end='')\n";
    let client = python(text, &[&server.address().port().to_string()]);
    assert_eq!(direct(&client, b"").text(), "abc!def");
    let (finished, run) = under_run(&client, b"");
    assert_eq!((finished.code(), finished.text().as_str()), (0, "abc!def"), "{finished:?}");
    is_of_seven_bytes(&nodetap_tests::records::records(run.out()).unwrap());
}

/// Sends everything back once it has heard the end.
const ECHOES: &str = "import socket\n\
    l = socket.create_server(('127.0.0.1', 0)); print('port', l.getsockname()[1], flush=True)\n\
    while True:\n\
    \x20   s, _ = l.accept(); s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1); heard = b''\n\
    \x20   while part := s.recv(100): heard += part\n\
    \x20   s.sendall(heard); s.close()\n";

fn echo_of_an_urgent_byte(port: u16) -> (Vec<u8>, Ending) {
    let mut stream = connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    stream.write_all(b"abc").unwrap();
    assert_eq!(SockRef::from(&stream).send_out_of_band(b"!").unwrap(), 1);
    stream.write_all(b"def").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    drain(&mut stream).unwrap()
}

#[test]
fn an_urgent_byte_of_a_caller_arrives_in_its_place() {
    let _machine = machine::shared();
    let plain = Process::start(&mut python(ECHOES, &[])).unwrap();
    let expected = echo_of_an_urgent_byte(peers::port(&plain).unwrap());
    assert_eq!(expected, (b"abc!def".to_vec(), Ending::Closed));
    let mut run = Run::start(&python(ECHOES, &[])).unwrap();
    assert_eq!(echo_of_an_urgent_byte(peers::port(&run.process).unwrap()), expected);
    is_of_seven_bytes(&eventually_of_kind(run.out(), "connection", 1).unwrap());
    run.stop().unwrap();
}
