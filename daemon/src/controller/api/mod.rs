//! The aggregated API (`capture.nodetap.io`): the API server authenticates, asks RBAC, writes its audit log and passes the
//! request on to us; we show records of the namespace that stands in the path, and of no other.
//!
//! ```text
//! GET /apis/capture.nodetap.io/v1alpha1/namespaces/NS/exchanges        verb list; with ?watch=true verb watch
//! GET /apis/capture.nodetap.io/v1alpha1/namespaces/NS/exchanges/ID     verb get
//! ```
//! It refuses to know users and their rights.

mod documents;
mod exchanges;
mod route;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use self::documents::Refusal;
use self::route::Route;
use super::agents::Agents;
use super::front_proxy::{Caller, FrontProxy};
use super::metrics::Answers;
use crate::query::body::{Body, full};

/// Connections at a time; more wait in the kernel's queue. The API server keeps few and uses them long.
const CONNECTIONS: usize = 256;
/// How long TLS and a request's head may take.
const HEAD: Duration = Duration::from_secs(10);
/// Requests of one HTTP/2 connection at a time.
const STREAMS: u32 = 128;
/// Bytes of a request's head.
const HEADERS: u32 = 64 << 10;
/// Pause after an `accept()` that failed.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Pages that are put together at a time, and watches.
const PAGES: usize = 16;
const WATCHES: usize = 64;

/// What is needed to serve, as soon as it is there.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) serving: Arc<ServerConfig>,
    pub(super) asking: Arc<ClientConfig>,
    pub(super) front_proxy: Arc<FrontProxy>,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) ready: watch::Receiver<Option<Ready>>,
    pub(super) agents: watch::Receiver<Option<Agents>>,
    pages: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    answers: Answers,
}

impl Api {
    pub(super) fn new(
        ready: watch::Receiver<Option<Ready>>,
        agents: watch::Receiver<Option<Agents>>,
        answers: Answers,
    ) -> Self {
        let (pages, watches) = (Arc::new(Semaphore::new(PAGES)), Arc::new(Semaphore::new(WATCHES)));
        Self { ready, agents, pages, watches, answers }
    }

    /// Serves for ever. Until there is a certificate, whoever connects waits.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub(super) async fn serve(self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        let mut ready = self.ready.clone();
        let api = Arc::new(self);
        loop {
            let Ok(place) = Arc::clone(&free).acquire_owned().await else { return Ok(()) };
            if ready.wait_for(Option::is_some).await.is_err() {
                return Ok(());
            }
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "accept of a connection of the API server");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    continue;
                }
            };
            let Some(now) = ready.borrow().clone() else { continue };
            let api = Arc::clone(&api);
            tokio::spawn(async move {
                let _place = place;
                api.connection(stream, now).await;
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, ready: Ready) {
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(Arc::clone(&ready.serving));
        let stream = match tokio::time::timeout(HEAD, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "whoever connected is not the API server"),
            Err(_) => return,
        };
        let (_, session) = stream.get_ref();
        let http2 = session.alpn_protocol() == Some(b"h2");
        let certificate = session.peer_certificates().and_then(|chain| chain.first()).cloned().map(Arc::new);
        let service = service_fn(move |request: Request<Incoming>| {
            let (api, ready, certificate) = (Arc::clone(&self), ready.clone(), certificate.clone());
            async move {
                let response = api.answer(&request, &ready, certificate.as_deref()).await;
                api.answers.count(Route::of(request.uri().path()).word(), response.status());
                Ok::<_, Infallible>(response)
            }
        });
        // What goes wrong here is the API server's, and it knows.
        if http2 {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(HEADERS);
            builder.keep_alive_interval(Some(HEAD));
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEADERS as usize);
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        }
    }

    async fn answer(
        &self,
        request: &Request<Incoming>,
        ready: &Ready,
        certificate: Option<&CertificateDer<'static>>,
    ) -> Response<Body> {
        let path = request.uri().path();
        let route = Route::of(path);
        if let Route::Health { ready } = route {
            return self.health(ready);
        }
        let user = match ready.front_proxy.caller(certificate, request.headers()) {
            Caller::ApiServer(user) => user,
            Caller::Stranger(why) => {
                tracing::debug!(path, why, "a stranger is not answered");
                return refuse(&Refusal::new(StatusCode::UNAUTHORIZED, why));
            }
        };
        if request.method() != Method::GET {
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "records are read, and nothing else: GET them");
            let mut response = refuse(&refusal);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        tracing::debug!(user, path, "asked");
        let query = request.uri().query().unwrap_or_default();
        let answered = match route {
            Route::Exchanges { namespace } => {
                self.exchanges(namespace, query, request.headers(), Arc::clone(&ready.asking)).await
            }
            Route::Exchange { namespace, id } => {
                self.exchange(namespace, id, query, request.headers(), Arc::clone(&ready.asking)).await
            }
            Route::Groups => Ok(match documents::aggregated(accept(request.headers())) {
                Some((document, media_type)) => json(StatusCode::OK, &document, &media_type),
                None => json(StatusCode::OK, &documents::groups(), JSON),
            }),
            Route::Group => Ok(json(StatusCode::OK, &documents::group(), JSON)),
            Route::Resources => Ok(json(StatusCode::OK, &documents::resources(), JSON)),
            Route::Everywhere => {
                let text = "exchanges are read one namespace at a time: /namespaces/NS/exchanges";
                Err(Refusal::new(StatusCode::NOT_FOUND, text))
            }
            Route::Health { .. } | Route::Nothing => {
                Err(Refusal::new(StatusCode::NOT_FOUND, "the server could not find the requested resource"))
            }
        };
        answered.unwrap_or_else(|refusal| refuse(&refusal))
    }

    /// For the kubelet, which has no certificate: nothing is said but whether we can serve.
    fn health(&self, ready: bool) -> Response<Body> {
        let known = self.ready.borrow().is_some() && self.agents.borrow().is_some();
        let (code, text) = if known || !ready {
            (StatusCode::OK, "ok\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the agents are not known yet\n")
        };
        let mut response = Response::new(full(text));
        *response.status_mut() = code;
        response
    }
}

const JSON: &str = "application/json";

fn accept(headers: &HeaderMap) -> &str {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn json(code: StatusCode, document: &Value, media_type: &str) -> Response<Body> {
    let mut response = Response::new(full(document.to_string() + "\n"));
    *response.status_mut() = code;
    if let Ok(value) = HeaderValue::from_str(media_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

fn refuse(refusal: &Refusal) -> Response<Body> {
    let mut response = json(refusal.code, &refusal.document(), JSON);
    if let Some(seconds) = refusal.retry {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
