//! Messages of exchanges: that they are found by their exchange, that they are followed while it is open, and that
//! they are charged and counted like other records.

use nodetap_core::exchange::{MessageKind, Sender, StreamMessage};
use nodetap_core::ulid::Ulid;

use super::*;
use crate::store::read::Kind;

fn message(of: &Event, seq: u64, body: usize) -> Event {
    let Event::Exchange(exchange) = of else { panic!() };
    Event::Message(Box::new(StreamMessage {
        id: Ulid::from(u128::from(exchange.id) + 1000 + u128::from(seq)),
        connection: Arc::clone(&exchange.connection),
        time: exchange.time + seq,
        exchange: exchange.id,
        seq,
        stream: None,
        protocol: Protocol::WebSocket,
        sender: Sender::Client,
        kind: MessageKind::Text,
        body: Body { size: body as u64, kept: vec![b'x'; body], in_messages: false },
        wire: body as u64 + 2,
        compressed: false,
        end: 0,
        outcome: Outcome::Complete,
        detail: None,
    }))
}

fn exchange_id(event: &Event) -> Ulid {
    let Event::Exchange(exchange) = event else { panic!() };
    exchange.id
}

#[test]
fn the_messages_of_an_exchange_are_found_in_their_order_also_across_segments() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 2000, ..settings(folder.path()) };
    let (recorder, recording) = Recorder::start(settings, vec![]).unwrap();
    let exchanges: Vec<Event> = (0..3).map(|number| exchange(number * 1000, 10)).collect();
    for seq in [1, 0, 3, 2, 4] {
        for one in &exchanges {
            assert!(recorder.record(message(one, seq, 500)));
        }
    }
    // The third one does not end.
    exchanges.iter().take(2).for_each(|one| assert!(recorder.record(one.clone())));
    let totals = recording.close();
    assert_eq!((totals.messages, totals.inbound_exchanges), (15, 2));

    let mut index = Index::read(folder.path()).unwrap();
    assert!(index.segments.len() > 3, "{}", index.segments.len());
    assert_eq!(index.entries.iter().filter(|entry| entry.kind() == Kind::Message).count(), 15);
    for (number, one) in exchanges.iter().enumerate() {
        let id = exchange_id(one);
        let seqs: Vec<u64> = index
            .messages_of(id)
            .into_iter()
            .filter_map(|place| match index.event(place).unwrap() {
                Some(Event::Message(message)) if message.exchange == id => Some(message.seq),
                _ => None,
            })
            .collect();
        assert_eq!(seqs, [0, 1, 2, 3, 4]);
        let written = index.exchange(id).map(|place| index.event(place).unwrap());
        assert_eq!(written.is_some(), number < 2);
        assert!(written.flatten().is_none_or(|event| exchange_id(&event) == id));
    }
    let open = exchange_id(&exchanges[2]);
    assert_eq!(index.find_open(&open.to_string()), [open]);
    assert_eq!(index.find_open(&exchange_id(&exchanges[0]).to_string()), []);
}

#[test]
fn a_message_can_be_followed_while_its_exchange_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, recording) = Recorder::start(settings(folder.path()), vec![]).unwrap();
    let mut follower = Follower::after(&Index::read(folder.path()).unwrap(), folder.path());
    for seq in 0..3 {
        assert!(recorder.record(message(&exchange(0, 0), seq, 10)));
        // Nothing else is recorded, and nothing is closed: it must come by itself.
        until(
            "the message is there",
            || matches!(&follower.poll().unwrap()[..], [Event::Message(message)] if message.seq == seq),
        );
    }
    recording.close();
}

#[test]
fn messages_are_charged_by_their_bytes_and_make_room_like_other_records() {
    let folder = tempfile::tempdir().unwrap();
    let (medium, shared) = small(u64::MAX / 2);
    let settings = Settings { queue_bytes: 100_000, max_store: 400_000, ..settings(folder.path()) };
    let (recorder, recording) = Recorder::start_on(medium, settings, vec![]).unwrap();
    let of = exchange(0, 0);
    shared.hangs.store(true, Ordering::SeqCst);
    let mut taken = (0..100).filter(|seq| recorder.record(message(&of, *seq, 10_000))).count() as u64;
    assert!(taken < 30, "{taken}");
    shared.hangs.store(false, Ordering::SeqCst);
    for seq in 100..200 {
        until("there is room in the queue", || recorder.record(message(&of, seq, 10_000)));
        taken += 1;
    }
    let totals = recording.close();
    assert_eq!(totals.messages, taken);
    let lost = |reason: &str| totals.lost.iter().find(|loss| loss.reason == reason).map_or(0, |loss| loss.exchanges);
    let index = Index::read(folder.path()).unwrap();
    let kept = index.messages_of(exchange_id(&of)).len() as u64;
    assert!(kept > 0 && lost("queue_full") > 0, "{:?}", totals.lost);
    assert_eq!(kept + lost("store_full"), taken);
}
