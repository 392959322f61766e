//! Calls and WebSockets held against the records: what a peer says it sent and received, message by message.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::seen::{Content, Messages};

/// A gRPC call as its server saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    path: String,
    status: Option<u64>,
    client: Vec<Content>,
    server: Vec<Content>,
}

/// Holds the records of one way against the lines of `grpc_peer.py serve`: the same calls with the same messages.
///
/// # Errors
/// Says what is not the same.
pub fn calls_recorded(records: &[Value], via: &str, lines: &str) -> Result<()> {
    let seen = lines.lines().filter(|line| line.contains("\"call\""));
    let mut expected: Vec<Call> = seen.map(|line| by_server(&serde_json::from_str(line)?)).collect::<Result<_>>()?;
    let messages = Messages::of(records);
    let of_way = records.iter().filter(|record| record["kind"] == "exchange" && record["via"] == via);
    let mut found: Vec<Call> =
        of_way.map(|record| in_record(record, &messages).with_context(|| record.to_string())).collect::<Result<_>>()?;
    found.sort();
    expected.sort();
    ensure!(!found.is_empty() && found == expected, "recorded: {found:#?}\nseen: {expected:#?}");
    Ok(())
}

fn by_server(line: &Value) -> Result<Call> {
    let contents = |name: &str| -> Result<Vec<Content>> {
        let list = line[name].as_array().context("no messages")?;
        list.iter().map(|message| Ok(serde_json::from_value(message.clone())?)).collect()
    };
    Ok(Call {
        path: line["method"].as_str().context("no method")?.to_owned(),
        status: line["status"].as_u64(),
        client: contents("client")?,
        server: contents("server")?,
    })
}

fn in_record(record: &Value, messages: &Messages) -> Result<Call> {
    let grpc = &record["grpc"];
    ensure!(record["protocol"] == "grpc" && record["outcome"] == "complete", "no whole call");
    let list = messages.list(record["id"].as_str().context("no id")?)?;
    let of = |sender: &str| -> Vec<Content> {
        list.iter()
            .filter(|(from, kind, _)| from == sender && kind == "grpc")
            .map(|(_, _, content)| content.clone())
            .collect()
    };
    let (client, server) = (of("client"), of("server"));
    let (sent, received) = if record["direction"] == "inbound" { (&server, &client) } else { (&client, &server) };
    ensure!(grpc["messages"] == serde_json::json!({"sent": sent.len(), "received": received.len()}), "other counts");
    let name = |key: &str| grpc[key].as_str().unwrap_or_default();
    Ok(Call {
        path: format!("/{}/{}", name("service"), name("method")),
        status: grpc["status"].as_u64(),
        client,
        server,
    })
}

/// Who sent it, its type, its content.
type Message = (String, String, Content);

/// Holds the records of one way against the lines of `websocket_peer.py call`: the same WebSockets, one after the other,
/// and in each the same messages of each side.
///
/// # Errors
/// Says what is not the same.
pub fn websockets_recorded(records: &[Value], via: &str, lines: &str) -> Result<()> {
    let mut expected: Vec<Vec<Message>> = vec![Vec::new()];
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line)?;
        let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let message = (word("from"), word("type"), serde_json::from_value(line["body"].clone())?);
        let last = message.0 == "server" && message.1 == "close";
        expected.last_mut().context("there is one")?.push(message);
        if last {
            expected.push(Vec::new());
        }
    }
    expected.pop();
    let messages = Messages::of(records);
    let of_way = |record: &&Value| record["kind"] == "exchange" && record["via"] == via;
    let mut found = Vec::new();
    for record in records.iter().filter(of_way) {
        ensure!(record["protocol"] == "websocket" && record["response"]["status"] == 101, "no WebSocket: {record}");
        ensure!(record["outcome"] == "complete", "{record}");
        found.push(messages.list(record["id"].as_str().context("no id")?)?);
    }
    ensure!(!found.is_empty(), "{via}: none of {} WebSockets is recorded", expected.len());
    let by_side = |sockets: Vec<Vec<Message>>| -> Vec<Vec<Message>> {
        let sides = ["client", "server"];
        let side = |socket: &[Message], name: &str| socket.iter().filter(|(from, ..)| from == name).cloned().collect();
        sockets.iter().flat_map(|socket| sides.map(|name| side(socket, name))).collect()
    };
    let (found, expected) = (by_side(found), by_side(expected));
    ensure!(found == expected, "{via}: recorded: {found:#?}\nsent: {expected:#?}");
    Ok(())
}
