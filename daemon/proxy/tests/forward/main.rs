//! CONNECT over HTTP/2, with a client that is not ours: each stream is a tunnel, a connection and a record of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response, StatusCode};
use nodetap_core::exchange::{ConnectionSummary, Event, Outcome, Target, Via};
use nodetap_proxy::engine::{Engine, Group, GroupLimits, Served, Settings};
use nodetap_proxy::forward::names::Names;
use nodetap_proxy::sink::Sink;
use nodetap_proxy::sockets::Here;
use nodetap_proxy::steering::{Explicit, Listener, Serves};
use nodetap_proxy::tap::Limits;
use nodetap_proxy::tls::Policy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Records(Mutex<Vec<Event>>);

impl Sink for Records {
    fn record(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn lost(&self, reason: &'static str, _: u64, _: u64) {
        panic!("lost: {reason}");
    }
}

struct Proxy {
    served: Served,
    /// Dropped last.
    _engine: Engine,
    address: SocketAddr,
    records: Arc<Records>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let steering = Explicit {
            listeners: vec![Listener { address, serves: Serves::Forward }],
            target: Target::command("test"),
            sockets: Arc::new(Here),
            names: Arc::new(Names::beneath("/")),
            patience: DEADLINE,
            instance: "test".into(),
            tls_out: Policy::Untouched,
            tls_in: Policy::Untouched,
        };
        let records = Arc::new(Records::default());
        let sink = Arc::clone(&records) as Arc<dyn Sink>;
        let engine = Engine::start(Settings { workers: 1, limits: Limits::default() }, || 7).unwrap();
        let group = Group { steering: Arc::new(steering), sink, limits: GroupLimits::default() };
        let served = engine.serve(vec![listener], group).unwrap();
        Self { served, _engine: engine, address, records }
    }

    async fn client(&self) -> SendRequest<Bytes> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        client
    }

    /// What was recorded, once everything is over.
    fn records(self) -> Vec<ConnectionSummary> {
        self.served.drain(DEADLINE, || false);
        let events = std::mem::take(&mut *self.records.0.lock().unwrap());
        let summary = |event| match event {
            Event::Connection(summary) => *summary,
            other => panic!("{other:?}"),
        };
        events.into_iter().map(summary).collect()
    }
}

fn within_deadline(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.unwrap() });
}

async fn server<F: Future<Output = ()> + Send>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            serve(listener.accept().await.unwrap().0).await;
        }
    });
    address
}

async fn ask(client: &mut SendRequest<Bytes>, method: &str, to: &str) -> (Response<RecvStream>, SendStream<Bytes>) {
    let request = Request::builder().method(method).uri(to).body(()).unwrap();
    let (response, stream) = client.clone().ready().await.unwrap().send_request(request, false).unwrap();
    (response.await.unwrap(), stream)
}

async fn read(stream: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let piece = poll_fn(|cx| stream.poll_data(cx)).await?;
    if let Ok(piece) = &piece {
        stream.flow_control().release_capacity(piece.len()).unwrap();
    }
    Some(piece)
}

async fn read_all(stream: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = read(stream).await {
        all.extend_from_slice(&piece.unwrap());
    }
    all
}

#[test]
fn each_stream_is_a_tunnel_of_its_own() {
    within_deadline(async {
        let echo = server(|mut stream| async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all.reverse();
            stream.write_all(&all).await.unwrap();
        });
        let first = server(|mut stream| async move {
            stream.write_all(b"I speak first").await.unwrap();
        });
        let (echo, first) = tokio::join!(echo, first);
        let proxy = Proxy::start();
        let mut client = proxy.client().await;
        let (one, mut to_echo) = ask(&mut client, "CONNECT", &echo.to_string()).await;
        let (two, mut to_first) = ask(&mut client, "CONNECT", &first.to_string()).await;
        assert_eq!((one.status(), two.status()), (StatusCode::OK, StatusCode::OK));
        // Many times what a stream may have in flight.
        let body: Vec<u8> = (0..=255).cycle().take(2_000_000).collect();
        let mut one = one.into_body();
        let write = async {
            let mut rest = Bytes::from(body.clone());
            while !rest.is_empty() {
                to_echo.reserve_capacity(rest.len());
                let room = poll_fn(|cx| to_echo.poll_capacity(cx)).await.unwrap().unwrap();
                to_echo.send_data(rest.split_to(room.min(rest.len())), false).unwrap();
            }
            to_echo.send_data(Bytes::new(), true).unwrap();
        };
        let (mut echoed, ()) = tokio::join!(read_all(&mut one), write);
        echoed.reverse();
        assert!(echoed == body);
        assert_eq!(read_all(&mut two.into_body()).await, b"I speak first");
        to_first.send_data(Bytes::new(), true).unwrap();
        drop((client, one, to_echo, to_first));
        let mut records = proxy.records();
        records.sort_by_key(|record| record.bytes.sent);
        assert_eq!(records.len(), 2, "{records:?}");
        assert_eq!((records[0].connection.server, records[1].connection.server), (first, echo));
        assert_eq!((records[1].bytes.sent, records[1].bytes.received), (2_000_000, 2_000_000));
        assert!(records.iter().all(|record| record.connection.via == Via::ForwardConnect));
        assert_ne!(records[0].connection.id, records[1].connection.id);
    });
}

#[test]
fn a_client_that_goes_without_having_asked_for_anything_is_told_of() {
    within_deadline(async {
        let proxy = Proxy::start();
        drop(proxy.client().await);
        let records = proxy.records();
        let ends: Vec<_> = records.iter().map(|record| (record.outcome, record.detail.as_deref())).collect();
        let nothing = Some("The client closed without asking for anything.");
        assert_eq!(ends, [(Outcome::ClientAborted, nothing)]);
    });
}

#[test]
fn a_reset_on_either_side_is_a_reset_on_the_other() {
    within_deadline(async {
        let (told, mut tells) = tokio::sync::mpsc::channel(1);
        let server = server(move |mut stream| {
            let told = told.clone();
            async move {
                let mut order = [0];
                stream.read_exact(&mut order).await.unwrap();
                stream.write_all(&order).await.unwrap();
                if &order == b"r" {
                    stream.set_zero_linger().unwrap();
                } else {
                    let ended = stream.read(&mut order).await;
                    told.send(ended.map_err(|error| error.kind())).await.unwrap();
                }
            }
        })
        .await;
        let proxy = Proxy::start();
        let mut client = proxy.client().await;
        let (response, mut stream) = ask(&mut client, "CONNECT", &server.to_string()).await;
        stream.send_data(Bytes::from_static(b"r"), false).unwrap();
        let mut body = response.into_body();
        assert_eq!(read(&mut body).await.unwrap().unwrap(), "r");
        let reset = read(&mut body).await.unwrap().unwrap_err();
        assert_eq!(reset.reason(), Some(Reason::CONNECT_ERROR));
        drop((stream, body));
        let (response, mut stream) = ask(&mut client, "CONNECT", &server.to_string()).await;
        stream.send_data(Bytes::from_static(b"x"), false).unwrap();
        assert_eq!(read(&mut response.into_body()).await.unwrap().unwrap(), "x");
        stream.send_reset(Reason::CANCEL);
        let ended = tells.recv().await.unwrap();
        assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
        drop((client, stream));
        assert_eq!(proxy.records().len(), 2);
    });
}

#[test]
fn what_cannot_be_reached_or_is_no_connect_is_told_and_recorded() {
    within_deadline(async {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let proxy = Proxy::start();
        let own = proxy.address;
        let mut client = proxy.client().await;
        for (method, to, status, text) in [
            ("CONNECT", closed.to_string(), StatusCode::BAD_GATEWAY, "refused"),
            ("CONNECT", own.to_string(), StatusCode::LOOP_DETECTED, "itself"),
            ("CONNECT", "localhost:0".into(), StatusCode::BAD_REQUEST, "port"),
            ("GET", format!("http://{closed}/"), StatusCode::NOT_IMPLEMENTED, "HTTP/1.1"),
        ] {
            let (response, _stream) = ask(&mut client, method, &to).await;
            assert_eq!(response.status(), status, "{method} {to}");
            let said = String::from_utf8(read_all(&mut response.into_body()).await).unwrap();
            assert!(said.contains(text) && said.ends_with('\n'), "{said}");
        }
        drop(client);
        let outcomes: Vec<_> = proxy.records().into_iter().map(|record| record.outcome).collect();
        assert_eq!(outcomes, [Outcome::Refused, Outcome::Refused, Outcome::Malformed, Outcome::Refused]);
    });
}

#[test]
fn a_client_that_goes_takes_its_tunnels_with_it() {
    within_deadline(async {
        let (told, mut tells) = tokio::sync::mpsc::channel(1);
        let server = server(move |mut stream| {
            let told = told.clone();
            async move {
                stream.write_all(b"x").await.unwrap();
                let mut all = Vec::new();
                told.send(stream.read_to_end(&mut all).await.is_err()).await.unwrap();
            }
        })
        .await;
        let proxy = Proxy::start();
        let stream = TcpStream::connect(proxy.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake::<_>(stream).await.unwrap();
        let driven = tokio::spawn(async move { drop(connection.await) });
        let (response, _stream) = ask(&mut client, "CONNECT", &server.to_string()).await;
        assert_eq!(read(&mut response.into_body()).await.unwrap().unwrap(), "x");
        driven.abort();
        assert!(tells.recv().await.unwrap(), "the server saw an orderly end");
        drop(client);
        assert_eq!(proxy.records().len(), 1);
    });
}
