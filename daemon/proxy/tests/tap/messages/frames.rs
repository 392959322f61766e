//! Frames of WebSockets, written by hand, and connections that became one.

use super::*;

pub(super) const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0xff];
pub(super) const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A frame whose first byte is this; a client's is masked.
pub(super) fn frame(from: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = from == Side::Client;
    let bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(bit | u8::try_from(length).unwrap_or_default()),
        length @ 126..65536 => {
            bytes.push(bit | 126);
            bytes.extend(u16::try_from(length).unwrap_or_default().to_be_bytes());
        }
        length => {
            bytes.push(bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(MASK);
        bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    } else {
        bytes.extend(payload);
    }
    bytes
}

pub(super) fn client(first: u8, payload: &[u8]) -> (Side, Vec<u8>) {
    (Side::Client, frame(Side::Client, first, payload))
}

pub(super) fn server(first: u8, payload: &[u8]) -> (Side, Vec<u8>) {
    (Side::Server, frame(Side::Server, first, payload))
}

/// A connection that was just upgraded; `fields` stand in the response.
pub(super) fn upgraded(limits: Limits, fields: &str) -> Player {
    let mut player = Player::new(Direction::Inbound, limits);
    player.show(Side::Client, REQUEST.as_bytes());
    let response = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n{fields}\r\n");
    player.show(Side::Server, response.as_bytes());
    player
}

/// How the bytes of each step are cut.
#[derive(Clone, Copy)]
pub(super) enum Cut {
    Whole,
    At(usize),
    EachByte,
}

/// Plays frames over a connection that is ended by these, or by the client's FIN and then the server's.
pub(super) fn play(
    limits: Limits,
    fields: &str,
    steps: &[(Side, Vec<u8>)],
    ends: &[(Side, End)],
    cut: Cut,
) -> Vec<Event> {
    let mut player = upgraded(limits, fields);
    for (from, bytes) in steps {
        match cut {
            Cut::Whole => player.show(*from, bytes),
            Cut::At(at) => {
                let (begin, rest) = bytes.split_at(at.min(bytes.len()));
                player.show(*from, begin);
                player.show(*from, rest);
            }
            Cut::EachByte => bytes.chunks(1).for_each(|byte| player.show(*from, byte)),
        }
    }
    let orderly = [(Side::Client, End::Fin), (Side::Server, End::Fin)];
    for (from, end) in if ends.is_empty() { &orderly } else { ends } {
        player.end(*from, *end);
    }
    player.finish()
}
