//! HAR 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>), entry by entry: a recording of any size is exported in
//! the memory of one exchange. Bodies are shown without their content codings. What HAR has no place for has names
//! that begin with `_`, as it demands.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::decode;
use crate::exchange::{Exchange, Message};
use crate::head::{Fields, Head};
use crate::record::{Direction, Outcome, Process, Via};
use crate::text::decode as text;
use crate::time::rfc3339;
use crate::url;

/// Writes a HAR file as the exchanges come.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    entries: u64,
}

impl<W: Write> Writer<W> {
    /// `version` is that of the program that writes.
    pub fn new(mut out: W, version: &str) -> io::Result<Self> {
        let creator = serde_json::json!({"name": "nodetap", "version": version});
        write!(out, r#"{{"log":{{"version":"1.2","creator":{creator},"entries":["#)?;
        Ok(Self { out, entries: 0 })
    }

    pub fn write(&mut self, exchange: &Exchange) -> io::Result<()> {
        self.out.write_all(if self.entries == 0 { b"\n" } else { b",\n" })?;
        self.entries += 1;
        serde_json::to_writer(&mut self.out, &entry(exchange)).map_err(Into::into)
    }

    /// Closes what is open; without it the file is no JSON.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(b"\n]}}\n")?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// One exchange as an entry of a HAR log.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    started_date_time: String,
    time: f64,
    request: Request,
    response: Response,
    cache: Cache,
    timings: Timings,
    #[serde(rename = "serverIPAddress")]
    server_ip_address: String,
    connection: String,
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_direction")]
    direction: Direction,
    #[serde(rename = "_target")]
    target: String,
    #[serde(rename = "_process", skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
    #[serde(rename = "_client")]
    client: String,
    #[serde(rename = "_server")]
    server: String,
    #[serde(rename = "_via")]
    via: Via,
    #[serde(rename = "_outcome")]
    outcome: Outcome,
    #[serde(rename = "_detail", skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(rename = "_redacted", skip_serializing_if = "Vec::is_empty")]
    redacted: Vec<String>,
    #[serde(rename = "_dropped", skip_serializing_if = "Vec::is_empty")]
    dropped: Vec<String>,
}

/// Nothing is known of the client's cache.
#[derive(Debug, Clone, Serialize)]
struct Cache {}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    method: String,
    url: String,
    http_version: String,
    /// Redacted, hence empty.
    cookies: [Pair; 0],
    headers: Vec<Pair>,
    query_string: Vec<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_data: Option<PostData>,
    headers_size: i64,
    body_size: i64,
    #[serde(rename = "_target", skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(rename = "_trailers", skip_serializing_if = "Vec::is_empty")]
    trailers: Vec<Pair>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct PostData {
    mime_type: String,
    text: String,
    /// HAR forgot it here.
    #[serde(rename = "_encoding", skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    /// 0: there was none.
    status: u16,
    status_text: String,
    http_version: String,
    cookies: [Pair; 0],
    headers: Vec<Pair>,
    content: Content,
    #[serde(rename = "redirectURL")]
    redirect_url: String,
    headers_size: i64,
    body_size: i64,
    #[serde(rename = "_trailers", skip_serializing_if = "Vec::is_empty")]
    trailers: Vec<Pair>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<i64>,
    mime_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Pair {
    name: String,
    value: String,
}

/// Milliseconds; -1: does not apply.
#[derive(Debug, Clone, Copy, Serialize)]
struct Timings {
    blocked: f64,
    dns: f64,
    connect: f64,
    send: f64,
    wait: f64,
    receive: f64,
    ssl: f64,
}

/// An exchange as HAR has it.
pub fn entry(exchange: &Exchange) -> Entry {
    let connection = &exchange.connection;
    let timings = timings(exchange);
    Entry {
        started_date_time: rfc3339(exchange.time),
        time: [timings.connect, timings.send, timings.wait, timings.receive].iter().filter(|part| **part > 0.0).sum(),
        request: request(exchange),
        response: exchange.response.as_ref().map_or_else(no_response, response),
        cache: Cache {},
        timings,
        server_ip_address: connection.server.ip().to_string(),
        connection: connection.id.to_string(),
        id: exchange.id.to_string(),
        direction: connection.direction.into(),
        target: connection.target.clone(),
        process: connection.process.as_ref().map(Into::into),
        client: connection.client.to_string(),
        server: connection.server.to_string(),
        via: connection.via.into(),
        outcome: exchange.outcome.into(),
        detail: exchange.detail.as_ref().map(ToString::to_string),
        redacted: exchange.redacted.iter().map(ToString::to_string).collect(),
        dropped: exchange.dropped.iter().map(ToString::to_string).collect(),
    }
}

fn request(exchange: &Exchange) -> Request {
    let message = &exchange.request;
    let head = Head::parse(&message.head);
    let line = head.start.request();
    let asked = url::of_head(&head, exchange.connection.server);
    Request {
        method: text(line.method).into_owned(),
        query_string: query(&asked.text),
        url: asked.text,
        http_version: text(line.version).into_owned(),
        cookies: [],
        headers: pairs(head.fields()),
        post_data: post_data(message),
        headers_size: head_size(message),
        body_size: size(message.body.size),
        target: asked.target,
        trailers: pairs(Fields::of(&message.trailers)),
    }
}

fn response(message: &Message) -> Response {
    let head = Head::parse(&message.head);
    let line = head.start.status();
    Response {
        status: line.code.unwrap_or(0),
        status_text: text(line.reason).into_owned(),
        http_version: text(line.version).into_owned(),
        cookies: [],
        headers: pairs(head.fields()),
        content: content(message),
        redirect_url: header(message, "location").unwrap_or_default(),
        headers_size: head_size(message),
        body_size: size(message.body.size),
        trailers: pairs(Fields::of(&message.trailers)),
    }
}

fn no_response() -> Response {
    let content =
        Content { size: 0, compression: None, mime_type: UNKNOWN.into(), text: None, encoding: None, comment: None };
    Response {
        status: 0,
        status_text: String::new(),
        http_version: String::new(),
        cookies: [],
        headers: vec![],
        content,
        redirect_url: String::new(),
        headers_size: -1,
        body_size: -1,
        trailers: vec![],
    }
}

/// What browsers write where there is no content type.
const UNKNOWN: &str = "x-unknown";

fn post_data(message: &Message) -> Option<PostData> {
    if message.body.size == 0 {
        return None;
    }
    let decoded = decode::body(message);
    let comment = comment(message, &decoded);
    let (text, encoding) = as_text(decoded.bytes);
    Some(PostData { mime_type: mime_type(message), text, encoding, comment })
}

fn content(message: &Message) -> Content {
    let decoded = decode::body(message);
    let comment = comment(message, &decoded);
    let whole = !decoded.partial && !decoded.codings.is_empty();
    let length = size(if whole { decoded.bytes.len() as u64 } else { message.body.size });
    let compression = whole.then(|| length - size(message.body.size));
    let (text, encoding) = as_text(decoded.bytes);
    let text = Some(text).filter(|text| !text.is_empty());
    Content { size: length, compression, mime_type: mime_type(message), text, encoding, comment }
}

fn comment(message: &Message, decoded: &decode::Decoded) -> Option<String> {
    let body = &message.body;
    let cut = (body.kept.len() as u64) < body.size;
    let cut = cut.then(|| format!("{} of {} bytes were kept", body.kept.len(), body.size));
    let partial = (decoded.partial && cut.is_none()).then(|| "not all of it could be decoded".to_owned());
    let unknown = decoded.unknown.as_ref().map(|coding| format!("still in content coding {coding}"));
    let parts: Vec<String> = [cut, partial, unknown].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn as_text(bytes: Vec<u8>) -> (String, Option<&'static str>) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => (STANDARD.encode(error.as_bytes()), Some("base64")),
    }
}

fn mime_type(message: &Message) -> String {
    header(message, "content-type").unwrap_or_else(|| UNKNOWN.into())
}

fn header(message: &Message, name: &str) -> Option<String> {
    let head = Head::parse(&message.head);
    head.fields().find(|field| field.is(name)).map(|field| text(&field.unfolded()).into_owned())
}

fn pairs(fields: Fields<'_>) -> Vec<Pair> {
    crate::record::headers(fields).into_iter().map(|(name, value)| Pair { name, value }).collect()
}

/// Pairs of the query, decoded as forms are (`+` is a space).
fn query(url: &str) -> Vec<Pair> {
    let Some((_, query)) = url.split('#').next().unwrap_or_default().split_once('?') else { return vec![] };
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Pair { name: form_decoded(name), value: form_decoded(value) }
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

fn form_decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            _ => bytes.push(*first),
        }
    }
    text(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// As sent; -1 when redaction has changed it.
fn head_size(message: &Message) -> i64 {
    let redacted =
        message.head.windows(crate::redact::PLACEHOLDER.len()).any(|part| part == crate::redact::PLACEHOLDER);
    if redacted || message.head.is_empty() { -1 } else { size(message.head.len() as u64) }
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The phases follow each other in HAR; where they overlapped (an answer before the end of the request), the earlier
/// one has the time.
fn timings(exchange: &Exchange) -> Timings {
    let timing = &exchange.timing;
    let end = timing.end.unwrap_or(0);
    let sent = timing.request_end.unwrap_or(end).min(end);
    let connected = timing.connected.map(|connected| connected.min(sent));
    let first = timing.first_byte.unwrap_or(end).clamp(sent, end);
    let ms = |micros: u64| micros as f64 / 1e3;
    Timings {
        blocked: -1.0,
        dns: -1.0,
        connect: connected.map_or(-1.0, ms),
        send: ms(sent - connected.unwrap_or(0)),
        wait: ms(first - sent),
        receive: ms(end - first),
        ssl: -1.0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::exchange::{Body, Event};
    use crate::samples;

    fn value(exchange: &Exchange) -> Value {
        serde_json::to_value(entry(exchange)).unwrap()
    }

    #[test]
    fn a_file_written_entry_by_entry_is_one_har_document() {
        for count in [0, 1, 3] {
            let mut writer = Writer::new(Vec::new(), "1.2.3").unwrap();
            (0..count).for_each(|_| writer.write(&samples::exchange()).unwrap());
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
            exchange.timing = crate::exchange::Timing { connected, request_end, first_byte, end };
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
                assert!(url.starts_with("http://") && url.chars().all(|c| c.is_ascii_graphic()), "{url}");
            }
        }
    }
}
