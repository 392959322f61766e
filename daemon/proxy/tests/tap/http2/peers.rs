//! hyper's client and hyper's server speak through a pipe that the tap watches: random requests, many at a time, with
//! bodies, trailers and interleaved frames; some are given up by either. The exchanges must be what both peers sent,
//! which is what both of them saw.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nodetap_core::exchange::{Direction, Exchange, Message, Outcome};
use nodetap_core::head::{Fields, Head};
use nodetap_core::url;
use nodetap_proxy::tap::{End, Limits, Side};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::{JoinSet, LocalSet};

use crate::drive::{Dice, Player, exchanges, summaries};

const CONNECTIONS: u64 = 10;
const REQUESTS: u64 = 60;
/// Bytes kept of each body.
const KEPT: usize = 20_000;

/// A message as one peer sends it; made of a number, so that the other one knows what it must see.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    fields: HeaderMap,
    pieces: Vec<Bytes>,
    trailers: HeaderMap,
}

impl Content {
    fn of(number: u64, has_body: bool) -> Self {
        let dice = &mut Dice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let fields = fields(dice, "x");
        let count = if has_body { dice.roll(5) } else { 0 };
        let pieces = (0..count).map(|_| {
            let most = [1, 100, 5000, 40_000][dice.roll(4)];
            Bytes::from(vec![u8::try_from(dice.roll(256)).unwrap(); dice.roll(most) + 1])
        });
        let pieces = pieces.collect();
        let trailers = if has_body && dice.roll(3) == 0 { self::fields(dice, "t") } else { HeaderMap::new() };
        Self { fields, pieces, trailers }
    }

    fn body(&self) -> Pieces {
        let mut frames: VecDeque<_> = self.pieces.iter().cloned().map(Frame::data).collect();
        if !self.trailers.is_empty() {
            frames.push_back(Frame::trailers(self.trailers.clone()));
        }
        Pieces { frames, waits: true }
    }
}

fn fields(dice: &mut Dice, prefix: &str) -> HeaderMap {
    let mut map = HeaderMap::new();
    for _ in 0..dice.roll(6) {
        // Few names, so that the table is used; values from empty to long, some of them no ASCII.
        let name = HeaderName::from_bytes(format!("{prefix}-{}", dice.roll(4)).as_bytes()).unwrap();
        let letters: [&[u8]; 4] = [b"a", b"Z9~", b"\xfc", b"{\"x\"}"];
        let most = [0, 3, 20, 400][dice.roll(4)];
        let mut value = HeaderValue::from_bytes(&letters[dice.roll(4)].repeat(dice.roll(most + 1))).unwrap();
        value.set_sensitive(dice.roll(5) == 0);
        map.append(name, value);
    }
    map
}

/// A body that lets others have their turn before each piece.
struct Pieces {
    frames: VecDeque<Frame<Bytes>>,
    waits: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.waits = !self.waits;
        if self.waits {
            return Poll::Ready(self.frames.pop_front().map(Ok));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// The client gives it up before it is answered.
    Left,
    /// The server gives it up.
    Failed,
}

fn fate(number: u64) -> Fate {
    match number % 13 {
        3 => Fate::Left,
        7 => Fate::Failed,
        _ => Fate::Answered,
    }
}

fn method(number: u64) -> Method {
    [Method::GET, Method::POST, Method::HEAD, Method::PUT][usize::try_from(number % 4).unwrap()].clone()
}

fn request_content(number: u64) -> Content {
    Content::of(2 * number, matches!(method(number), Method::POST | Method::PUT))
}

fn response_content(number: u64) -> Content {
    Content::of(2 * number + 1, method(number) != Method::HEAD)
}

async fn check(head: &HeaderMap, body: Incoming, sent: &Content) {
    let body = body.collect().await.unwrap();
    let of_ours = |map: &HeaderMap, prefix: char| {
        let all: Vec<_> = map.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        all.into_iter().filter(|(name, _)| name.as_str().starts_with(prefix)).collect::<Vec<_>>()
    };
    assert_eq!(of_ours(head, 'x'), of_ours(&sent.fields, 'x'));
    assert_eq!(of_ours(body.trailers().unwrap_or(&HeaderMap::new()), 't'), of_ours(&sent.trailers, 't'));
    assert_eq!(body.to_bytes(), sent.pieces.concat());
}

async fn serve(request: Request<Incoming>) -> Result<Response<Pieces>, std::io::Error> {
    let number = request.uri().path().trim_start_matches('/').parse().unwrap();
    let (head, body) = request.into_parts();
    match fate(number) {
        Fate::Answered => {}
        Fate::Left => std::future::pending().await,
        Fate::Failed => return Err(std::io::ErrorKind::Other.into()),
    }
    let sent = request_content(number);
    // Some answers begin before the request is whole.
    if number % 3 == 0 {
        tokio::spawn(async move { check(&head.headers, body, &sent).await });
    } else {
        check(&head.headers, body, &sent).await;
    }
    let content = response_content(number);
    let mut response = Response::new(content.body());
    *response.headers_mut() = content.fields;
    Ok(response)
}

async fn ask(mut sender: SendRequest<Pieces>, number: u64) {
    let content = request_content(number);
    let mut request = Request::new(content.body());
    *request.method_mut() = method(number);
    *request.uri_mut() = format!("http://peers.example/{number}").parse().unwrap();
    *request.headers_mut() = content.fields;
    sender.ready().await.unwrap();
    let answer = sender.send_request(request);
    if fate(number) == Fate::Left {
        // Given up once it has been on its way for some turns.
        tokio::pin!(answer);
        for _ in 0..100 {
            tokio::select! {
                biased;
                _ = &mut answer => unreachable!("it is never answered"),
                () = tokio::task::yield_now() => {}
            }
        }
        return;
    }
    match answer.await {
        Ok(response) => {
            let (head, body) = response.into_parts();
            check(&head.headers, body, &response_content(number)).await;
        }
        Err(error) => assert_eq!(fate(number), Fate::Failed, "{error}"),
    }
}

/// Shows what passes before it passes on: so nothing is answered before it is shown.
async fn relay(
    from: Side,
    mut source: impl AsyncRead + Unpin,
    mut target: impl AsyncWrite + Unpin,
    player: Rc<RefCell<Player>>,
    mut dice: Dice,
) {
    let mut buffer = vec![0; 40_000];
    loop {
        let most = [1, 20, 3000, 40_000][dice.roll(4)];
        let count = source.read(&mut buffer[..most]).await.unwrap_or(0);
        if count == 0 {
            break;
        }
        player.borrow_mut().show(from, &buffer[..count]);
        if target.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    player.borrow_mut().end(from, End::Fin);
    let _ = target.shutdown().await;
}

async fn converse(connection: u64) -> Player {
    let limits = Limits { body: KEPT, waiting: 64 << 20, ..Limits::default() };
    let mut player = Player::new(Direction::Inbound, limits);
    player.skips = connection % 2 == 1;
    let player = Rc::new(RefCell::new(player));
    let (client, ours) = tokio::io::duplex(64 * 1024);
    let (theirs, server) = tokio::io::duplex(64 * 1024);
    let (from_client, to_client) = tokio::io::split(ours);
    let (from_server, to_server) = tokio::io::split(theirs);
    let up = relay(Side::Client, from_client, to_server, Rc::clone(&player), Dice(connection + 1));
    let down = relay(Side::Server, from_server, to_client, Rc::clone(&player), Dice(connection + 1000));
    let relays = [tokio::task::spawn_local(up), tokio::task::spawn_local(down)];
    let service = hyper::service::service_fn(serve);
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_frame_size([16_384, 50_000][usize::try_from(connection % 2).unwrap()])
        .serve_connection(TokioIo::new(server), service);
    tokio::spawn(served);
    let (sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(driver);
    let mut asked = JoinSet::new();
    for number in 0..REQUESTS {
        asked.spawn(ask(sender.clone(), connection * 1000 + number));
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }
    drop(sender);
    for relay in relays {
        relay.await.unwrap();
    }
    Rc::into_inner(player).unwrap().into_inner()
}

fn pairs(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

fn pairs_of(fields: Fields<'_>, prefix: u8) -> Vec<(String, Vec<u8>)> {
    fields
        .filter(|field| field.name.first() == Some(&prefix))
        .map(|field| (String::from_utf8(field.name.to_vec()).unwrap(), field.value.to_vec()))
        .collect()
}

fn assert_recorded(message: &Message, sent: &Content, what: &str) {
    assert_eq!(pairs_of(Head::parse(&message.head).fields(), b'x'), pairs(&sent.fields), "{what}");
    assert_eq!(pairs_of(Fields::of(&message.trailers), b't'), pairs(&sent.trailers), "{what}");
    let body = sent.pieces.concat();
    assert_eq!(message.body.size, body.len() as u64, "{what}");
    assert_eq!(message.body.kept, body[..body.len().min(KEPT)], "{what}");
}

#[test]
fn exchanges_equal_what_two_peers_of_another_make_saw() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for connection in 0..CONNECTIONS {
        let player = LocalSet::new().block_on(&runtime, converse(connection));
        let events = player.finish();
        assert!(summaries(&events).is_empty(), "{:?}", summaries(&events));
        let by_number: HashMap<u64, &Exchange> = exchanges(&events)
            .into_iter()
            .map(|exchange| (url::path(&url::of(exchange).text)[1..].parse().unwrap(), exchange))
            .collect();
        assert_eq!(by_number.len(), exchanges(&events).len());
        for number in (connection * 1000..).take(usize::try_from(REQUESTS).unwrap()) {
            let what = format!("request {number}, {}", method(number));
            let exchange = by_number[&number];
            let outcome = match fate(number) {
                Fate::Answered => Outcome::Complete,
                Fate::Left => Outcome::ClientAborted,
                Fate::Failed => Outcome::ServerAborted,
            };
            assert_eq!(exchange.outcome, outcome, "{what}: {:?}", exchange.detail);
            if outcome == Outcome::Complete {
                assert_eq!(exchange.detail, None, "{what}");
                assert_recorded(&exchange.request, &request_content(number), &what);
                assert_recorded(exchange.response.as_ref().unwrap(), &response_content(number), &what);
            }
        }
    }
}
