//! hyper's client and hyper's server, as they hold a conversation that both know beforehand. Each fails when what it sees
//! is not what the other one sent; what is recorded of it is not known here.

use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use super::plan::{Content, Conversation, Fate, Pieces, Turn, Wire};
use super::wire::{Between, Log};

/// How many turns of everybody else a client waits until it gives up.
const PATIENCE: usize = 100;

/// Holds the conversation, and returns what passed between the two.
pub(super) async fn held(conversation: &Arc<Conversation>) -> Log {
    let (between, client, server) = Between::start();
    let served = tokio::spawn(serve(Arc::clone(conversation), server));
    match conversation.wire {
        Wire::Http1 => one_after_the_other(conversation, client).await,
        Wire::Http2 => all_at_once(conversation, client).await,
    }
    let log = between.log().await;
    served.await.unwrap();
    log
}

async fn serve(conversation: Arc<Conversation>, wire: DuplexStream) {
    let kind = conversation.wire;
    let odd = conversation.turns.len() % 2 == 1;
    let service = service_fn(move |request| answer(Arc::clone(&conversation), request));
    // What goes wrong here goes wrong on purpose, or the client says so.
    match kind {
        Wire::Http1 => {
            let mut builder = hyper::server::conn::http1::Builder::new();
            drop(builder.title_case_headers(odd).serve_connection(TokioIo::new(wire), service).await);
        }
        Wire::Http2 => {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.max_frame_size(if odd { 50_000 } else { 16_384 });
            drop(builder.serve_connection(TokioIo::new(wire), service).await);
        }
    }
}

async fn answer(
    conversation: Arc<Conversation>,
    request: Request<Incoming>,
) -> Result<Response<Pieces>, std::io::Error> {
    let number: usize = request.uri().path().trim_start_matches('/').parse().unwrap();
    let turn = &conversation.turns[number];
    let (head, body) = request.into_parts();
    match turn.fate {
        Fate::Left => {
            // Who does not read on does not hear that the client has gone.
            drop(body.collect().await);
            std::future::pending().await
        }
        Fate::Failed => return Err(std::io::ErrorKind::Other.into()),
        Fate::Early => drop(body),
        // Some answers begin before the request is whole.
        Fate::Answered if conversation.wire == Wire::Http2 && number.is_multiple_of(3) => {
            let again = Arc::clone(&conversation);
            tokio::spawn(async move { saw(&head.headers, body, &again.turns[number].request).await });
        }
        Fate::Answered | Fate::Broken | Fate::Enough => saw(&head.headers, body, &turn.request).await,
    }
    let broken = turn.fate == Fate::Broken;
    let mut response = Response::new(if broken { turn.response.broken() } else { turn.response.body() });
    *response.status_mut() = turn.status;
    *response.headers_mut() = turn.response.fields.clone();
    Ok(response)
}

async fn saw(head: &HeaderMap, body: Incoming, sent: &Content) {
    let body = body.collect().await.unwrap();
    let of_ours = |map: &HeaderMap, prefix: char| {
        let all: Vec<_> = map.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        all.into_iter().filter(|(name, _)| name.as_str().starts_with(&format!("{prefix}-"))).collect::<Vec<_>>()
    };
    assert_eq!(of_ours(head, 'x'), of_ours(&sent.fields, 'x'));
    assert_eq!(of_ours(body.trailers().unwrap_or(&HeaderMap::new()), 't'), of_ours(&sent.trailers, 't'));
    assert_eq!(body.to_bytes(), sent.bytes());
}

fn request(turn: &Turn, uri: String) -> Request<Pieces> {
    let mut request = Request::new(turn.request.body());
    *request.method_mut() = turn.method.clone();
    *request.uri_mut() = uri.parse().unwrap();
    *request.version_mut() = turn.version;
    *request.headers_mut() = turn.request.fields.clone();
    request
}

async fn one_after_the_other(conversation: &Conversation, wire: DuplexStream) {
    let mut builder = http1::Builder::new();
    builder.title_case_headers(conversation.turns.len().is_multiple_of(2));
    let (mut sender, driver) = builder.handshake(TokioIo::new(wire)).await.unwrap();
    let driven = tokio::spawn(driver);
    for (number, turn) in conversation.turns.iter().enumerate() {
        sender.ready().await.unwrap();
        let mut request = request(turn, format!("/{number}"));
        request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("peers.example"));
        see(turn, sender.send_request(request)).await;
    }
    drop(sender);
    drop(driven.await.unwrap());
}

async fn all_at_once(conversation: &Arc<Conversation>, wire: DuplexStream) {
    let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await.unwrap();
    tokio::spawn(driver);
    let mut asked = JoinSet::new();
    for number in 0..conversation.turns.len() {
        let (mut sender, conversation) = (sender.clone(), Arc::clone(conversation));
        asked.spawn(async move {
            let turn = &conversation.turns[number];
            sender.ready().await.unwrap();
            see(turn, sender.send_request(request(turn, format!("http://peers.example/{number}")))).await;
        });
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }
}

/// Waits for the answer as long as the turn says, and looks at it.
async fn see(turn: &Turn, answer: impl Future<Output = hyper::Result<Response<Incoming>>>) {
    if turn.fate == Fate::Left {
        tokio::pin!(answer);
        for _ in 0..PATIENCE {
            tokio::select! {
                biased;
                _ = &mut answer => unreachable!("it is never answered"),
                () = tokio::task::yield_now() => {}
            }
        }
        return;
    }
    let response = match answer.await {
        Ok(response) => response,
        Err(error) => return assert!(matches!(turn.fate, Fate::Failed | Fate::Broken), "{error}: {turn:?}"),
    };
    assert_eq!(response.status(), turn.status);
    let (head, body) = response.into_parts();
    match turn.fate {
        Fate::Answered | Fate::Early => saw(&head.headers, body, &turn.response).await,
        Fate::Broken => assert!(body.collect().await.is_err()),
        Fate::Enough => drop(body),
        Fate::Left | Fate::Failed => unreachable!("it was answered: {turn:?}"),
    }
}
