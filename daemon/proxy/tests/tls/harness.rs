//! A running engine, certificates, and peers that speak TLS on blocking sockets.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use nodetap_core::exchange::{Connection, ConnectionSummary, Direction, Event, Exchange, Target, Via};
use nodetap_proxy::engine::{Engine, Group, GroupLimits, Served, Settings};
use nodetap_proxy::sink::Sink;
use nodetap_proxy::steering::{Arrival, Destination, Steering, Stray};
use nodetap_proxy::tap::Limits;
use nodetap_proxy::tls::{Authority, Outbound, Pair, Policy};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An authority of a test.
pub(crate) struct Ca {
    pub(crate) pem: String,
    pub(crate) key: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        let (text, issuer) = (key.serialize_pem(), Issuer::new(params, key));
        Self { pem, key: text, issuer }
    }

    /// A certificate for these names, and its key, as PEM.
    pub(crate) fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        self.issue_for(names, key)
    }

    pub(crate) fn issue_for(&self, names: &[&str], key: KeyPair) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::from_pem(self.pem.as_bytes(), self.key.as_bytes(), UnixTime::now()).unwrap()
    }

    /// A server's settings, for `site.test` and the loopback address.
    pub(crate) fn server(&self, alpn: &[&str]) -> ServerConfig {
        let (chain, key) = self.issue(&["site.test", "other.test", "127.0.0.1"]);
        with_alpn(server(&chain, &key), alpn)
    }
}

pub(crate) fn server(chain: &str, key: &str) -> ServerConfig {
    ServerConfig::builder().with_no_client_auth().with_single_cert(certificates(chain), private(key)).unwrap()
}

pub(crate) fn with_alpn(mut config: ServerConfig, alpn: &[&str]) -> ServerConfig {
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

pub(crate) fn private(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A client's settings that trust this authority alone.
pub(crate) fn client(ca: &Ca, alpn: &[&str]) -> ClientConfig {
    let mut config = ClientConfig::builder().with_root_certificates(ca.roots()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// An outbound policy with `ours` towards clients, that trusts servers of `theirs`.
pub(crate) fn opening(ours: &Ca, theirs: &Ca, identity: Option<(String, String)>) -> Policy {
    let identity = identity.map(|(chain, key)| Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap());
    Policy::Open(Arc::new(Outbound::new(ours.authority(), theirs.roots(), identity).unwrap()))
}

/// What was recorded.
#[derive(Default)]
pub(crate) struct Recorded {
    events: Mutex<Vec<Event>>,
    passed: Mutex<Vec<&'static str>>,
}

impl Sink for Recorded {
    fn record(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn lost(&self, reason: &'static str, _: u64, _: u64) {
        panic!("lost: {reason}");
    }

    fn passed_through(&self, reason: &'static str) {
        self.passed.lock().unwrap().push(reason);
    }
}

/// Sends everything to one upstream, with one policy.
struct Everything {
    upstream: SocketAddr,
    policy: Policy,
    dialled: AtomicU64,
}

impl Steering for Everything {
    fn destination(&self, arrival: &Arrival) -> Result<Destination, Stray> {
        let connection = Connection {
            id: arrival.id,
            direction: Direction::Outbound,
            via: Via::Transparent,
            target: Target::command("test"),
            container: None,
            process: None,
            client: arrival.client,
            client_name: None,
            server: self.upstream,
            server_name: None,
            accepted: arrival.at,
        };
        let connection = Arc::new(connection);
        Ok(Destination { connection, dial: self.upstream, source: None, tag: 0, tls: self.policy.clone() })
    }

    fn connected(&self, _: &Destination, _: SocketAddr) {
        self.dialled.fetch_add(1, Ordering::Relaxed);
    }
}

/// A running engine in front of one upstream.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    served: Served,
    /// Dropped last.
    _engine: Engine,
    recorded: Arc<Recorded>,
    steering: Arc<Everything>,
}

/// What an engine has left behind.
pub(crate) struct Left {
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) connections: Vec<ConnectionSummary>,
    pub(crate) passed: Vec<&'static str>,
    /// Upstream connections that were made.
    pub(crate) dialled: u64,
}

impl Proxy {
    pub(crate) fn start(upstream: SocketAddr, policy: Policy) -> Self {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let recorded = Arc::new(Recorded::default());
        let steering = Arc::new(Everything { upstream, policy, dialled: AtomicU64::new(0) });
        let settings = Settings { workers: 2, limits: Limits::default() };
        let group = Group {
            steering: Arc::clone(&steering) as Arc<dyn Steering>,
            sink: Arc::clone(&recorded) as Arc<dyn Sink>,
            limits: GroupLimits::default(),
        };
        let mut seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let engine = Engine::start(settings, move || {
            seed += 1;
            seed
        })
        .unwrap();
        let served = engine.serve(vec![listener], group).unwrap();
        Self { address, served, _engine: engine, recorded, steering }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// TLS with `name` through it; the handshake happens with the first bytes.
    pub(crate) fn tls(&self, config: &Arc<ClientConfig>, name: &str) -> Client {
        secured(self.connect(), config, name)
    }

    /// Waits until no connection is open.
    pub(crate) fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.served.open() > 0 {
            assert!(Instant::now() < deadline, "a connection stays open");
            std::thread::yield_now();
        }
    }

    pub(crate) fn passed(&self) -> Vec<&'static str> {
        self.recorded.passed.lock().unwrap().clone()
    }

    /// When all connections have ended.
    pub(crate) fn finish(self) -> Left {
        self.settle();
        let drained = self.served.drain(PATIENCE, || false);
        assert_eq!((drained.cut, drained.strays), (0, 0));
        let (mut exchanges, mut connections) = (Vec::new(), Vec::new());
        for event in self.recorded.events.lock().unwrap().drain(..) {
            match event {
                Event::Exchange(exchange) => exchanges.push(*exchange),
                Event::Connection(connection) => connections.push(*connection),
                other => panic!("{other:?}"),
            }
        }
        let (passed, dialled) = (self.recorded.passed.lock().unwrap().clone(), &self.steering.dialled);
        Left { exchanges, connections, passed, dialled: dialled.load(Ordering::Relaxed) }
    }
}

pub(crate) type Client = StreamOwned<ClientConnection, TcpStream>;
pub(crate) type Server = StreamOwned<ServerConnection, TcpStream>;

pub(crate) fn secured(stream: TcpStream, config: &Arc<ClientConfig>, name: &str) -> Client {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

pub(crate) fn listen() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// A server that has each connection handled on a thread of its own, for as long as the test runs.
pub(crate) fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || handle(stream));
        }
    });
    address
}

/// The same, with TLS.
pub(crate) fn serve_tls(config: ServerConfig, handle: impl Fn(Server) + Send + Sync + 'static) -> SocketAddr {
    let config = Arc::new(config);
    serve(move |stream| handle(StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream)))
}

/// Answers every HTTP/1.1 request (without a body) with `hello` until the client says goodbye.
pub(crate) fn hello(mut stream: impl Read + Write) {
    while read_head(&mut stream).is_ok() {
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").is_err() {
            return;
        }
        let _ = stream.flush();
    }
}

/// An HTTPS server that answers `hello`.
pub(crate) fn hello_tls(config: ServerConfig) -> SocketAddr {
    serve_tls(config, |mut stream| {
        hello(&mut stream);
        goodbye_server(stream);
    })
}

pub(crate) fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap())
}

/// One request; the body of its response.
pub(crate) fn get(stream: &mut (impl Read + Write)) -> io::Result<String> {
    stream.write_all(b"GET /path?q=1 HTTP/1.1\r\nhost: site.test\r\n\r\n")?;
    stream.flush()?;
    let head = read_head(stream)?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut body = [0; 5];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

/// close_notify, and then FIN.
pub(crate) fn goodbye(mut client: Client) {
    client.conn.send_close_notify();
    let _ = client.flush();
    let _ = client.sock.shutdown(Shutdown::Write);
    let _ = io::copy(&mut client.sock, &mut io::sink());
}

pub(crate) fn goodbye_server(mut server: Server) {
    server.conn.send_close_notify();
    let _ = server.flush();
    let _ = server.sock.shutdown(Shutdown::Write);
    let _ = io::copy(&mut server.sock, &mut io::sink());
}
