//! What the JSON view says, and that its schema says the same.

use super::*;
use crate::exchange::Event;
use crate::samples;

fn json(event: &Event) -> String {
    serde_json::to_string(&Record::from(event)).unwrap()
}

/// What is absent is left out, never null; schemars takes every `Option` for nullable.
fn without_null(schema: &mut serde_json::Value) {
    let null = serde_json::json!("null");
    match schema {
        serde_json::Value::Object(object) => {
            if let Some(serde_json::Value::Array(types)) = object.get_mut("type") {
                types.retain(|one| *one != null);
                if let [only] = &types[..] {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(serde_json::Value::Array(any)) = object.get_mut("anyOf") {
                any.retain(|one| one.get("type") != Some(&null));
                if let [serde_json::Value::Object(only)] = &any[..] {
                    let only = only.clone();
                    object.remove("anyOf");
                    object.extend(only);
                }
            }
            object.values_mut().for_each(without_null);
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(without_null),
        _ => {}
    }
}

#[test]
fn the_shipped_schema_is_that_of_the_types() {
    let mut schema = schemars::schema_for!(Record);
    schema.insert("title".into(), format!("nodetap record, version {VERSION}").into());
    let mut schema = schema.to_value();
    without_null(&mut schema);
    if std::env::var_os("NODETAP_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/record.schema.json"), text).unwrap();
    } else {
        // As values: the order of keys depends on what other crates ask of serde_json.
        let shipped: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        assert!(shipped == schema, "record.schema.json is out of date: run this test with NODETAP_BLESS=1");
    }
}

#[test]
fn an_exchange_has_its_keys_in_the_documented_order() {
    let expected = concat!(
        r#"{"v":1,"id":"000000YGJ00000000000000002","time":"1970-01-01T00:16:40.000123Z","kind":"exchange","#,
        r#""direction":"outbound","protocol":"http/1.1","target":{"kind":"command","name":"curl"},"#,
        r#""process":{"pid":4711,"name":"curl"},"client":{"address":"127.0.0.1","port":50000},"#,
        r#""server":{"address":"10.0.0.7","port":8080},"via":"transparent","connection":"000000YGJ00000000000000001","#,
        r#""request":{"method":"GET","url":"http://web.shop/items?q=1","headers":[["Host","web.shop"],["aCCept","*/*"]],"#,
        r#""body":{"size":0}},"#,
        r#""response":{"status":200,"headers":[["Content-Type","application/json"]],"#,
        r#""body":{"size":14,"kept":14,"text":"{\"a\":[1,true]}"}},"#,
        r#""timing":{"connected":310,"request_end":322,"first_byte":4801,"end":5120},"#,
        r#""bytes":{"sent":64,"received":190},"outcome":"complete"}"#
    );
    assert_eq!(json(&samples::exchange().into()), expected);
}

#[test]
fn a_pod_is_named_with_all_that_is_known_of_it() {
    let expected = concat!(
        r#""direction":"inbound","protocol":"http/1.1","target":{"kind":"pod","name":"web-6774cc6887-rjz5j","#,
        r#""namespace":"shop","container":"app","workload":"Deployment/web","node":"n1","#,
        r#""labels":{"app":"web","tier":"front"}},"process":{"pid":4711,"name":"curl"},"#,
        r#""client":{"address":"127.0.0.1","port":50000,"name":"shop/client"},"#,
        r#""server":{"address":"10.0.0.7","port":8080,"name":"web.shop.svc.cluster.local"},"#
    );
    let found = json(&samples::of_pod().into());
    assert!(found.contains(expected), "{found}");
}

#[test]
fn a_loss_names_its_reason_and_span() {
    let loss = crate::exchange::Loss {
        time: 1_000_000_000,
        until: 2_000_000_000,
        target: crate::exchange::Target::command("curl"),
        reason: "queue_full".into(),
        exchanges: 17,
        bytes: 120_045,
    };
    assert_eq!(
        json(&Event::Loss(loss)),
        concat!(
            r#"{"v":1,"kind":"loss","time":"1970-01-01T00:16:40.000000Z","until":"1970-01-01T00:33:20.000000Z","#,
            r#""target":{"kind":"command","name":"curl"},"reason":"queue_full","exchanges":17,"bytes":120045}"#
        )
    );
}

#[test]
fn what_is_written_can_be_read_back_as_the_same_record() {
    for event in samples::all() {
        let record = Record::from(&event);
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record, "{line}");
    }
}

#[test]
fn a_body_is_text_only_when_all_of_it_is() {
    let body = |kept: &[u8], size: u64| {
        let mut exchange = samples::exchange();
        exchange.response.as_mut().unwrap().body =
            crate::exchange::Body { size, kept: kept.to_vec(), in_messages: false };
        match Record::from(&Event::from(exchange)) {
            Record::Exchange(record) => serde_json::to_string(&record.response.unwrap().body).unwrap(),
            _ => unreachable!(),
        }
    };
    assert_eq!(body(b"", 0), r#"{"size":0}"#);
    assert_eq!(body(b"", 5), r#"{"size":5,"kept":0,"truncated":true}"#);
    assert_eq!(body("grün".as_bytes(), 5), r#"{"size":5,"kept":5,"text":"grün"}"#);
    assert_eq!(body(b"gr\xc3", 5), r#"{"size":5,"kept":2,"truncated":true,"text":"gr"}"#);
    assert_eq!(body(b"gr\xc3", 3), r#"{"size":3,"kept":3,"base64":"Z3LD"}"#);
    assert_eq!(body(b"\xff\x00", 9), r#"{"size":9,"kept":2,"truncated":true,"base64":"/wA="}"#);
}

#[test]
fn odd_heads_are_shown_as_they_were_sent() {
    let mut exchange = samples::exchange();
    exchange.request.head = b"G\xfcT * HTTP/1.1\r\nX-A : a\r\n b\r\nnothing\r\nX-B: gr\xfcn\r\n\r\n".to_vec();
    exchange.request.trailers = b"X-Sum: 1\r\n".to_vec();
    exchange.interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
    let Record::Exchange(record) = Record::from(&Event::from(exchange)) else { unreachable!() };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(record.request.method, "GüT");
    assert_eq!(record.request.target.as_deref(), Some("*"));
    assert_eq!(record.request.headers, [pair("X-A", "a b"), pair("nothing", ""), pair("X-B", "grün")]);
    assert_eq!(record.request.trailers, [pair("X-Sum", "1")]);
    assert_eq!(record.interim, [Interim { status: Some(103), headers: vec![pair("Link", "</a>")] }]);
}

#[test]
fn http2_and_its_tls_have_their_keys_in_the_documented_places() {
    let line = json(&samples::http2().into());
    for part in [
        r#""protocol":"h2","target""#,
        r#""via":"transparent","connection":"000000YGJ00000000000000001","stream":1,"tls":{"version":"1.3","sni":"web.shop","offered_alpn":["h2"],"alpn":"h2","opened":true},"request":{"method":"GET","url":"https://web.shop/items?q=1","headers":[["accept","*/*"]],"body":{"size":0}},"#,
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn what_http2_says_in_pseudo_headers_is_no_header() {
    let mut exchange = samples::http2();
    exchange.protocol = crate::exchange::Protocol::WebSocket;
    exchange.request.head = b"CONNECT https://web.shop/chat HTTP/2\r\n:protocol: websocket\r\nx: y\r\n\r\n".to_vec();
    let Record::Exchange(record) = Record::from(&Event::from(exchange)) else { unreachable!() };
    assert_eq!((record.request.url.as_str(), record.request.target), ("wss://web.shop/chat", None));
    assert_eq!(record.request.headers, [("x".to_owned(), "y".to_owned())]);
}

#[test]
fn a_call_says_what_was_called_and_how_it_ended() {
    let line = json(&samples::grpc_call().into());
    for part in [
        r#""body":{"size":10,"in":"messages"}},"response":{"status":200"#,
        r#""body":{"size":17,"in":"messages"},"trailers":[["grpc-status","5"],["grpc-message","no%20such item"]]}"#,
        r#""outcome":"complete","grpc":{"service":"shop.Items","method":"List","status":5,"message":"no such item","messages":{"sent":1,"received":2}}}"#,
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_message_has_its_keys_in_the_documented_order() {
    let message = samples::stream_message(crate::exchange::MessageKind::Close, b"\x03\xe8bye");
    let expected = concat!(
        r#"{"v":1,"id":"000000YGJ00000000000000006","time":"1970-01-01T00:16:40.001623Z","kind":"message","#,
        r#""direction":"outbound","protocol":"websocket","target":{"kind":"command","name":"curl"},"#,
        r#""process":{"pid":4711,"name":"curl"},"client":{"address":"127.0.0.1","port":50000},"#,
        r#""server":{"address":"10.0.0.7","port":8080},"via":"transparent","connection":"000000YGJ00000000000000001","#,
        r#""exchange":"000000YGJ00000000000000002","seq":3,"from":"client","type":"close","#,
        r#""body":{"size":3,"kept":3,"text":"bye"},"code":1000,"#,
        r#""timing":{"end":0},"bytes":{"sent":11,"received":0},"outcome":"complete"}"#
    );
    assert_eq!(json(&Event::Message(Box::new(message))), expected);
}

#[test]
fn tls_that_was_to_be_opened_says_why_it_was_not() {
    let mut summary = samples::connection();
    summary.tls.as_mut().unwrap().passthrough = Some("client_rejected".into());
    let line = json(&summary.into());
    let tls = r#""tls":{"version":"1.3","sni":"web.shop","offered_alpn":["h2","http/1.1"],"opened":false,"passthrough":"client_rejected"}"#;
    assert!(line.contains(tls), "{line}");
}
