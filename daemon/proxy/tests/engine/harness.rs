//! An engine, groups that pass everything on to one upstream, and what they told their sinks.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nodetap_core::exchange::{Connection, Direction, Event, Exchange, Target, Via};
use nodetap_proxy::engine::{Engine, Group, GroupLimits, Served, Settings};
use nodetap_proxy::sink::Sink;
use nodetap_proxy::steering::{Arrival, Destination, Steering, Stray};
use nodetap_proxy::tap::Limits;
use nodetap_proxy::tls::Policy;
use socket2::{Domain, Socket, Type};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn engine(workers: usize) -> Engine {
    let mut seed = 0;
    let seeds = move || {
        seed += 1;
        seed
    };
    Engine::start(Settings { workers, limits: Limits::default() }, seeds).unwrap()
}

/// What a group told its sink.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) lost: Mutex<Vec<&'static str>>,
    /// The next record is not taken: it panics instead.
    pub(crate) panics: AtomicBool,
}

impl Sink for Told {
    fn record(&self, event: Event) {
        assert!(!self.panics.swap(false, Ordering::Relaxed), "as a test wishes");
        self.events.lock().unwrap().push(event);
    }

    fn lost(&self, reason: &'static str, exchanges: u64, _: u64) {
        self.lost.lock().unwrap().extend((0..exchanges).map(|_| reason));
    }
}

/// Sends everything to one upstream, and counts the sockets that it made.
pub(crate) struct Everything {
    pub(crate) upstream: SocketAddr,
    pub(crate) target: &'static str,
    pub(crate) made: AtomicU64,
    /// The socket of this number is not made: it panics instead.
    pub(crate) panics_at: AtomicU64,
}

impl Steering for Everything {
    fn destination(&self, arrival: &Arrival) -> Result<Destination, Stray> {
        let connection = Connection {
            id: arrival.id,
            direction: Direction::Outbound,
            via: Via::Transparent,
            target: Target::command(self.target),
            container: None,
            process: None,
            client: arrival.client,
            client_name: None,
            server: self.upstream,
            server_name: None,
            accepted: arrival.at,
        };
        let (connection, tls) = (Arc::new(connection), Policy::Untouched);
        Ok(Destination { connection, dial: self.upstream, source: None, tag: 0, tls })
    }

    fn socket(&self, to: SocketAddr) -> std::io::Result<Socket> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        assert_ne!(number, self.panics_at.load(Ordering::Relaxed), "as a test wishes");
        Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)
    }
}

/// A group in front of one upstream.
pub(crate) struct Tunnels {
    pub(crate) served: Served,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) told: Arc<Told>,
    pub(crate) steering: Arc<Everything>,
}

impl Tunnels {
    pub(crate) fn open(engine: &Engine, upstream: SocketAddr, listeners: usize, limits: GroupLimits) -> Self {
        let listeners: Vec<_> = (0..listeners).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let told = Arc::new(Told::default());
        let steering = Arc::new(Everything {
            upstream,
            target: "test",
            made: AtomicU64::new(0),
            panics_at: AtomicU64::new(u64::MAX),
        });
        let group = Group { steering: Arc::clone(&steering) as _, sink: Arc::clone(&told) as _, limits };
        Self { served: engine.serve(listeners, group).unwrap(), addresses, told, steering }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.addresses[0])
    }
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends back what it gets.
pub(crate) fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

/// Takes everything and answers nothing.
pub(crate) fn drain() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut std::io::sink()));
        }
    });
    address
}

/// The same on one thread, however many connections there are.
pub(crate) fn swallow() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
            }
        });
    });
    address
}

pub(crate) fn exchanges(told: &Told) -> Vec<Exchange> {
    let events = told.events.lock().unwrap();
    let exchange = |event: &Event| match event {
        Event::Exchange(exchange) => Some((**exchange).clone()),
        _ => None,
    };
    events.iter().filter_map(exchange).collect()
}

/// Something goes there and comes back.
pub(crate) fn say(mut stream: &TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes())?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, text.as_bytes());
    Ok(())
}

pub(crate) fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is() {
        assert!(since.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A bar that is a time or a share of a processor: it is told always, and held against the clock only where the machine
/// has nothing else to do and `NODETAP_BARS` says so (`cargo xtask soak` does).
pub(crate) fn bar(met: bool, what: &str) {
    eprintln!("bar {}met: {what}", if met { "" } else { "not " });
    assert!(met || std::env::var_os("NODETAP_BARS").is_none(), "{what}");
}
