//! One record in one line, for stderr while it happens.

use crate::exchange::{Direction, Event, Outcome};
use crate::row::{Row, outcome};
use crate::size;
use crate::style::{Colour, Style, of_outcome, of_status};
use crate::text::one_line;
use crate::time::duration;

/// Characters of an exchange's id that a message is shown with.
const ID_WIDTH: usize = 6;

/// `← 200 GET http://127.0.0.1:8080/items 378 B 4.8 ms curl[4711]`: the arrow points the way the request went, as the
/// target sees it. A message of an exchange is `← text 8C9W19#3 websocket hello 5 B curl[4711]`; its arrow points the
/// way the message went. No line end. `None` for a loss.
pub fn line(event: &Event, style: Style) -> Option<String> {
    let row = Row::of(event)?;
    let arrow = match row.connection.direction {
        Direction::Inbound => "←",
        Direction::Outbound => "→",
    };
    let status = style.paint(of_status(&row), &row.status());
    let mut parts = if row.message.is_some() { vec![] } else { vec![style.paint(Colour::Dim, arrow)] };
    parts.extend([
        status,
        style.paint(Colour::Bold, &one_line(row.method())),
        one_line(&row.what(ID_WIDTH)).into_owned(),
        size::show(row.size),
    ]);
    if let Some((sent, received)) = row.http.as_ref().and_then(|http| http.messages) {
        parts.push(format!("{sent}→ {received}← messages"));
    }
    parts.extend(row.duration.map(duration));
    parts.push(style.paint(Colour::Dim, &one_line(&row.who())));
    if row.outcome != Outcome::Complete {
        let why = row.detail.map_or(String::new(), |detail| format!(": {detail}"));
        parts.push(style.paint(of_outcome(row.outcome), &format!("({}{})", outcome(row.outcome), one_line(&why))));
    }
    parts.retain(|part| !part.is_empty());
    Some(parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::MessageKind;
    use crate::samples;

    #[test]
    fn an_exchange_is_one_line() {
        let exchange = samples::exchange();
        assert_eq!(
            line(&exchange.clone().into(), Style::Plain).unwrap(),
            "→ 200 GET http://web.shop/items?q=1 14 B 5.1 ms curl[4711]"
        );
        assert_eq!(
            line(&exchange.into(), Style::Ansi).unwrap(),
            "\x1b[2m→\x1b[0m \x1b[32m200\x1b[0m \x1b[1mGET\x1b[0m http://web.shop/items?q=1 14 B 5.1 ms \x1b[2mcurl[4711]\x1b[0m"
        );
    }

    #[test]
    fn of_a_pod_its_name_is_said() {
        assert_eq!(
            line(&samples::of_pod().into(), Style::Plain).unwrap(),
            "← 200 GET http://web.shop/items?q=1 14 B 5.1 ms shop/web-6774cc6887-rjz5j"
        );
    }

    #[test]
    fn a_stream_says_how_many_messages_it_had_and_a_message_what_it_says() {
        let call = samples::grpc_call();
        assert_eq!(
            line(&call.into(), Style::Plain).unwrap(),
            "→ 200/5 POST https://web.shop/shop.Items/List 17 B 1→ 2← messages 5.1 ms curl[4711]"
        );
        let message = samples::stream_message(MessageKind::Text, b"hello");
        assert_eq!(
            line(&Event::Message(Box::new(message)), Style::Plain).unwrap(),
            "→ text 000002#3 websocket hello 5 B curl[4711]"
        );
    }

    #[test]
    fn what_did_not_go_well_says_so() {
        assert_eq!(
            line(&samples::connection().into(), Style::Plain).unwrap(),
            "→ - tls web.shop:8080 190 B 5.1 ms curl[4711] (passthrough: TLS that was not opened)"
        );
    }

    #[test]
    fn a_recorded_escape_sequence_does_not_reach_the_terminal() {
        let mut exchange = samples::exchange();
        exchange.request.head = b"G\x1b[2JT /\x1b]0;x\x07 HTTP/1.1\r\nHost: a\x1b\r\n\r\n".to_vec();
        assert!(!line(&exchange.into(), Style::Plain).unwrap().contains('\x1b'));
    }
}
