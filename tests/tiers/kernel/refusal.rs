//! Destinations that cannot be had: the first connection is reset before a byte, the next ones are refused by the kernel
//! itself, as without us.

use std::net::SocketAddr;

use nodetap_tests::{machine, records};
use socket2::{Domain, Socket, Type};

use crate::support::{direct, python, under_run};

const CALLS_THREE_TIMES: &str = "import socket, sys\n\
    for _ in range(3):\n\
    \x20   s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)\n\
    \x20   try: s.connect((sys.argv[1], int(sys.argv[2])))\n\
    \x20   except OSError as error: print('connect', error.strerror); continue\n\
    \x20   try: print('read', s.recv(1))\n\
    \x20   except OSError as error: print('read', error.strerror)\n";

/// An address where nobody listens, and where nobody else can begin to as long as the socket is there.
fn closed(host: &str) -> (Socket, SocketAddr) {
    let address = SocketAddr::new(host.parse().unwrap(), 0);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    let bound = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, bound)
}

#[test]
fn the_first_connection_to_a_closed_port_is_reset_and_the_next_ones_are_refused() {
    let _machine = machine::shared();
    for host in ["127.0.0.1", "::1"] {
        let (_taken, closed) = closed(host);
        let closed = closed.port().to_string();
        let calls = python(CALLS_THREE_TIMES, &[host, &closed]);
        assert_eq!(direct(&calls, b"").text(), "connect Connection refused\n".repeat(3));
        let (finished, run) = under_run(&calls, b"");
        assert_eq!(
            finished.text(),
            "read Connection reset by peer\nconnect Connection refused\nconnect Connection refused\n",
            "{finished:?}"
        );
        let records = records::records(run.out()).unwrap();
        let refused: Vec<_> = records.iter().filter(|record| record["outcome"] == "refused").collect();
        assert_eq!(refused.len(), 3, "{records:?}");
        assert_eq!((&refused[0]["via"], &refused[1]["via"]), (&"transparent".into(), &"direct".into()), "{records:?}");
    }
}

#[test]
fn a_refused_destination_takes_no_other_one_with_it() {
    let _machine = machine::shared();
    let server = nodetap_tests::server::Server::answering("127.0.0.1:0", nodetap_tests::server::answer("ok")).unwrap();
    let (_taken, closed) = closed("127.0.0.1");
    let script = format!("curl -s http://{closed}/; curl -s http://{}/", server.address());
    let (finished, run) = under_run(&crate::support::program("sh", &["-c", &script]), b"");
    assert_eq!((finished.code(), finished.text().as_str()), (0, "ok"), "{finished:?}");
    let exchanges = run.exchanges().unwrap();
    assert_eq!(exchanges.len(), 1, "{exchanges:?}");
}
