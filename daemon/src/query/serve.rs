//! The server of an agent, for the controller: the records of one namespace out of the local folder, over mTLS.
//!
//! ```text
//! GET /exchanges?namespace=NS&…        the records that an [`Ask`] names; with watch=true, new ones until one of us goes
//! GET /exchanges/ID?namespace=NS       one record, with its messages
//! ```
//! Answers are streams of [`Item`]s; what goes wrong after the first byte is a notice among them.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::ask::Ask;
use super::body::{Body, WAITING, full, streamed};
use super::read::{self, Take, notice};
use super::wire::{Item, MEDIA_TYPE};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// Questions that read the folder at a time: each holds an index of it.
const PAGES: usize = 2;
/// Watches at a time; each is a thread that sleeps most of the time.
const WATCHES: usize = 32;
/// How long a question may wait for its turn.
const TURN: Duration = Duration::from_secs(10);
/// How long TLS and a request's head may take.
const HEAD: Duration = Duration::from_secs(10);
/// Pause after an `accept()` that failed.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that go out together.
const PIECE: usize = 64 << 10;

/// What is shared by all connections.
#[derive(Debug)]
struct Server {
    folder: PathBuf,
    pages: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

/// Serves for ever. Until `identity` holds something, whoever connects waits.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    folder: PathBuf,
    mut identity: watch::Receiver<Option<Arc<ServerConfig>>>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (pages, watches) = (Arc::new(Semaphore::new(PAGES)), Arc::new(Semaphore::new(WATCHES)));
    let server = Arc::new(Server { folder, pages, watches });
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        if identity.wait_for(Option::is_some).await.is_err() {
            return Ok(());
        }
        let Ok(place) = Arc::clone(&free).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "accept of a connection of the controller");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
        };
        let Some(config) = identity.borrow().clone() else { continue };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let _place = place;
            let stream = match tokio::time::timeout(HEAD, TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "whoever connected is not the controller"),
                Err(_) => return,
            };
            let service = service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(server.answer(&request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            // What goes wrong here is the controller's, and it knows.
            let _ = connection.await;
        });
    }
}

impl Server {
    async fn answer(self: &Arc<Self>, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET it");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        let id = match request.uri().path() {
            "/exchanges" => None,
            path => match path.strip_prefix("/exchanges/") {
                Some(id) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                    Some(id.to_owned())
                }
                _ => return text(StatusCode::NOT_FOUND, "there is only /exchanges"),
            },
        };
        let query = request.uri().query().unwrap_or_default();
        let parsed = Ask::parse(query, |_, _| Ok(false)).and_then(|ask| Ok((ask.filter(read::now())?, ask)));
        let (filter, ask) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
        };
        if ask.namespace.is_none() {
            return text(StatusCode::BAD_REQUEST, "namespace is missing");
        }
        let turn = if ask.watch { &self.watches } else { &self.pages };
        let Ok(Ok(turn)) = tokio::time::timeout(TURN, Arc::clone(turn).acquire_owned()).await else {
            let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "too many are asking");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            return response;
        };
        let (pieces_tx, pieces_rx) = mpsc::channel(WAITING);
        let server = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut pieces = Pieces { ready: Vec::new(), pieces: pieces_tx, _turn: turn };
            let result = match &id {
                Some(id) => read::find(&server.folder, id, &filter, &mut pieces),
                None => read::answer(&server.folder, &ask, &filter, &mut pieces),
            };
            if let Err(error) = result {
                tracing::warn!(%error, "records cannot be read for the controller");
                pieces.take(Item::Notice(notice("node_failed", error.to_string(), None)));
            }
            pieces.flush();
        });
        let mut response = Response::new(streamed(pieces_rx));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response
}

/// Hands over what was found, some of it at a time.
#[derive(Debug)]
struct Pieces {
    ready: Vec<u8>,
    pieces: mpsc::Sender<Bytes>,
    _turn: OwnedSemaphorePermit,
}

impl Take for Pieces {
    fn take(&mut self, item: Item) -> bool {
        if let Err(error) = item.encode(&mut self.ready) {
            let said = notice("node_limit", error.to_string(), None);
            // A notice is never too large.
            let _ = Item::Notice(said).encode(&mut self.ready);
        }
        if self.ready.len() < PIECE { true } else { self.flush() }
    }

    fn flush(&mut self) -> bool {
        let piece = std::mem::take(&mut self.ready);
        piece.is_empty() || self.pieces.blocking_send(piece.into()).is_ok()
    }

    fn is_wanted(&self) -> bool {
        !self.pieces.is_closed()
    }
}
