//! The bytes between two peers: written down while they speak, and shown to a tap afterwards, cut anywhere. It knows no
//! protocol.

use std::cell::RefCell;
use std::rc::Rc;

use nodetap_core::exchange::{Direction, Event};
use nodetap_proxy::tap::{End, Limits, Side};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::KEPT;
use crate::drive::{Dice, Player};

/// What passed, in the order in which it did.
pub(super) type Log = Vec<(Side, Passed)>;

/// Of one side.
#[derive(Debug)]
pub(super) enum Passed {
    Bytes(Vec<u8>),
    End(End),
}

/// Two ends whose bytes are written down in between.
pub(super) struct Between {
    log: Rc<RefCell<Log>>,
    relays: [JoinHandle<()>; 2],
}

impl Between {
    /// The client's end and the server's.
    pub(super) fn start() -> (Self, DuplexStream, DuplexStream) {
        let log = Rc::default();
        let (client, ours) = tokio::io::duplex(64 * 1024);
        let (theirs, server) = tokio::io::duplex(64 * 1024);
        let (from_client, to_client) = tokio::io::split(ours);
        let (from_server, to_server) = tokio::io::split(theirs);
        let up = relay(Side::Client, from_client, to_server, Rc::clone(&log));
        let down = relay(Side::Server, from_server, to_client, Rc::clone(&log));
        let relays = [tokio::task::spawn_local(up), tokio::task::spawn_local(down)];
        (Self { log, relays }, client, server)
    }

    /// What has passed when both have closed.
    pub(super) async fn log(self) -> Log {
        for relay in self.relays {
            relay.await.unwrap();
        }
        self.log.take()
    }
}

/// Writes down what passes before it passes on: so nothing is answered before it stands there.
async fn relay(
    from: Side,
    mut source: impl AsyncRead + Unpin,
    mut target: impl AsyncWrite + Unpin,
    log: Rc<RefCell<Log>>,
) {
    let mut buffer = vec![0; 20_000];
    loop {
        let count = source.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            log.borrow_mut().push((from, Passed::End(End::Fin)));
            let _ = target.shutdown().await;
            return;
        }
        log.borrow_mut().push((from, Passed::Bytes(buffer[..count].to_vec())));
        if target.write_all(&buffer[..count]).await.is_err() {
            // The other side takes nothing more, and this one's end is not seen any more.
            let other = if from == Side::Client { Side::Server } else { Side::Client };
            log.borrow_mut().push((other, Passed::End(End::Reset)));
            return;
        }
    }
}

/// Shows a log to a tap, in the order that it has, cut by the dice; with `ahead` the client is ahead of that by as much
/// as the dice say, as one is that pipelines.
pub(super) fn replay(log: &Log, dice: &mut Dice, ahead: bool) -> Vec<Event> {
    let limits = Limits { body: KEPT, waiting: 64 << 20, ..Limits::default() };
    let mut player = Player::new(Direction::Inbound, limits);
    let asked = log.iter().filter_map(|(from, passed)| match passed {
        Passed::Bytes(bytes) if *from == Side::Client => Some(bytes.as_slice()),
        _ => None,
    });
    let asked: Vec<u8> = asked.flatten().copied().collect();
    let (mut shown, mut due) = (0, 0);
    for (from, passed) in log {
        if ahead && shown < asked.len() && dice.roll(2) == 0 {
            let more = shown + dice.roll(asked.len() - shown + 1);
            show(&mut player, Side::Client, &asked[shown..more], dice);
            shown = more;
        }
        match (from, passed) {
            (_, Passed::End(end)) => player.end(*from, *end),
            (Side::Client, Passed::Bytes(bytes)) => {
                due += bytes.len();
                if due > shown {
                    show(&mut player, Side::Client, &asked[shown..due], dice);
                    shown = due;
                }
            }
            (Side::Server, Passed::Bytes(bytes)) => show(&mut player, Side::Server, bytes, dice),
        }
    }
    player.finish()
}

fn show(player: &mut Player, from: Side, mut bytes: &[u8], dice: &mut Dice) {
    while !bytes.is_empty() {
        let most = [1, 3, 20, 300, 5000, 40_000][dice.roll(6)];
        let (piece, rest) = bytes.split_at((dice.roll(most) + 1).min(bytes.len()));
        // Only what is short: it is shown byte by byte.
        player.skips = piece.len() < 200 && dice.roll(8) == 0;
        player.show(from, piece);
        bytes = rest;
    }
}
