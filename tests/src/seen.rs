//! An exchange in few words, as a server saw it and as a record tells it: the two must be the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Size and SHA-256 of a body.
pub type Content = (u64, String);

/// One exchange.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// `http/1.1`, `h2`, `sse`.
    pub protocol: String,
    /// As sent.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// 0: there was none.
    pub status: u64,
    /// After transfer decoding.
    pub request: Content,
    /// After transfer decoding.
    pub response: Content,
}

impl Seen {
    /// A line of the server's.
    ///
    /// # Errors
    /// When it is none of an exchange.
    pub fn by_server(line: &Value) -> Result<Self> {
        let content =
            |name: &str| -> Result<Content> { Ok((line[name][0].as_u64().context("no size")?, word(&line[name][1])?)) };
        let target = word(&line["target"])?;
        Ok(Self {
            protocol: if target == "/events" { "sse".to_owned() } else { word(&line["protocol"])? },
            method: word(&line["method"])?,
            target,
            status: line["status"].as_u64().context("no status")?,
            request: content("request")?,
            response: content("response")?,
        })
    }

    /// A record of kind `exchange`; what is kept of its bodies elsewhere is looked up among `messages`.
    ///
    /// # Errors
    /// When it is none.
    pub fn in_record(record: &Value, messages: &Messages) -> Result<Self> {
        let url = word(&record["request"]["url"])?;
        let (_, rest) = url.split_once("://").with_context(|| format!("{url} is not absolute"))?;
        let id = record["id"].as_str().unwrap_or_default();
        let content = |body: &Value, from: &str| match body["in"].as_str() {
            Some(_) => Ok(messages.whole(id, from)),
            None => content(body),
        };
        Ok(Self {
            protocol: word(&record["protocol"])?,
            method: word(&record["request"]["method"])?,
            target: rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
            status: record["response"]["status"].as_u64().unwrap_or(0),
            request: content(&record["request"]["body"], "client")?,
            response: content(&record["response"]["body"], "server")?,
        })
    }
}

/// Messages by the exchange that they belong to, in their order.
#[derive(Debug, Default)]
pub struct Messages(BTreeMap<String, Vec<Value>>);

impl Messages {
    /// Those among `records`.
    pub fn of(records: &[Value]) -> Self {
        let mut all = Self::default();
        for record in records.iter().filter(|record| record["kind"] == "message") {
            let exchange = record["exchange"].as_str().unwrap_or_default().to_owned();
            all.0.entry(exchange).or_default().push(record.clone());
        }
        all.0.values_mut().for_each(|list| list.sort_by_key(|message| message["seq"].as_u64()));
        all
    }

    /// Those of one exchange: who sent it, its type, its content.
    ///
    /// # Errors
    /// When one of them has no body.
    pub fn list(&self, exchange: &str) -> Result<Vec<(String, String, Content)>> {
        let list = self.0.get(exchange).map(Vec::as_slice).unwrap_or_default();
        let content = |message: &Value| match message["code"].as_u64() {
            // Of a WebSocket's close message: on the wire the two are one (RFC 6455 §5.5.1).
            Some(code) => {
                let code = u16::try_from(code).context("no code of a close message")?.to_be_bytes();
                let bytes = [&code, kept(&message["body"]).as_slice()].concat();
                Ok((bytes.len() as u64, digest(&bytes)))
            }
            None => content(&message["body"]),
        };
        list.iter().map(|message| Ok((word(&message["from"])?, word(&message["type"])?, content(message)?))).collect()
    }

    /// What one side sent, as if it were one.
    fn whole(&self, exchange: &str, from: &str) -> Content {
        let list = self.0.get(exchange).map(Vec::as_slice).unwrap_or_default();
        let bytes: Vec<u8> =
            list.iter().filter(|message| message["from"] == from).flat_map(|message| kept(&message["body"])).collect();
        (bytes.len() as u64, digest(&bytes))
    }
}

/// Size and digest of a body that is kept whole.
///
/// # Errors
/// When it was cut.
pub fn content(body: &Value) -> Result<Content> {
    if body["truncated"] == true {
        bail!("of {} bytes of a body {} were kept", body["size"], body["kept"]);
    }
    Ok((body["size"].as_u64().unwrap_or(0), digest(&kept(body))))
}

fn kept(body: &Value) -> Vec<u8> {
    match (body["text"].as_str(), body["base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => STANDARD.decode(text).unwrap_or_default(),
        (None, None) => Vec::new(),
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn word(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("{value} is no word"))?.to_owned())
}
