//! A server that resets in the middle of an answer without a length, while the request is still on its way: only the
//! reset tells the client that the answer is not whole.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};

use nodetap_tests::client::{self, Ending};
use nodetap_tests::process::{Process, Stream};
use nodetap_tests::run::Run;
use nodetap_tests::server::{self, Server};
use nodetap_tests::{machine, peers};

use crate::support::python;

/// Uploads until neither side of the way takes more, says so, and prints how the answer ends.
const UPLOADS: &str = "import select, socket, sys\n\
    s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
    s.sendall(b'POST / HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 1000000000\\r\\n\\r\\n')\n\
    print(s.recv(24, socket.MSG_WAITALL)); s.setblocking(False)\n\
    while select.select([], [s], [], 0.3)[1]: s.send(bytes(65536))\n\
    print('full', flush=True); s.setblocking(True)\n\
    try: print('end', s.recv(100))\n\
    except OSError as error: print(error)\n";

/// Runs the client until its end; the server resets as soon as nothing moves any more.
fn hears(client: &mut Process, reset: &mpsc::Sender<()>) -> String {
    client.line(Stream::Out, "that nothing moves", |line| (line == "full").then_some(())).unwrap();
    reset.send(()).unwrap();
    client.finish().unwrap().text()
}

#[test]
fn a_program_that_uploads_hears_the_reset_of_an_answer_without_a_length() {
    let _machine = machine::shared();
    let (reset, resets) = mpsc::channel();
    let resets = Mutex::new(resets);
    let server = Server::start("127.0.0.1:0", move |mut stream| {
        nodetap_tests::http::read_head(&mut stream);
        stream.write_all(server::BEGUN).unwrap();
        resets.lock().unwrap().recv().unwrap();
        server::reset(stream);
    })
    .unwrap();
    let uploads = || python(UPLOADS, &[&server.address().port().to_string()]);
    let expected = hears(&mut Process::start(&mut uploads()).unwrap(), &reset);
    assert!(expected.ends_with("full\n[Errno 104] Connection reset by peer\n"), "{expected}");
    let mut run = Run::start(&uploads()).unwrap();
    assert_eq!(hears(&mut run.process, &reset), expected);
    let exchanges = run.exchanges().unwrap();
    assert_eq!(exchanges.len(), 1, "{exchanges:?}");
    assert_eq!(exchanges[0]["outcome"], "server_aborted", "{exchanges:?}");
}

/// Answers a part, waits for a line on its standard input, and resets.
const RESETS: &str = "import socket, struct, sys\n\
    l = socket.create_server(('127.0.0.1', 0)); print('port', l.getsockname()[1], flush=True)\n\
    s, _ = l.accept(); heard = b''\n\
    while b'\\r\\n\\r\\n' not in heard: heard += s.recv(1)\n\
    s.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\nbegun'); sys.stdin.readline()\n\
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close(); sys.stdin.readline()\n";

/// Uploads to the server of this process, has it reset, and says what was heard after the beginning.
fn heard_of(server: &mut Process) -> (Vec<u8>, Ending) {
    let address = SocketAddr::from(([127, 0, 0, 1], peers::port(server).unwrap()));
    let mut stream = client::connect(address).unwrap();
    client::upload_until_full(&mut stream, server::BEGUN.len()).unwrap();
    server.write(b"reset\n").unwrap();
    client::drain(&mut stream).unwrap()
}

#[test]
fn a_caller_that_uploads_hears_the_reset_of_an_answer_without_a_length() {
    let _machine = machine::shared();
    let expected = heard_of(&mut Process::start(&mut python(RESETS, &[])).unwrap());
    assert_eq!(expected, (Vec::new(), Ending::Reset));
    let mut run = Run::start(&python(RESETS, &[])).unwrap();
    assert_eq!(heard_of(&mut run.process), expected);
    assert_eq!(run.finish().unwrap().code(), 0);
    let exchanges = run.exchanges().unwrap();
    assert_eq!(exchanges.len(), 1, "{exchanges:?}");
    assert_eq!(exchanges[0]["outcome"], "server_aborted", "{exchanges:?}");
}
