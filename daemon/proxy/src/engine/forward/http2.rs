//! HTTP/2 to the forward proxy (RFC 9113 §8.5): each CONNECT stream is a tunnel of its own, with a tap and an upstream
//! connection of its own. Between stream and tunnel stands a pair of sockets, so that the tunnel is the same as every
//! other: it may open TLS, and ends are ends and resets resets on both sides. Other methods are not served here: a
//! client that wants requests forwarded sends them over HTTP/1.1.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode};
use nodetap_core::exchange::{Outcome, Via};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::connection::{caught, tunnel};
use super::super::desk::Desk;
use super::super::tapped::Clock;
use super::{Settling, note, renew, unreached};
use crate::dial;
use crate::forward::ask::NOTHING_ASKED;
use crate::forward::authority::{Authority, shown};
use crate::forward::reach::{self, Reached, sentence};
use crate::steering::Forward;

/// Streams that a client may have open.
const STREAMS: u32 = 256;
/// Bytes of the fields of one request.
const FIELDS: u32 = 64 * 1024;
/// Streams that were reset before they were looked at; more is an attack (rapid reset).
const RESETS: usize = 64;
/// Bytes in flight of one stream, and of one connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of one read from the tunnel.
const PIECE: usize = 16 * 1024;
/// How long what was answered before a reset may take to leave; the connection's task writes it at once.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// How long the preface and the settings may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

pub(super) async fn serve(
    desk: &Rc<Desk>,
    settling: &Rc<Settling>,
    clock: &Clock,
    client: TcpStream,
    forward: &Forward,
) {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(FIELDS)
        .max_pending_accept_reset_streams(RESETS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW);
    let mut connection = match timeout(HANDSHAKE, builder.handshake::<_, Bytes>(client)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            return malformed(desk, clock, forward, &format!("the HTTP/2 of the client is wrong: {error}"));
        }
        Err(_) => return malformed(desk, clock, forward, "the client did not begin its HTTP/2 in time"),
    };
    let (mut streams, mut asked) = (JoinSet::new(), false);
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    asked = true;
                    let mut forward = forward.clone();
                    let clock = Clock::new(Instant::now(), clock.now());
                    renew(desk, &mut forward, clock.now());
                    let settling = Rc::clone(settling);
                    streams.spawn_local(async move {
                        caught(&settling.desk, stream(&settling, &clock, &forward, request, respond)).await;
                    });
                }
                Some(Err(error)) if error.is_library() || error.is_remote() => {
                    malformed(desk, clock, forward, &format!("the HTTP/2 of the client is wrong: {error}"));
                    break;
                }
                Some(Err(_)) | None => {
                    if !asked {
                        let connection = forward.toward(Via::ForwardConnect, forward.connection.server);
                        note(desk, clock, connection, Outcome::ClientAborted, NOTHING_ASKED.to_owned());
                    }
                    break;
                }
            },
            Some(_) = streams.join_next() => {}
            () = desk.cut() => break,
        }
    }
    // Streams whose connection is gone end by themselves; the tunnels write down what they were.
    drop(connection);
    while streams.join_next().await.is_some() {}
}

fn malformed(desk: &Desk, clock: &Clock, forward: &Forward, what: &str) {
    let connection = forward.toward(Via::ForwardConnect, forward.connection.server);
    note(desk, clock, connection, Outcome::Malformed, sentence(what));
}

/// One request.
async fn stream(
    settling: &Settling,
    clock: &Clock,
    forward: &Forward,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let via = Via::ForwardConnect;
    let text = match (request.method(), request.uri().authority()) {
        (&Method::CONNECT, Some(to)) => match Authority::parse(to.as_str().as_bytes()) {
            Ok(to) => return connect(settling, clock, forward, to, request.into_body(), respond).await,
            Err(error) => {
                let to = shown(to.as_str().as_bytes());
                (StatusCode::BAD_REQUEST, format!("`{to}` is no host and port to connect to: {error}."))
            }
        },
        (&Method::CONNECT, None) => (StatusCode::BAD_REQUEST, "The CONNECT names no host and port.".to_owned()),
        _ => {
            let text = "Over HTTP/2 this proxy serves CONNECT only; requests to forward are to be sent over HTTP/1.1.";
            (StatusCode::NOT_IMPLEMENTED, text.to_owned())
        }
    };
    let outcome = if text.0 == StatusCode::NOT_IMPLEMENTED { Outcome::Refused } else { Outcome::Malformed };
    note(&settling.desk, clock, forward.toward(via, forward.connection.server), outcome, text.1.clone());
    say(&mut respond, text.0, &text.1);
}

/// An answer without a tunnel. A client that has gone does not hear it.
fn say(respond: &mut SendResponse<Bytes>, status: StatusCode, text: &str) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    if let Ok(mut body) = respond.send_response(response, false) {
        let _ = body.send_data(Bytes::from(format!("{text}\n")), true);
    }
}

async fn connect(
    settling: &Settling,
    clock: &Clock,
    forward: &Forward,
    to: Authority,
    from_client: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let desk = &*settling.desk;
    let steering = &desk.group.steering;
    let gone = async {
        tokio::select! {
            _ = poll_fn(|cx| respond.poll_reset(cx)) => {}
            () = desk.cut() => {}
        }
    };
    let reached = reach::reach(forward, Via::ForwardConnect, &to, &**steering, gone).await;
    let Reached { upstream, destination } = match reached {
        Ok(reached) => reached,
        Err(error) => {
            unreached(settling, clock, forward, Via::ForwardConnect, &to, &error);
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY);
            return say(&mut respond, status, &error.sentence());
        }
    };
    let ignored = settling.goes(&destination.connection);
    let ends = match (pair().await, respond.send_response(Response::new(()), false)) {
        (Ok(ends), Ok(to_client)) => Ok((ends, to_client)),
        (Err(error), _) => Err(sentence(&format!("nodetap itself has no sockets for the tunnel: {error}"))),
        (_, Err(_)) => Err("The client gave up when the tunnel stood.".to_owned()),
    };
    match ends {
        Ok(((ours, tunnels), to_client)) => {
            let (read, write) = ours.into_split();
            tokio::join!(
                tunnel(desk, clock, tunnels, upstream, &destination),
                bridge(from_client, to_client, read, write)
            );
        }
        Err(text) => {
            if !ignored {
                note(desk, clock, (*destination.connection).clone(), Outcome::ClientAborted, text);
            }
            respond.send_reset(Reason::CONNECT_ERROR);
        }
    }
}

/// Carries bytes between a stream and our end of the pair until both directions are over, or one broke.
async fn bridge(
    from_client: RecvStream,
    mut to_client: SendStream<Bytes>,
    mut read: OwnedReadHalf,
    write: OwnedWriteHalf,
) {
    let mut write = Some(write);
    let carried = {
        let up = up(from_client, &mut write);
        let down = down(&mut to_client, &mut read);
        tokio::try_join!(up, down)
    };
    if carried.is_err() {
        // A reset takes back what is still queued, and nothing says when it has left.
        tokio::time::sleep(LAST_WORDS).await;
        // RFC 9113 §8.5: a connection that broke is told by CONNECT_ERROR; a stream that broke by a reset.
        to_client.send_reset(Reason::CONNECT_ERROR);
        if let Some(whole) = write.and_then(|write| read.reunite(write).ok()) {
            dial::reset(whole);
        }
    }
}

async fn up(mut from_client: RecvStream, write: &mut Option<OwnedWriteHalf>) -> Result<(), Broken> {
    let write = write.as_mut().ok_or(Broken)?;
    while let Some(piece) = poll_fn(|cx| from_client.poll_data(cx)).await {
        let piece = piece.map_err(|_| Broken)?;
        write.write_all(&piece).await.map_err(|_| Broken)?;
        // Only now may the client send as much more.
        from_client.flow_control().release_capacity(piece.len()).map_err(|_| Broken)?;
    }
    write.shutdown().await.map_err(|_| Broken)
}

async fn down(to_client: &mut SendStream<Bytes>, read: &mut OwnedReadHalf) -> Result<(), Broken> {
    let mut buffer = vec![0; PIECE];
    loop {
        let count = tokio::select! {
            biased;
            count = read.read(&mut buffer) => count.map_err(|_| Broken)?,
            _ = poll_fn(|cx| to_client.poll_reset(cx)) => return Err(Broken),
        };
        if count == 0 {
            return to_client.send_data(Bytes::new(), true).map_err(|_| Broken);
        }
        let mut rest = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        while !rest.is_empty() {
            to_client.reserve_capacity(rest.len());
            let room = poll_fn(|cx| to_client.poll_capacity(cx)).await;
            let room = room.ok_or(Broken)?.map_err(|_| Broken)?;
            let piece = rest.split_to(room.min(rest.len()));
            if !piece.is_empty() {
                to_client.send_data(piece, false).map_err(|_| Broken)?;
            }
        }
    }
}

/// One of the two sides is gone.
#[derive(Debug)]
struct Broken;

/// Two connected sockets of this process. TCP, because no other kind tells an end from a reset.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let own = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    let (ours, (mut other, mut from)) = tokio::try_join!(own, listener.accept())?;
    // Somebody else may have been faster.
    while from != ours.local_addr()? {
        (other, from) = listener.accept().await?;
    }
    dial::prepare(&other);
    Ok((ours, other))
}
