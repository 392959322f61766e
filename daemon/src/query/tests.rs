//! Questions and answers against a folder of segments, and over mTLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use nodetap_core::exchange::{
    Body, Bytes, Connection, Direction, Event, Exchange, Loss, Message, MessageKind, Outcome, Protocol, Sender,
    StreamMessage, Timing, Via,
};
use nodetap_core::segment;
use nodetap_core::ulid::{Ulid, UlidSource};

use super::ask::{Ask, At, Error, Messages};
use super::read::{self, Take, answer, find, notice};
use super::wire::{Decoder, Item};

const START: u64 = 1_700_000_000_000_000;

fn connection(number: u64) -> Arc<Connection> {
    let address: SocketAddr = "10.0.0.7:8080".parse().unwrap();
    Arc::new(Connection {
        id: UlidSource::new(u128::from(number) << 16).next(START),
        direction: Direction::Inbound,
        via: Via::Transparent,
        target: nodetap_core::exchange::Target::command("web"),
        container: None,
        process: None,
        client: address,
        client_name: None,
        server: address,
        server_name: None,
        accepted: START + number,
    })
}

pub(crate) fn exchange(number: u64) -> Event {
    let message = |head: String| Message { head: head.into_bytes(), ..Message::default() };
    Event::Exchange(Box::new(Exchange {
        id: UlidSource::new((u128::from(number) << 16) + 1).next(START + number),
        connection: connection(number),
        time: START + number,
        protocol: Protocol::Http11,
        stream: None,
        tls: None,
        request: message(format!("GET /{number} HTTP/1.1\r\nHost: web\r\n\r\n")),
        interim: vec![],
        response: Some(message("HTTP/1.1 200 OK\r\n\r\n".into())),
        timing: Timing::default(),
        bytes: Bytes::default(),
        messages: None,
        outcome: Outcome::Complete,
        detail: None,
        redacted: vec![],
        dropped: vec![],
    }))
}

/// The `seq`th message of the exchange `number`; it comes behind the exchanges up to `number + 10`.
fn message(number: u64, seq: u64) -> Event {
    let Event::Exchange(exchange) = exchange(number) else { unreachable!() };
    Event::Message(Box::new(StreamMessage {
        id: UlidSource::new((u128::from(number) << 16) + 2 + u128::from(seq)).next(START + number + 10),
        connection: exchange.connection,
        time: START + number + 10,
        exchange: exchange.id,
        seq,
        stream: None,
        protocol: Protocol::WebSocket,
        sender: Sender::Client,
        kind: MessageKind::Text,
        body: Body { size: 2, kept: b"hi".to_vec(), in_messages: false },
        wire: 8,
        compressed: false,
        end: 0,
        outcome: Outcome::Complete,
        detail: None,
    }))
}

pub(crate) fn write(folder: &Path, events: &[Event]) {
    write_as(folder, &format!("{}.seg", Ulid::from(u128::from(START / 1000) << 80)), events);
}

pub(crate) fn write_as(folder: &Path, name: &str, events: &[Event]) {
    let mut bytes = segment::header(START, 7).to_vec();
    events.iter().for_each(|event| segment::encode(event, 7, &mut bytes).unwrap());
    std::fs::write(folder.join(name), bytes).unwrap();
}

#[derive(Debug, Default)]
struct Taken {
    items: Vec<Item>,
    most: usize,
}

impl Take for Taken {
    fn take(&mut self, item: Item) -> bool {
        self.items.push(item);
        self.is_wanted()
    }

    fn flush(&mut self) -> bool {
        self.is_wanted()
    }

    fn is_wanted(&self) -> bool {
        self.most == 0 || self.items.len() < self.most
    }
}

fn ask(folder: &Path, ask: &Ask) -> Vec<Item> {
    let mut taken = Taken::default();
    answer(folder, ask, &ask.filter(read::now()).unwrap(), &mut taken).unwrap();
    taken.items
}

/// Records by number (messages by their exchange's number, negative), notices by their reason.
fn names(items: &[Item]) -> Vec<String> {
    let name = |item: &Item| match item {
        Item::Record(Event::Exchange(exchange)) => (exchange.time - START).to_string(),
        Item::Record(Event::Message(message)) => format!("{}#{}", message.time - START - 10, message.seq),
        Item::Record(_) => "?".into(),
        Item::Notice(notice) => notice.reason.clone(),
        Item::Live => "live".into(),
    };
    items.iter().map(name).collect()
}

fn parse(query: &str) -> Result<Ask, Error> {
    Ask::parse(query, |_, _| Ok(false))
}

#[test]
fn a_question_reads_back_from_the_query_that_it_makes() {
    let whole = Ask {
        namespace: Some("shop".into()),
        pod: Some("web-1".into()),
        selector: Some("app=web,tier in (a, b)".into()),
        hosts: vec!["*.shop".into(), "10.0.0.7:80".into()],
        methods: vec!["GET".into()],
        statuses: vec!["2xx".into(), "none".into()],
        paths: vec!["/a,b&c=d?".into()],
        since: Some("10m".into()),
        grep: Some("ü+ %".into()),
        direction: Some("inbound".into()),
        messages: Messages::Grouped,
        losses: true,
        limit: Some(5),
        after: Some(At { time: 17, id: u128::MAX >> 1 }),
        tail: Some(3),
        watch: true,
    };
    assert_eq!(parse(&whole.query()).unwrap(), whole);
    assert_eq!(parse("").unwrap(), Ask::default());
    assert_eq!(parse("host=a,b&host=c").unwrap().hosts, ["a", "b", "c"]);
}

#[test]
fn what_rbac_was_not_asked_about_is_not_answered() {
    for (query, watch) in
        [("watch", true), ("watch=", true), ("watch=1", true), ("watch=0", false), ("watch=False", false)]
    {
        assert_eq!(parse(query).unwrap().watch, watch, "{query}");
    }
    for query in ["watch=false&watch=true", "watch=tr%zzue", "watch=1;", "%", "labelSelector=a&labelSelector=b"] {
        assert!(parse(query).is_err(), "{query}");
    }
}

#[test]
fn a_bad_question_is_told_which_key_is_wrong() {
    for (query, part) in [
        ("colour=red", "colour"),
        ("limit=many", "limit"),
        ("tail=1000000", "tail"),
        ("continue=x", "continue"),
        ("messages=some", "messages"),
        ("since=then", "since"),
        ("status=20", "20"),
        ("grep=(", "("),
        ("direction=up", "direction"),
    ] {
        let error = parse(query).and_then(|ask| ask.filter(0).map(drop)).unwrap_err();
        assert!(error.to_string().contains(part), "{query}: {error}");
    }
    assert!(matches!(parse(&format!("grep={}", "x".repeat(20_000))), Err(Error::TooLong)));
}

#[test]
fn what_goes_over_the_wire_arrives_the_same_in_whatever_pieces() {
    let items = [
        Item::Record(exchange(1)),
        Item::Live,
        Item::Notice(notice("page_end", "so".into(), Some("1-2".into()))),
        Item::Record(message(1, 0)),
    ];
    let mut bytes = Vec::new();
    items.iter().for_each(|item| item.encode(&mut bytes).unwrap());
    // A kind from the future.
    bytes.extend_from_slice(&[1, 0, 0, 0, 77, 5]);
    for size in [1, 3, 7, 64, bytes.len()] {
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for piece in bytes.chunks(size) {
            decoder.push(piece);
            while let Some(item) = decoder.next_item().unwrap() {
                seen.push(item);
            }
        }
        assert_eq!(seen, items, "in pieces of {size}");
        assert!(decoder.is_empty());
    }
    let mut decoder = Decoder::default();
    decoder.push(&bytes[..bytes.len() - 7]);
    while decoder.next_item().unwrap().is_some() {}
    assert!(!decoder.is_empty());
    decoder.push(&[255; 5]);
    assert!(decoder.next_item().is_err() || !decoder.is_empty());
}

#[test]
fn pages_put_together_are_all_records_once() {
    let folder = tempfile::tempdir().unwrap();
    let events: Vec<Event> = (0..25).map(exchange).collect();
    write(folder.path(), &events);
    let (mut all, mut after) = (Vec::new(), None);
    for page in 0.. {
        assert!(page < 4, "pages without end");
        let mut items = ask(folder.path(), &Ask { limit: Some(10), after, ..Ask::default() });
        let next = items.pop_if(|item| matches!(item, Item::Notice(_)));
        all.extend(names(&items));
        match next {
            Some(Item::Notice(notice)) => after = Some(notice.next.unwrap().parse().unwrap()),
            _ => break,
        }
    }
    assert_eq!(all, (0..25).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_page_that_finds_nothing_within_its_limit_still_gets_on() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &(0..5).map(exchange).collect::<Vec<_>>());
    let none = Ask { statuses: vec!["404".into()], ..Ask::default() };
    assert_eq!(ask(folder.path(), &none), []);
    let at = Some(At { time: START + 3, id: 0 });
    assert_eq!(names(&ask(folder.path(), &Ask { after: at, ..Ask::default() })), ["3", "4"]);
}

#[test]
fn the_last_ones_are_the_newest_in_time_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut events: Vec<Event> = (0..9).map(exchange).collect();
    events.reverse();
    write(folder.path(), &events);
    assert_eq!(names(&ask(folder.path(), &Ask { tail: Some(3), ..Ask::default() })), ["6", "7", "8"]);
    let some = Ask { tail: Some(2), paths: vec!["/?".into()], grep: Some("GET /[02468] ".into()), ..Ask::default() };
    assert_eq!(names(&ask(folder.path(), &some)), ["6", "8"]);
}

#[test]
fn messages_come_at_their_time_or_right_behind_their_exchange() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[exchange(1), message(1, 0), message(1, 1), exchange(2), message(9, 0)]);
    let with = |messages| names(&ask(folder.path(), &Ask { messages, ..Ask::default() }));
    assert_eq!(with(Messages::None), ["1", "2"]);
    assert_eq!(with(Messages::All), ["1", "2", "1#0", "1#1", "9#0"]);
    assert_eq!(with(Messages::Grouped), ["1", "1#0", "1#1", "2"]);
}

#[test]
fn whoever_reads_records_is_told_that_some_were_lost() {
    let folder = tempfile::tempdir().unwrap();
    let Event::Exchange(lost) = exchange(5) else { unreachable!() };
    let target = Arc::clone(&lost.connection.target);
    let loss = Loss { time: START, until: START, target, reason: "queue_full".into(), exchanges: 1, bytes: 2 };
    write(folder.path(), &[exchange(1), Event::Loss(loss)]);
    assert_eq!(names(&ask(folder.path(), &Ask::default())), ["losses", "1"]);
    assert_eq!(names(&ask(folder.path(), &Ask { losses: true, ..Ask::default() })), ["?"]);
    assert_eq!(
        names(&ask(folder.path(), &Ask { namespace: Some("shop".into()), ..Ask::default() })),
        <[&str; 0]>::default()
    );
}

#[test]
fn one_record_is_found_by_a_part_of_its_id_and_brings_its_messages() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[exchange(1), message(1, 0), exchange(2), message(9, 0), message(9, 1)]);
    let seek = |id: &str| {
        let mut taken = Taken::default();
        find(folder.path(), id, &Ask::default().filter(0).unwrap(), &mut taken).unwrap();
        names(&taken.items)
    };
    let id = |event: Event| match event {
        Event::Exchange(exchange) => exchange.id.to_string(),
        _ => unreachable!(),
    };
    assert_eq!(seek(&id(exchange(1))), ["1", "1#0"]);
    assert_eq!(seek(&id(exchange(2)).to_lowercase()[18..]), ["2"]);
    // Its exchange is not written yet.
    assert_eq!(seek(&id(exchange(9))), ["9#0", "9#1"]);
    // All of them begin alike, and are listed without what belongs to them.
    assert_eq!(seek(&id(exchange(1))[..8]), ["several", "1", "2", "1#0", "9#0", "9#1"]);
    assert!(seek("ZZZ").is_empty());
}

#[test]
fn what_is_new_is_told_after_the_sign_that_says_so_and_reading_ends_when_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[exchange(1), exchange(2)]);
    let ask = Ask { watch: true, tail: Some(1), ..Ask::default() };
    let mut taken = Taken { most: 3, ..Taken::default() };
    let path = folder.path().to_owned();
    let later = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        write_as(&path, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ.open", &[exchange(0)]);
    });
    answer(folder.path(), &ask, &ask.filter(0).unwrap(), &mut taken).unwrap();
    later.join().unwrap();
    assert_eq!(names(&taken.items), ["2", "live", "0"]);
}

#[test]
fn whole_segments_that_are_too_old_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[exchange(1)]);
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    let count = |since| crate::store::read::Index::read_since(folder.path(), since).unwrap().entries.len();
    assert_eq!((count(None), count(Some(read::now() - 70_000_000)), count(Some(read::now()))), (1, 1, 0));
}
