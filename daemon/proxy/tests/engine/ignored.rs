//! What a steering ignores passes as ever: no record, and no word to anybody but the steering.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nodetap_core::exchange::{Connection, Event, Target, Via};
use nodetap_proxy::engine::{Group, GroupLimits};
use nodetap_proxy::forward::names::Names;
use nodetap_proxy::sockets::Here;
use nodetap_proxy::steering::{
    Arrival, Destination, Explicit, Forward, Listener, OurOwn, Route, Serves, Steering, Stray,
};
use nodetap_proxy::tls::Policy;

use crate::harness::{Told, connect, engine, exchanges};

/// A proxy by hand that leaves one server alone.
struct But {
    explicit: Explicit,
    ignored: SocketAddr,
    settled: Mutex<Vec<bool>>,
}

impl Steering for But {
    fn destination(&self, arrival: &Arrival) -> Result<Destination, Stray> {
        self.explicit.destination(arrival)
    }

    fn route(&self, arrival: &Arrival) -> Result<Route, Stray> {
        self.explicit.route(arrival)
    }

    fn onward(&self, forward: &Forward, via: Via, to: SocketAddr) -> Result<Destination, OurOwn> {
        self.explicit.onward(forward, via, to)
    }

    fn ignores(&self, connection: &Connection) -> bool {
        connection.server == self.ignored
    }

    fn settled(&self, ignored: bool) {
        self.settled.lock().unwrap().push(ignored);
    }
}

/// Answers every request on a connection.
fn answering() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                while head(&stream).is_some() {
                    (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
                }
            });
        }
    });
    address
}

fn head(mut stream: &TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read(&mut byte).ok().filter(|read| *read == 1)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn ask(mut stream: &TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).unwrap();
    let head = head(stream).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    if head.to_ascii_lowercase().contains("content-length: 2") {
        stream.read_exact(&mut [0; 2]).unwrap();
    }
}

#[test]
fn what_is_ignored_passes_and_leaves_no_record_request_by_request() {
    let (engine, ignored, other) = (engine(2), answering(), answering());
    let listeners: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let serves = [Serves::Forward, Serves::Reverse(ignored)];
    let explicit = Explicit {
        listeners: addresses.iter().zip(serves).map(|(&address, serves)| Listener { address, serves }).collect(),
        target: Target::command("test"),
        sockets: Arc::new(Here),
        names: Arc::new(Names::beneath("/")),
        patience: Duration::from_secs(5),
        instance: "test".into(),
        tls_out: Policy::Untouched,
        tls_in: Policy::Untouched,
    };
    let steering = Arc::new(But { explicit, ignored, settled: Mutex::default() });
    let told = Arc::new(Told::default());
    let (steers, sink) = (Arc::clone(&steering), Arc::clone(&told));
    let served = engine.serve(listeners, Group { steering: steers, sink, limits: GroupLimits::default() }).unwrap();

    ask(&connect(addresses[1]), "GET /reverse HTTP/1.1\r\nHost: x\r\n\r\n");
    for to in [ignored, other] {
        let tunnel = connect(addresses[0]);
        ask(&tunnel, &format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"));
        ask(&tunnel, "GET /tunnel HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    // One connection, and each request goes where it likes.
    let kept = connect(addresses[0]);
    for (to, path) in
        [(ignored, "/quiet"), (other, "/told"), (ignored, "/quiet"), (other, "/told"), (ignored, "/quiet")]
    {
        ask(&kept, &format!("GET http://{to}{path} HTTP/1.1\r\nHost: {to}\r\n\r\n"));
    }
    // What goes nowhere does not go where the one before went.
    ask(&kept, &format!("OPTIONS http://{other}/nowhere HTTP/1.1\r\nHost: {other}\r\nMax-Forwards: 0\r\n\r\n"));
    // Whatever the proxy cannot read is taken for meant for the server before.
    let long = "y".repeat(70_000);
    (&kept).write_all(format!("GET http://{ignored}/quiet HTTP/1.1\r\nX: {long}\r\n\r\n").as_bytes()).unwrap();
    let refused = head(&kept).unwrap();
    assert!(refused.starts_with("HTTP/1.1 431 "), "{refused}");
    drop(kept);
    served.drain(Duration::from_secs(5), || false);

    let exchanges = exchanges(&told);
    let mut paths: Vec<_> = exchanges
        .iter()
        .map(|exchange| (String::from_utf8_lossy(&exchange.request.head).into_owned(), exchange.connection.server))
        .map(|(head, server)| (head.split(' ').nth(1).unwrap().rsplit('/').next().unwrap().to_owned(), server))
        .collect();
    paths.sort();
    let nowhere = paths.remove(0);
    assert!(nowhere.0 == "nowhere" && ![ignored, other].contains(&nowhere.1), "{nowhere:?}");
    let expected = ["told", "told", "tunnel"].map(|path| (path.to_owned(), other));
    assert_eq!(paths, expected);
    let events = told.events.lock().unwrap();
    assert!(!events.iter().any(|event| matches!(event, Event::Connection(_))), "{events:?}");
    let mut settled = steering.settled.lock().unwrap().clone();
    settled.sort_unstable();
    assert_eq!(settled, [false, true, true]);
}
