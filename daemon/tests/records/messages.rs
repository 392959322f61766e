//! Exchanges whose bodies are in messages, as every command shows them: a WebSocket, a gRPC call, and a stream that is
//! still open.

use nodetap_core::exchange::{MessageKind, Messages, Sender, StreamMessage, Target, TlsFacts};
use nodetap_core::ulid::Ulid;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
    ServiceDescriptorProto,
};

use super::*;

const START: u64 = 1_795_389_939_000_000;

struct Source {
    ids: UlidSource,
    connection: Arc<Connection>,
}

impl Source {
    fn new(seed: u128, direction: Direction) -> Self {
        let mut ids = UlidSource::new(seed);
        let connection = Arc::new(Connection {
            id: ids.next(START),
            direction,
            via: Via::Transparent,
            target: Target::command("app"),
            container: None,
            process: None,
            client: "127.0.0.1:50000".parse().unwrap(),
            client_name: None,
            server: "127.0.0.1:8443".parse().unwrap(),
            server_name: None,
            accepted: START,
        });
        Self { ids, connection }
    }

    fn exchange(&mut self, protocol: Protocol, request: &str, response: &str, trailers: &str) -> Exchange {
        let body = |size| Body { size, kept: vec![], in_messages: true };
        Exchange {
            id: self.ids.next(START),
            connection: Arc::clone(&self.connection),
            time: START,
            protocol,
            stream: None,
            tls: Some(Arc::new(TlsFacts { opened: true, ..TlsFacts::default() })),
            request: Message { head: request.into(), body: body(5), trailers: vec![] },
            interim: vec![],
            response: Some(Message { head: response.into(), body: body(9), trailers: trailers.into() }),
            timing: Timing { end: Some(60_000_000), ..Timing::default() },
            bytes: Bytes::default(),
            messages: Some(Messages { client: 1, server: 2 }),
            outcome: Outcome::Complete,
            detail: None,
            redacted: vec![],
            dropped: vec![],
        }
    }

    fn message(&mut self, exchange: Ulid, seq: u64, sender: Sender, kind: MessageKind, bytes: &[u8]) -> Event {
        let time = START + 1000 * (seq + 1);
        Event::Message(Box::new(StreamMessage {
            id: self.ids.next(time),
            connection: Arc::clone(&self.connection),
            time,
            exchange,
            seq,
            stream: None,
            protocol: if kind == MessageKind::Grpc { Protocol::Grpc } else { Protocol::WebSocket },
            sender,
            kind,
            body: Body { size: bytes.len() as u64, kept: bytes.to_vec(), in_messages: false },
            wire: bytes.len() as u64 + 2,
            compressed: false,
            end: 0,
            outcome: Outcome::Complete,
            detail: None,
        }))
    }
}

/// `{1: "abc", 2: {3: 42}}`
const PROTOBUF: &[u8] = b"\x0a\x03abc\x12\x02\x18\x2a";

/// In the order in which they are recorded: messages come before their exchange.
fn streams() -> Vec<Event> {
    use MessageKind::{Binary, Close, Grpc, Text};
    let mut chat = Source::new(1, Direction::Inbound);
    let upgrade = "GET /chat HTTP/1.1\r\nHost: web.shop\r\nUpgrade: websocket\r\n\r\n";
    let websocket = chat.exchange(Protocol::WebSocket, upgrade, "HTTP/1.1 101 Switching Protocols\r\n\r\n", "");
    let mut call = Source::new(1 << 20, Direction::Outbound);
    let head = "POST https://api.shop/shop.Items/List HTTP/2\r\ncontent-type: application/grpc\r\n\r\n";
    let grpc = call.exchange(Protocol::Grpc, head, "HTTP/2 200\r\n\r\n", "grpc-status: 5\r\n");
    let mut open = Source::new(2 << 20, Direction::Outbound);
    let unended = open.ids.next(START);
    let summary = ConnectionSummary {
        id: open.ids.next(START + 9000),
        connection: Arc::new(Connection { accepted: START + 9000, ..(*open.connection).clone() }),
        protocol: Protocol::Tls,
        tls: Some(TlsFacts { passthrough: Some("client_rejected".into()), ..TlsFacts::default() }),
        timing: Timing::default(),
        bytes: Bytes::default(),
        outcome: Outcome::Passthrough,
        detail: None,
    };
    vec![
        chat.message(websocket.id, 0, Sender::Client, Text, br#"{"say":"hello"}"#),
        open.message(unended, 0, Sender::Client, Text, b"anybody there"),
        chat.message(websocket.id, 2, Sender::Server, Close, b"\x03\xe8bye"),
        chat.message(websocket.id, 1, Sender::Server, Binary, &[0xff, 0]),
        call.message(grpc.id, 0, Sender::Client, Grpc, PROTOBUF),
        call.message(grpc.id, 1, Sender::Server, Grpc, b"\x08\x07"),
        Event::Exchange(Box::new(websocket)),
        Event::Exchange(Box::new(grpc)),
        Event::Connection(Box::new(summary)),
    ]
}

struct Recorded {
    home: tempfile::TempDir,
    websocket: String,
    grpc: String,
    open: String,
}

fn recorded() -> Recorded {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("nodetap/01KD3000000000000000000000");
    let (recorder, recording) = Recorder::start(Settings::new(folder, Target::command("app")), vec![]).unwrap();
    let events = streams();
    let exchanges: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Exchange(exchange) => Some(exchange.id.to_string()),
            Event::Message(message) if message.body.kept.starts_with(b"anybody") => Some(message.exchange.to_string()),
            _ => None,
        })
        .collect();
    let [open, websocket, grpc] = &exchanges[..] else { panic!() };
    let (open, websocket, grpc) = (open.clone(), websocket.clone(), grpc.clone());
    events.into_iter().for_each(|event| assert!(recorder.record(event)));
    let totals = recording.close();
    assert_eq!((totals.messages, totals.lost), (6, vec![]));
    Recorded { home, websocket, grpc, open }
}

impl Recorded {
    fn good(&self, arguments: &[&str]) -> String {
        good(self.home.path(), arguments)
    }

    /// How many lines it prints of each kind: exchanges, connections, messages.
    fn kinds(&self, arguments: &[&str]) -> [usize; 3] {
        let lines = self.good(arguments);
        ["exchange", "connection", "message"].map(|kind| lines.matches(&format!(r#""kind":"{kind}""#)).count())
    }
}

#[test]
fn messages_are_listed_when_they_are_asked_for_and_reasons_always() {
    let recorded = recorded();
    let table = recorded.good(&["ls"]);
    assert_eq!(table.lines().count(), 1 + 3, "{table}");
    for part in ["101 wss://web.shop/chat", "200/5 https://api.shop/shop.Items/List", "(tls: pinned by the client)"] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let table = recorded.good(&["ls", "--messages"]);
    let table: Vec<String> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let table = table.join("\n");
    assert_eq!(table.lines().count(), 1 + 9, "{table}");
    let id = &recorded.websocket[20..];
    for part in [
        format!("in text ← {id}#0 websocket {{\"say\":\"hello\"}}"),
        format!("in close → {id}#2 websocket 1000 bye"),
        format!("out grpc → {}#0 grpc 1: \"abc\" 2 {{ 3: 42 }}", &recorded.grpc[20..]),
    ] {
        assert!(table.contains(&part), "{part} is not in\n{table}");
    }
    assert!(recorded.good(&["ls", "-o", "wide"]).contains("client_rejected"));
    let lines = recorded.good(&["ls", "--messages", "-o", "json"]);
    assert!(lines.lines().all(|line| serde_json::from_str::<Record>(line).is_ok()), "{lines}");
    assert_eq!(lines, recorded.good(&["export"]));
}

#[test]
fn a_message_goes_by_its_exchange_where_that_is_known() {
    let recorded = recorded();
    let list = ["ls", "--messages", "-o", "json"];
    for (arguments, listed, exported) in [
        (&["--host", "web.shop"][..], [1, 0, 3], [1, 0, 3]),
        (&["--method", "POST"], [1, 0, 2], [1, 0, 2]),
        (&["--direction", "in"], [1, 0, 3], [1, 0, 3]),
        (&["--host", "127.0.0.1"], [2, 1, 6], [2, 1, 6]),
        (&["--grep", "hello"], [1, 0, 1], [1, 0, 3]),
        (&["--grep", "anybody"], [0, 0, 1], [0, 0, 1]),
        (&["--grep", "hello", "--direction", "out"], [0, 0, 0], [0, 0, 0]),
    ] {
        assert_eq!(recorded.kinds(&[&list, arguments].concat()), listed, "{arguments:?}");
        let tail = ["tail", "--no-follow", "-o", "json", "--lines", "100"];
        assert_eq!(recorded.kinds(&[&tail, arguments].concat()), listed, "{arguments:?}");
        assert_eq!(recorded.kinds(&[&["export"], arguments].concat()), exported, "{arguments:?}");
    }
    assert_eq!(recorded.kinds(&["ls", "-o", "json", "--grep", "hello"]), [1, 0, 0]);
}

#[test]
fn an_exchange_is_shown_with_its_messages_and_each_of_them_alone() {
    let recorded = recorded();
    let page = recorded.good(&["show", &recorded.websocket]);
    let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("{part} is not in\n{page}"));
    assert!(at("wss://web.shop/chat") < at("> #0 +1.0 ms text 15 B"), "{page}");
    assert!(at("\n{\n  \"say\": \"hello\"\n}\n") < at("< #1 +2.0 ms binary 2 B"), "{page}");
    assert!(at("00000000  ff 00") < at("< #2 +3.0 ms close 5 B") && at("close 5 B") < at("\n1000 bye\n"), "{page}");

    let lines = recorded.good(&["show", &recorded.grpc, "-o", "json"]);
    assert_eq!(recorded.kinds(&["show", &recorded.grpc, "-o", "json"]), [1, 0, 2]);
    let message = ids(&lines)[1].clone();
    let page = recorded.good(&["show", &message]);
    assert!(page.contains(&recorded.grpc) && page.contains("1: \"abc\"\n2 {\n  3: 42\n}\n"), "{page}");
}

#[test]
fn of_an_exchange_that_has_not_ended_its_messages_are_shown() {
    let recorded = recorded();
    let output = run(recorded.home.path(), &["show", &recorded.open[18..]]);
    let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let expected = out.contains("> #0 +0 µs text") && out.contains("anybody there") && error.contains("not ended");
    assert!(expected, "{out}{error}");
    assert_eq!(recorded.kinds(&["show", &recorded.open, "-o", "json"]), [0, 0, 1]);
}

/// `package shop; message Query { string text = 1; Page page = 2; } message Page { int32 size = 3; }
/// service Items { rpc List(Query) returns (Query); }`
fn descriptor_set(service: &str) -> Vec<u8> {
    let field = |name: &str, number, kind: Type, type_name: Option<&str>| FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: type_name.map(Into::into),
        ..Default::default()
    };
    let message = |name: &str, field| DescriptorProto { name: Some(name.into()), field, ..Default::default() };
    let method = MethodDescriptorProto {
        name: Some("List".into()),
        input_type: Some(".shop.Query".into()),
        output_type: Some(".shop.Query".into()),
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: Some("items.proto".into()),
        package: Some("shop".into()),
        message_type: vec![
            message(
                "Query",
                vec![field("text", 1, Type::String, None), field("page", 2, Type::Message, Some(".shop.Page"))],
            ),
            message("Page", vec![field("size", 3, Type::Int32, None)]),
        ],
        service: vec![ServiceDescriptorProto {
            name: Some(service.into()),
            method: vec![method],
            ..Default::default()
        }],
        syntax: Some("proto3".into()),
        ..Default::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

#[test]
fn a_descriptor_set_names_the_fields_and_one_that_does_not_fit_is_said() {
    let recorded = recorded();
    let set = recorded.home.path().join("set");
    let path = set.to_str().unwrap();
    for (bytes, id, named, said) in [
        // The answer is no Query: its first field is a number.
        (descriptor_set("Items"), &recorded.grpc, true, "message #1 is no shop.Query"),
        (descriptor_set("Others"), &recorded.grpc, false, "has no method shop.Items/List"),
        (b"\x0a\xff".to_vec(), &recorded.grpc, false, "is no descriptor set"),
    ] {
        std::fs::write(&set, bytes).unwrap();
        let output = run(recorded.home.path(), &["show", id, "--proto-set", path]);
        let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(0));
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
        let expected = if named { "text: \"abc\"" } else { "1: \"abc\"" };
        assert!(out.contains(expected) && out.contains("\n1: 7\n"), "{out}");
        assert_eq!(out.contains("size: 42"), named, "{out}");
    }
    std::fs::write(&set, descriptor_set("Items")).unwrap();
    let message = ids(&recorded.good(&["show", &recorded.grpc, "-o", "json"]))[1].clone();
    let page = recorded.good(&["show", &message, "--proto-set", path]);
    assert!(page.contains("text: \"abc\""), "{page}");
}

#[test]
fn a_har_has_the_messages_in_their_exchanges() {
    let recorded = recorded();
    let har: Value = serde_json::from_str(&recorded.good(&["export", "--format", "har"])).unwrap();
    let entries = har["log"]["entries"].as_array().unwrap();
    let of = |id: &String| entries.iter().find(|entry| entry["_id"] == id.as_str()).unwrap();
    assert_eq!(entries.len(), 2);
    let messages = of(&recorded.websocket)["_webSocketMessages"].as_array().unwrap();
    let ways: Vec<_> = messages.iter().map(|one| (one["type"].as_str().unwrap(), one["opcode"].as_u64())).collect();
    assert_eq!(ways, [("send", Some(1)), ("receive", Some(2)), ("receive", Some(8))]);
    let call = of(&recorded.grpc);
    assert_eq!(call["request"]["postData"]["text"], "\0\0\0\0\u{9}\n\u{3}abc\u{12}\u{2}\u{18}*");
    assert!(call["response"]["content"]["comment"].as_str().unwrap().contains("1 messages were lost"));
    let one: Value = serde_json::from_str(&recorded.good(&["export", "--format", "har", "--grep", "hello"])).unwrap();
    assert_eq!(one["log"]["entries"].as_array().unwrap().len(), 1);
}

#[test]
fn what_curl_cannot_repeat_is_said() {
    let recorded = recorded();
    for (id, said) in [(&recorded.grpc, "grpcurl"), (&recorded.websocket, "websocat wss://web.shop/chat")] {
        let output = run(recorded.home.path(), &["show", id, "--curl"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        assert!(error.contains("curl cannot") && error.contains(said), "{error}");
    }
}

#[test]
fn tail_shows_a_message_while_its_exchange_is_open() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("nodetap/01KD3000000000000000000000");
    let (recorder, recording) = Recorder::start(Settings::new(folder, Target::command("app")), vec![]).unwrap();
    let mut child = nodetap(home.path(), &["tail"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("ID"));
    for (event, part) in streams().into_iter().zip(["websocket {\"say\":\"hello\"}", "websocket anybody there"]) {
        assert!(recorder.record(event));
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(part), "{line}");
    }
    recording.close();
    child.kill().unwrap();
    child.wait().unwrap();
}
