//! The cases of Autobahn's WebSocket suite, driven frame by frame: through us the server's verdict on every case is what
//! it is without, and the messages of every conversation that keeps to the rules are recorded.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use nodetap_tests::origin;
use nodetap_tests::process::Process;
use nodetap_tests::proxy::Proxy;
use nodetap_tests::seen::{Content, Messages};
use serde_json::Value;

/// What came of each case, by its number.
fn driven(port: u16, socks: Option<u16>) -> BTreeMap<String, Value> {
    let mut command = origin::python("websocket/autobahn.py").unwrap();
    command.arg("127.0.0.1").arg(port.to_string()).args(socks.map(|port| port.to_string()));
    let finished = Process::start(&mut command).unwrap().finish_within(Duration::from_secs(120)).unwrap();
    assert_eq!(finished.code(), 0, "{finished:?}");
    let cases = finished.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    cases.into_iter().map(|case| (case["case"].as_str().unwrap().to_owned(), case)).collect()
}

/// What one side has said in messages that are (not) control messages, in order: those may overtake the others.
fn said(list: &[(String, String, Content)], sender: &str, control: bool) -> Vec<(String, Content)> {
    let is_control = |kind: &str| matches!(kind, "close" | "ping" | "pong");
    let of = list.iter().filter(|(from, kind, _)| from == sender && is_control(kind) == control);
    of.map(|(_, kind, content)| (kind.clone(), content.clone())).collect()
}

/// Whether the record of a case has all its messages.
fn is_recorded(case: &Value, records: &BTreeMap<String, &Value>, messages: &Messages) -> Result<(), String> {
    let name = case["case"].as_str().unwrap();
    let record = records.get(name).ok_or("it has no record")?;
    if record["protocol"] != "websocket" || record["response"]["status"] != 101 {
        return Err(format!("its record is of no WebSocket: {record}"));
    }
    let recorded = messages.list(record["id"].as_str().unwrap()).map_err(|error| format!("{error:#}"))?;
    for sender in ["client", "server"] {
        let list: Vec<(String, String, Content)> = serde_json::from_value(case["messages"][sender].clone()).unwrap();
        for control in [false, true] {
            let (expected, found) = (said(&list, sender, control), said(&recorded, sender, control));
            // Of what is against the rules it may be told in one way or another what was said, but not less.
            let right = if case["end"] == "echo" { found == expected } else { found.starts_with(&expected) };
            if !right && (case["end"] == "echo" || sender == "client") {
                return Err(format!("the {sender} said {expected:?}; recorded: {found:?}; {record}"));
            }
        }
    }
    if case["end"] == "echo" && record["outcome"] != "complete" {
        return Err(format!("it is complete: {record}"));
    }
    Ok(())
}

fn compared(expected: &BTreeMap<String, Value>, found: &BTreeMap<String, Value>, records: &[Value]) {
    assert_eq!(found.len(), expected.len());
    let messages = Messages::of(records);
    let of_exchanges = records.iter().filter(|record| record["kind"] == "exchange");
    let by_case = of_exchanges
        .filter_map(|record| Some((record["request"]["url"].as_str()?.rsplit_once('/')?.1.to_owned(), record)));
    let by_case: BTreeMap<String, &Value> = by_case.collect();
    let mut wrong = Vec::new();
    for (name, case) in expected {
        let through = &found[name];
        if (&through["verdict"], &through["right"]) != (&case["verdict"], &case["right"]) {
            wrong.push(format!("{name}: the verdict is {} and not {}", through["verdict"], case["verdict"]));
        }
        if let Err(why) = is_recorded(through, &by_case, &messages) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
}

/// What came of each case without us; it is the same for every test.
fn direct() -> &'static BTreeMap<String, Value> {
    static DIRECT: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    DIRECT.get_or_init(|| {
        let (_server, port) = origin::serving("websocket_peer.py").unwrap();
        let expected = driven(port, None);
        assert!(expected.len() > 450, "{}", expected.len());
        let unfit: Vec<&Value> = expected.values().filter(|case| case["right"] != true).collect();
        assert!(unfit.is_empty(), "a server that does not keep to the rules says nothing about us: {unfit:?}");
        expected
    })
}

#[test]
fn every_case_of_autobahn_has_the_same_verdict_behind_a_reverse_proxy_and_its_messages_in_the_records() {
    let (_server, port) = origin::serving("websocket_peer.py").unwrap();
    let mut proxy = Proxy::with(([127, 0, 0, 1], port).into(), &["--max-body", "4MiB"]).unwrap();
    let found = driven(proxy.address().port(), None);
    compared(direct(), &found, &proxy.records().unwrap());
}

#[test]
fn every_case_of_autobahn_has_the_same_verdict_through_socks_and_its_messages_in_the_records() {
    let (_server, port) = origin::serving("websocket_peer.py").unwrap();
    let mut proxy = Proxy::forward(&["--max-body", "4MiB"]).unwrap();
    let found = driven(port, Some(proxy.address().port()));
    compared(direct(), &found, &proxy.records().unwrap());
}
