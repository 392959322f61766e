//! HAR 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>), entry by entry: a recording of any size is exported in
//! the memory of one exchange. Bodies are shown without their content codings. What HAR has no place for has names
//! that begin with `_`, as it demands.

mod messages;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use self::messages::{Joined, WebSocketMessage};
use crate::decode;
use crate::exchange::{self, Exchange, Message, StreamMessage};
use crate::head::{Fields, Head};
use crate::record::{Direction, Grpc, Header, Outcome, Process, Via, grpc_of, head_fields, headers};
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

    /// `messages` are those of this exchange, in order; they are asked for one at a time, and a WebSocket's written one
    /// at a time.
    ///
    /// # Errors
    /// When it cannot be written, or the first of `messages`.
    pub fn write<E: From<io::Error>>(
        &mut self,
        exchange: &Exchange,
        messages: impl Iterator<Item = Result<StreamMessage, E>>,
    ) -> Result<(), E> {
        self.out.write_all(if self.entries == 0 { b"\n" } else { b",\n" })?;
        self.entries += 1;
        if exchange.protocol == exchange::Protocol::WebSocket {
            return self.web_socket(exchange, messages);
        }
        let mut joined = Joined::default();
        for message in messages {
            joined.add(&message?);
        }
        serde_json::to_writer(&mut self.out, &entry(exchange, Some(&joined))).map_err(io::Error::from)?;
        Ok(())
    }

    fn web_socket<E: From<io::Error>>(
        &mut self,
        exchange: &Exchange,
        messages: impl Iterator<Item = Result<StreamMessage, E>>,
    ) -> Result<(), E> {
        let mut entry = serde_json::to_vec(&entry(exchange, None)).map_err(io::Error::from)?;
        // Its last brace, so that more can be said.
        entry.pop();
        self.out.write_all(&entry)?;
        self.out.write_all(br#","_resourceType":"websocket","_webSocketMessages":["#)?;
        for (number, message) in messages.enumerate() {
            if number > 0 {
                self.out.write_all(b",")?;
            }
            serde_json::to_writer(&mut self.out, &WebSocketMessage::of(&message?)).map_err(io::Error::from)?;
        }
        Ok(self.out.write_all(b"]}")?)
    }

    /// Closes what is open; without it the file is no JSON.
    pub fn finish(self) -> io::Result<W> {
        self.finish_saying("")
    }

    /// The same, with a comment on the whole log: what it lacks.
    pub fn finish_saying(mut self, comment: &str) -> io::Result<W> {
        self.out.write_all(b"\n]")?;
        if !comment.is_empty() {
            self.out.write_all(br#","comment":"#)?;
            serde_json::to_writer(&mut self.out, comment)?;
        }
        self.out.write_all(b"}}\n")?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// One exchange as an entry of a HAR log.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
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
    #[serde(rename = "_grpc", skip_serializing_if = "Option::is_none")]
    grpc: Option<Grpc>,
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

/// An exchange as HAR has it, with the bodies that were put together of its messages, unless they stand elsewhere.
fn entry(exchange: &Exchange, joined: Option<&Joined>) -> Entry {
    let connection = &exchange.connection;
    let timings = timings(exchange);
    Entry {
        started_date_time: rfc3339(exchange.time),
        time: [timings.connect, timings.send, timings.wait, timings.receive].iter().filter(|part| **part > 0.0).sum(),
        request: request(exchange, joined),
        response: exchange.response.as_ref().map_or_else(no_response, |message| response(exchange, message, joined)),
        cache: Cache {},
        timings,
        server_ip_address: connection.server.ip().to_string(),
        connection: connection.id.to_string(),
        id: exchange.id.to_string(),
        direction: connection.direction.into(),
        target: connection.target.to_string(),
        process: connection.process.as_ref().map(Into::into),
        client: connection.client.to_string(),
        server: connection.server.to_string(),
        via: connection.via.into(),
        outcome: exchange.outcome.into(),
        detail: exchange.detail.as_ref().map(ToString::to_string),
        grpc: (exchange.protocol == exchange::Protocol::Grpc).then(|| grpc_of(exchange)),
        redacted: exchange.redacted.iter().map(ToString::to_string).collect(),
        dropped: exchange.dropped.iter().map(ToString::to_string).collect(),
    }
}

fn request(exchange: &Exchange, joined: Option<&Joined>) -> Request {
    let message = &exchange.request;
    let head = Head::parse(&message.head);
    let line = head.start.request();
    let asked = url::of_head(&head, exchange);
    Request {
        method: text(line.method).into_owned(),
        query_string: query(&asked.text),
        url: asked.text,
        http_version: text(line.version).into_owned(),
        cookies: [],
        headers: pairs(head_fields(&head)),
        post_data: match joined.and_then(|joined| joined.request(exchange)) {
            Some((whole, note)) => post_data(&whole, note),
            None => post_data(message, None),
        },
        headers_size: head_size(message),
        body_size: size(message.body.size),
        target: asked.target,
        trailers: pairs(headers(Fields::of(&message.trailers))),
    }
}

fn response(exchange: &Exchange, message: &Message, joined: Option<&Joined>) -> Response {
    let head = Head::parse(&message.head);
    let line = head.start.status();
    Response {
        status: line.code.unwrap_or(0),
        status_text: text(line.reason).into_owned(),
        http_version: text(line.version).into_owned(),
        cookies: [],
        headers: pairs(head_fields(&head)),
        content: match joined.and_then(|joined| joined.response(exchange)) {
            Some((whole, note)) => content(&whole, note),
            None => content(message, None),
        },
        redirect_url: header(message, "location").unwrap_or_default(),
        headers_size: head_size(message),
        body_size: size(message.body.size),
        trailers: pairs(headers(Fields::of(&message.trailers))),
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

fn post_data(message: &Message, note: Option<String>) -> Option<PostData> {
    if message.body.size == 0 || message.body.in_messages {
        return None;
    }
    let decoded = decode::body(message);
    let comment = comment(message, &decoded, note);
    let (text, encoding) = as_text(decoded.bytes);
    Some(PostData { mime_type: mime_type(message), text, encoding, comment })
}

fn content(message: &Message, note: Option<String>) -> Content {
    let decoded = decode::body(message);
    let comment = comment(message, &decoded, note);
    let whole = !decoded.partial && !decoded.codings.is_empty();
    let length = size(if whole { decoded.bytes.len() as u64 } else { message.body.size });
    let compression = whole.then(|| length - size(message.body.size));
    let (text, encoding) = as_text(decoded.bytes);
    let text = Some(text).filter(|text| !text.is_empty());
    Content { size: length, compression, mime_type: mime_type(message), text, encoding, comment }
}

fn comment(message: &Message, decoded: &decode::Decoded, note: Option<String>) -> Option<String> {
    let body = &message.body;
    if body.in_messages {
        return note;
    }
    let cut = (body.kept.len() as u64) < body.size;
    let cut = cut.then(|| format!("{} of {} bytes were kept", body.kept.len(), body.size));
    let partial = (decoded.partial && cut.is_none()).then(|| "not all of it could be decoded".to_owned());
    let unknown = decoded.unknown.as_ref().map(|coding| format!("still in content coding {coding}"));
    let parts: Vec<String> = [note, cut, partial, unknown].into_iter().flatten().collect();
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

fn pairs(headers: Vec<Header>) -> Vec<Pair> {
    headers.into_iter().map(|(name, value)| Pair { name, value }).collect()
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

/// As sent; -1 when redaction has changed it, or HTTP/2 has sent other bytes.
fn head_size(message: &Message) -> i64 {
    let redacted =
        message.head.windows(crate::redact::PLACEHOLDER.len()).any(|part| part == crate::redact::PLACEHOLDER);
    if redacted || message.head.is_empty() || Head::parse(&message.head).is_http2() {
        -1
    } else {
        size(message.head.len() as u64)
    }
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
