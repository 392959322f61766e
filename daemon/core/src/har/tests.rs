//! What other programs find in a HAR file.

use serde_json::{Value, json};

use super::*;
use crate::exchange::{Body, Event, MessageKind, Sender};
use crate::samples;

fn with_messages(exchange: &Exchange, messages: Vec<StreamMessage>) -> Value {
    let mut writer = Writer::new(Vec::new(), "1").unwrap();
    writer.write::<io::Error>(exchange, messages.into_iter().map(Ok)).unwrap();
    let mut document: Value = serde_json::from_slice(&writer.finish().unwrap()).unwrap();
    document["log"]["entries"][0].take()
}

fn value(exchange: &Exchange) -> Value {
    with_messages(exchange, vec![])
}

#[test]
fn a_file_written_entry_by_entry_is_one_har_document() {
    for count in [0, 1, 3] {
        let mut writer = Writer::new(Vec::new(), "1.2.3").unwrap();
        (0..count).for_each(|_| writer.write::<io::Error>(&samples::exchange(), std::iter::empty()).unwrap());
        let document: Value = serde_json::from_slice(&writer.finish().unwrap()).unwrap();
        assert_eq!(document["log"]["version"], "1.2");
        assert_eq!(document["log"]["creator"], json!({"name": "nodetap", "version": "1.2.3"}));
        assert_eq!(document["log"]["entries"].as_array().unwrap().len(), count);
    }
}

#[test]
fn an_exchange_becomes_an_entry() {
    let mut exchange = samples::exchange();
    exchange.request.head = b"GET /items?q=a%20b+c&x HTTP/1.1\r\nHost: web.shop\r\n\r\n".to_vec();
    let entry = value(&exchange);
    assert_eq!(entry["startedDateTime"], "1970-01-01T00:16:40.000123Z");
    assert_eq!(entry["time"], 5.12);
    assert_eq!(entry["request"]["queryString"], json!([{"name":"q","value":"a b c"},{"name":"x","value":""}]));
    assert_eq!(entry["request"]["postData"], Value::Null);
    assert_eq!(entry["request"]["headersSize"], 51);
    assert_eq!(
        entry["response"]["content"],
        json!({"size": 14, "mimeType": "application/json", "text": r#"{"a":[1,true]}"#})
    );
    assert_eq!(entry["timings"]["wait"], 4.479);
    assert_eq!((&entry["_direction"], &entry["_outcome"]), (&json!("outbound"), &json!("complete")));
    assert_eq!(entry["serverIPAddress"], "10.0.0.7");
}

#[test]
fn no_response_is_status_0() {
    let entry = value(&Exchange { response: None, ..samples::exchange() });
    assert_eq!(entry["response"]["status"], 0);
    assert_eq!(entry["response"]["bodySize"], -1);
}

#[test]
fn a_body_is_decoded_and_what_is_missing_is_said() {
    let mut exchange = samples::exchange();
    let zstd =
        ruzstd::encoding::compress_to_vec(&b"to be or not to be"[..], ruzstd::encoding::CompressionLevel::Fastest);
    let length = zstd.len() as u64;
    let mut response = samples::message("HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\n\r\n", "");
    response.body = Body { size: length, kept: zstd, in_messages: false };
    exchange.response = Some(response);
    exchange.request.body = Body { size: 10, kept: vec![0xff, 0], in_messages: false };
    let entry = value(&exchange);
    let content = &entry["response"]["content"];
    assert_eq!((&content["text"], &content["size"]), (&json!("to be or not to be"), &json!(18)));
    assert_eq!(content["compression"], json!(18 - i64::try_from(length).unwrap()));
    let post = &entry["request"]["postData"];
    assert_eq!((&post["text"], &post["_encoding"]), (&json!("/wA="), &json!("base64")));
    assert_eq!(post["comment"], "2 of 10 bytes were kept");
}

#[test]
fn no_phase_is_negative_and_together_they_are_the_time() {
    let mut exchange = samples::exchange();
    for (connected, request_end, first_byte, end) in [
        (None, None, None, None),
        (Some(9), Some(5), Some(3), Some(7)),
        (Some(1), None, Some(2), Some(8)),
        (None, Some(9), None, Some(4)),
    ] {
        exchange.timing = exchange::Timing { connected, request_end, first_byte, end };
        let entry = value(&exchange);
        let parts = ["connect", "send", "wait", "receive"].map(|part| entry["timings"][part].as_f64().unwrap());
        assert!(parts.iter().all(|part| *part >= 0.0 || *part == -1.0), "{parts:?}");
        let time = entry["time"].as_f64().unwrap();
        assert!((time - end.unwrap_or(0) as f64 / 1e3).abs() < 1e-9, "{time} {parts:?}");
    }
}

#[test]
fn every_url_is_free_of_blanks() {
    for event in samples::all() {
        if let Event::Exchange(exchange) = event {
            let url = value(&exchange)["request"]["url"].as_str().unwrap().to_owned();
            assert!(url.contains("://") && url.chars().all(|c| c.is_ascii_graphic()), "{url}");
        }
    }
}

#[test]
fn a_websocket_has_its_messages_as_chromium_writes_them() {
    let mut answer = samples::stream_message(MessageKind::Binary, &[0xff, 0]);
    (answer.sender, answer.body.size) = (Sender::Server, 9);
    let messages = vec![samples::stream_message(MessageKind::Text, b"hello"), answer];
    let entry = with_messages(&samples::websocket(), messages);
    assert_eq!(
        (&entry["_resourceType"], &entry["request"]["url"]),
        (&json!("websocket"), &json!("ws://web.shop/chat"))
    );
    assert_eq!(
        entry["_webSocketMessages"],
        json!([
            {"type": "send", "time": 1_000.001_623, "opcode": 1, "data": "hello"},
            {"type": "receive", "time": 1_000.001_623, "opcode": 2, "data": "/wA=", "_truncated": true},
        ])
    );
    assert_eq!((&entry["request"]["postData"], &entry["response"]["status"]), (&Value::Null, &json!(101)));
}

#[test]
fn the_messages_of_a_call_are_its_bodies_again() {
    let call = samples::grpc_call();
    let sent = samples::stream_message(MessageKind::Grpc, b"\x08\x01");
    let received =
        StreamMessage { sender: Sender::Server, ..samples::stream_message(MessageKind::Grpc, b"\x08\xff\x01") };
    let entry = with_messages(&call, vec![sent, received.clone(), received]);
    assert_eq!(entry["request"]["postData"]["text"], "\0\0\0\0\u{2}\u{8}\u{1}");
    assert_eq!(entry["request"]["httpVersion"], "HTTP/2");
    assert_eq!(entry["request"]["headersSize"], -1);
    let content = &entry["response"]["content"];
    assert_eq!((&content["text"], &content["encoding"]), (&json!("AAAAAAMI/wEAAAAAAwj/AQ=="), &json!("base64")));
    assert_eq!(content["comment"], "messages with their prefixes, uncompressed");
    assert_eq!((&entry["_grpc"]["status"], &entry["_grpc"]["method"]), (&json!(5), &json!("List")));

    let entry = with_messages(&call, vec![]);
    assert_eq!(entry["response"]["content"]["comment"], "2 messages were lost; 0 of 17 bytes were kept");
}

#[test]
fn the_pieces_of_an_endless_body_are_put_together_and_decoded() {
    let mut exchange = samples::exchange();
    let whole = ruzstd::encoding::compress_to_vec(&b"data: 1\n\n"[..], ruzstd::encoding::CompressionLevel::Fastest);
    let mut response = samples::message("HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\n\r\n", "");
    response.body = Body { size: whole.len() as u64, kept: vec![], in_messages: true };
    exchange.response = Some(response);
    let pieces: Vec<StreamMessage> =
        whole.chunks(5).map(|piece| samples::stream_message(MessageKind::Piece, piece)).collect();
    let content = with_messages(&exchange, pieces.clone())["response"]["content"].take();
    assert_eq!((&content["text"], &content["comment"]), (&json!("data: 1\n\n"), &Value::Null));
    let content = with_messages(&exchange, pieces[..1].to_vec())["response"]["content"].take();
    assert!(content["comment"].as_str().unwrap().starts_with(&format!("5 of {} bytes", whole.len())), "{content}");
}
