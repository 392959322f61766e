//! Messages inside exchanges, as they reach the record.

use nodetap_core::exchange::{Body, Direction, Event, Exchange, MessageKind, Outcome, Sender, StreamMessage};
use nodetap_proxy::tap::{End, Limits, Side};

use crate::drive::Player;

mod deflate;
mod endless;
mod frames;
mod grpc;
mod http2;
mod mutations;
mod websocket;

/// The messages among the events.
fn messages(events: &[Event]) -> Vec<&StreamMessage> {
    events
        .iter()
        .filter_map(|event| if let Event::Message(message) = event { Some(&**message) } else { None })
        .collect()
}

/// The only exchange among the events.
fn exchange(events: &[Event]) -> &Exchange {
    let exchanges = crate::drive::exchanges(events);
    assert_eq!(exchanges.len(), 1, "{events:?}");
    exchanges[0]
}

static NOTHING: Body = Body { size: 0, kept: Vec::new(), in_messages: false };

fn response_body(exchange: &Exchange) -> &Body {
    exchange.response.as_ref().map_or(&NOTHING, |response| &response.body)
}

/// The messages carry the exchange's identifier and are numbered from 0; what is not complete says why.
fn agree(events: &[Event]) {
    let exchange = exchange(events);
    for (place, message) in messages(events).into_iter().enumerate() {
        assert_eq!((message.exchange, message.stream), (exchange.id, exchange.stream));
        assert_eq!(message.seq, place as u64);
        assert!(message.time >= exchange.time);
        assert_eq!(message.detail.is_some(), message.outcome != Outcome::Complete, "{message:?}");
    }
}
