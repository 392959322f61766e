//! `GET /metrics`, and pages, over HTTP/1.1, on a thread and a runtime of its own: user traffic has others. It refuses to know what
//! the text says.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;

use super::Metrics;

/// Connections that are served at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may last: a scraper that is stuck takes nobody's place for good.
const CONNECTION: Duration = Duration::from_secs(300);
/// Pause after an `accept()` that failed.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen for metrics on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot serve metrics: {0}")]
    Start(#[from] io::Error),
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    /// This end --dropped--> the thread ends.
    _stop: oneshot::Sender<Infallible>,
    _thread: JoinHandle<()>,
}

impl Serving {
    /// # Errors
    /// When the address is taken, or no thread can be made.
    pub fn start(address: SocketAddr, metrics: Metrics) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).map_err(|source| Error::Listen { address, source })?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop_tx, stop_rx) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("nodetap-metrics".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    _ = stop_rx => {}
                    () = accept(listener, Arc::new(metrics)) => {}
                }
            });
        })?;
        Ok(Self { address, _stop: stop_tx, _thread: thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, metrics: Arc<Metrics>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot listen for metrics"),
    };
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&free).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "accept of a connection for metrics");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
        };
        let metrics = Arc::clone(&metrics);
        tokio::task::spawn_local(async move {
            let service =
                service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&request, &metrics))));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            // What goes wrong here is the scraper's, and it knows.
            let _ = tokio::time::timeout(CONNECTION, connection).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    if matches!(*request.method(), Method::GET | Method::HEAD)
        && let Some(said) = metrics.say(request.uri().path())
    {
        let mut response = Response::new(Full::from(said.text));
        *response.status_mut() = if said.well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let kind = if said.json { "application/json" } else { "text/plain; charset=utf-8" };
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
        return response;
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut response = Response::new(Full::from(metrics.render()));
            response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPEN_METRICS));
            response
        }
        (_, "/metrics") => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET it\n");
            response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "there is only /metrics\n"),
    }
}
