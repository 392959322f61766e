//! The order in which the two sides' bytes come, as far as it is open, changes no record.

use nodetap_core::exchange::Direction;
use nodetap_proxy::tap::{Limits, Side};

use crate::drive::{Dice, Player, timeless};

/// Requests and their responses; a response may begin when its request's head has come.
const EXCHANGES: [(&[u8], &[u8]); 6] = [
    (b"GET /1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
    (
        b"POST /2 HTTP/1.1\r\nContent-Length: 12\r\n\r\nhello world!",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\nA: b\r\n\r\n",
    ),
    (b"HEAD /3 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
    (
        b"POST /4 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno",
    ),
    (b"GET /5 HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    (b"GET /6 HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
];

fn head_end(message: &[u8]) -> usize {
    message.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4)
}

/// For each byte that the server sends, how many the client must have sent before: a response's first byte needs its
/// request's head, and a further response the whole of the request before.
fn server_bytes() -> Vec<(usize, u8)> {
    let mut bytes = Vec::new();
    let mut sent = 0;
    for (request, response) in EXCHANGES {
        bytes.extend(response.iter().map(|byte| (sent + head_end(request), *byte)));
        sent += request.len();
    }
    bytes
}

#[test]
fn any_order_of_the_two_sides_that_can_happen_gives_the_same_records() {
    let client: Vec<u8> = EXCHANGES.iter().flat_map(|(request, _)| *request).copied().collect();
    let server = server_bytes();
    let mut expected = None;
    for round in 1..=2000 {
        let mut dice = Dice(round);
        let mut player = Player::new(Direction::Inbound, Limits::default());
        // Some rounds favour one side, so that it is far ahead.
        let favour = dice.roll(9) + 1;
        let (mut asked, mut answered) = (0, 0);
        while asked < client.len() || answered < server.len() {
            let free = server[answered..].iter().take_while(|(needs, _)| asked >= *needs).count();
            if free == 0 || (asked < client.len() && dice.roll(10) < favour) {
                let count = (dice.roll(30) + 1).min(client.len() - asked);
                player.show(Side::Client, &client[asked..asked + count]);
                asked += count;
            } else {
                let count = (dice.roll(30) + 1).min(free);
                let piece: Vec<u8> = server[answered..answered + count].iter().map(|(_, byte)| *byte).collect();
                player.show(Side::Server, &piece);
                answered += count;
            }
        }
        let records = timeless(player.finish());
        assert_eq!(records.len(), EXCHANGES.len(), "round {round}");
        assert_eq!(expected.get_or_insert_with(|| records.clone()), &records, "round {round}");
    }
}
