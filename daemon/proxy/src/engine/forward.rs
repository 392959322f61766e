//! A connection to the forward proxy, from its first byte to its last: ask where it goes, connect, answer, and from
//! there on a tunnel like any other; or the HTTP proxy. Every end of it leaves a record that says why.

mod answers;
mod http1;
mod http2;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nodetap_core::exchange::{Connection, Outcome, Via};
use nodetap_core::ulid::Ulid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::tunnel;
use super::desk::Desk;
use super::tapped::{Clock, Tapped, Tick};
use crate::dial;
use crate::forward::ask::{self, Ask, Refusal, Tunnel};
use crate::forward::authority::Authority;
use crate::forward::reach::{self, Reached};
use crate::steering::Forward;

/// How long a client may take to hear the last word.
const FAREWELL: Duration = Duration::from_secs(2);
/// What a client that is sent away may still send without losing the last word to a reset, in bytes.
const FAREWELL_BYTES: u64 = 1024 * 1024;

const CUT: &str = "The connection was ended by nodetap.";

pub(super) async fn serve(desk: &Rc<Desk>, mut accepted: Instant, mut client: TcpStream, mut forward: Forward) {
    let settling = Rc::new(Settling { desk: Rc::clone(desk), told: Cell::new(false) });
    loop {
        let clock = Clock::new(accepted, forward.connection.accepted);
        let asked = tokio::select! {
            biased;
            asked = ask::ask(&mut client) => asked,
            () = desk.cut() => {
                note(desk, &clock, forward.connection, Outcome::Passthrough, CUT.to_owned());
                return dial::reset(client);
            }
        };
        match asked {
            Ok(Ask::Tunnel(asked)) => return onward(&settling, &clock, client, &forward, asked).await,
            Ok(Ask::Http2) => return http2::serve(desk, &settling, &clock, client, &forward).await,
            Ok(Ask::Http1) => match http1::serve(&settling, &clock, client, &forward).await {
                // On the same socket, and yet another connection: it goes somewhere else.
                Some(same) => client = same,
                None => return,
            },
            Err(refusal) => return refuse(desk, &clock, client, &forward, refusal).await,
        }
        accepted = Instant::now();
        renew(desk, &mut forward, clock.now());
    }
}

/// Another connection of the same client.
fn renew(desk: &Desk, forward: &mut Forward, now: u64) -> Ulid {
    let id = desk.ids.borrow_mut().next(now);
    forward.connection.accepted = now;
    forward.connection.id = id;
    id
}

/// Connects to where the client wants to go, tells it, and pumps.
async fn onward(settling: &Settling, clock: &Clock, mut client: TcpStream, forward: &Forward, asked: Tunnel) {
    let desk = &*settling.desk;
    let Tunnel { dialect, to } = asked;
    let steering = &desk.group.steering;
    let gone = async {
        tokio::select! {
            _ = client.ready(Interest::ERROR) => {}
            () = desk.cut() => {}
        }
    };
    match reach::reach(forward, dialect.via(), &to, &**steering, gone).await {
        Ok(Reached { upstream, destination }) => {
            settling.goes(&destination.connection);
            let local = upstream.stream.local_addr().unwrap_or(forward.connection.server);
            // If it cannot be told, the tunnel finds out at once that its client has gone.
            let _ = client.write_all(&dialect.granted(local)).await;
            tunnel(desk, clock, client, upstream, &destination).await;
        }
        Err(error) => {
            unreached(settling, clock, forward, dialect.via(), &to, &error);
            if matches!(error, reach::Error::ClientGone { .. }) {
                return dial::reset(client);
            }
            farewell(desk, client, &dialect.unreached(&error)).await;
        }
    }
}

async fn refuse(desk: &Desk, clock: &Clock, client: TcpStream, forward: &Forward, refusal: Refusal) {
    let Refusal { via, outcome, detail, answer } = refusal;
    note(desk, clock, forward.toward(via, forward.connection.server), outcome, detail);
    farewell(desk, client, &answer).await;
}

/// Where the client wanted to go, as far as it is known.
fn wanted(forward: &Forward, via: Via, asked: &Authority, error: &reach::Error) -> Connection {
    let server = error.tried().unwrap_or_else(|| (forward.connection.server.ip(), asked.port).into());
    forward.toward(via, server)
}

/// Writes down why there is no connection to where the client wanted to go.
fn unreached(settling: &Settling, clock: &Clock, forward: &Forward, via: Via, asked: &Authority, error: &reach::Error) {
    let connection = wanted(forward, via, asked, error);
    if !settling.goes(&connection) {
        note(&settling.desk, clock, connection, error.outcome(), error.sentence());
    }
}

/// Tells once of a connection to the proxy whether it is left alone. What went nowhere is not.
struct Settling {
    desk: Rc<Desk>,
    told: Cell<bool>,
}

impl Settling {
    /// It goes there. Is that left alone?
    fn goes(&self, connection: &Connection) -> bool {
        let ignored = self.desk.group.steering.ignores(connection);
        self.tell(ignored);
        ignored
    }

    fn tell(&self, ignored: bool) {
        if !self.told.replace(true) {
            self.desk.group.steering.settled(ignored);
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.tell(false);
    }
}

/// Writes down a connection that came to nothing.
fn note(desk: &Desk, clock: &Clock, connection: Connection, outcome: Outcome, detail: String) {
    let (connection, tick) = (Arc::new(connection), Tick::default());
    Tapped::unconnected(desk, clock, &connection, &tick)
        .with_tap(|tap, now, ids, out| tap.unreached(outcome, detail.into(), now, ids, out));
}

/// Says the last word and closes; a reset for what the client still sends must not take it back.
async fn farewell(desk: &Desk, mut client: TcpStream, word: &[u8]) {
    let said = async {
        client.write_all(word).await?;
        client.shutdown().await?;
        tokio::io::copy(&mut (&mut client).take(FAREWELL_BYTES), &mut tokio::io::sink()).await
    };
    tokio::select! {
        biased;
        _ = timeout(FAREWELL, said) => {}
        () = desk.cut() => {}
    }
}
