//! gRPC, WebSockets and HTTP/2 under load through proxies, reverse and forward: what the peers say is the same as without,
//! and the records hold every message.

use std::process::Command;

use nodetap_tests::origin::{self, Origin};
use nodetap_tests::process::{Finished, Process, Stream};
use nodetap_tests::proxy::Proxy;
use nodetap_tests::{records, streams};

/// Runs a client of `script` to its end; it must not fail.
fn call(script: &str, target: &str, proxy: &str) -> Finished {
    let mut command = origin::python(script).unwrap();
    let finished = Process::start(command.args(["call", target, proxy])).unwrap().finish().unwrap();
    assert_eq!(finished.code(), 0, "{finished:?}");
    finished
}

/// Calls of every kind, directly and then through `proxy`; the server's lines of the latter.
fn called(port: u16, server: &Process, through: u16, proxy: &str) -> String {
    let expected = call("grpc_peer.py", &format!("127.0.0.1:{port}"), "-").text();
    let before = server.so_far(Stream::Out).len();
    assert_eq!(call("grpc_peer.py", &format!("127.0.0.1:{through}"), proxy).text(), expected);
    server.so_far(Stream::Out).split_off(before)
}

#[test]
fn grpc_calls_of_every_kind_go_through_a_reverse_proxy() {
    let (server, port) = origin::serving("grpc_peer.py").unwrap();
    let mut proxy = Proxy::before(([127, 0, 0, 1], port).into()).unwrap();
    let lines = called(port, &server, proxy.address().port(), "-");
    streams::calls_recorded(&proxy.records().unwrap(), "reverse", &lines).unwrap();
}

#[test]
fn grpc_calls_of_every_kind_go_through_a_connect_tunnel() {
    let (server, port) = origin::serving("grpc_peer.py").unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let lines = called(port, &server, port, &format!("http://{}", proxy.address()));
    streams::calls_recorded(&proxy.records().unwrap(), "forward-connect", &lines).unwrap();
}

#[test]
fn messages_of_a_call_that_stays_open_are_in_the_records_meanwhile() {
    let (_server, port) = origin::serving("grpc_peer.py").unwrap();
    let proxy = Proxy::before(([127, 0, 0, 1], port).into()).unwrap();
    let mut command = origin::python("grpc_peer.py").unwrap();
    let mut client = Process::start(command.args(["stay", &proxy.address().to_string(), "-"])).unwrap();
    for (number, (word, answer)) in [("stressed", "desserts"), ("live", "evil")].into_iter().enumerate() {
        client.write(format!("{word}\n").as_bytes()).unwrap();
        client.line(Stream::Out, answer, |line| (line == answer).then_some(())).unwrap();
        let messages = records::eventually_of_kind(proxy.out(), "message", 2 * (number + 1)).unwrap();
        let last: Vec<_> = messages.iter().rev().take(2).map(|message| message["body"]["text"].as_str()).collect();
        assert_eq!(last, [Some(answer), Some(word)], "{messages:?}");
    }
    assert_eq!(records::exchanges(proxy.out()).unwrap(), Vec::<serde_json::Value>::new(), "it is still open");
    assert_eq!(client.finish().unwrap().code(), 0);
}

#[test]
fn websockets_go_through_proxies_of_every_kind_message_by_message() {
    let (_server, port) = origin::serving("websocket_peer.py").unwrap();
    let mut reverse = Proxy::with(([127, 0, 0, 1], port).into(), &["--max-body", "1MiB"]).unwrap();
    let mut forward = Proxy::forward(&["--max-body", "1MiB"]).unwrap();
    let url = format!("ws://127.0.0.1:{port}/echo");
    let expected = call("websocket_peer.py", &url, "-").text();
    let reversed = call("websocket_peer.py", &format!("ws://{}/echo", reverse.address()), "-").text();
    assert_eq!(reversed, expected);
    for scheme in ["http", "socks5"] {
        let proxy = format!("{scheme}://{}", forward.address());
        assert_eq!(call("websocket_peer.py", &url, &proxy).text(), expected, "{scheme}");
    }
    streams::websockets_recorded(&reverse.records().unwrap(), "reverse", &expected).unwrap();
    let records = forward.records().unwrap();
    for via in ["forward-connect", "forward-socks5"] {
        streams::websockets_recorded(&records, via, &expected).unwrap();
    }
}

#[test]
fn nghttp_gets_the_same_bytes_over_one_connection_with_many_streams() {
    let mut origin = Origin::start().unwrap();
    let mut proxy = Proxy::with(([127, 0, 0, 1], origin.port()).into(), &["--max-body", "4MiB"]).unwrap();
    let get = |base: &str| {
        let mut nghttp = Command::new("nghttp");
        // Several at once, each with a priority; a window that has to be opened again and again.
        nghttp.args(["-w", "14", "-H", "x-name: value", "-H", "te: trailers"]);
        nghttp.args(["/fixed", "/random", "/chunked", "/trailers", "/missing"].map(|path| format!("{base}{path}")));
        let finished = Process::start(&mut nghttp).unwrap().finish().unwrap();
        assert_eq!(finished.code(), 0, "{finished:?}");
        finished.out
    };
    let expected = get(&origin.base());
    origin.seen("exchange connection").unwrap();
    let through = get(&format!("http://{}", proxy.address()));
    // Bodies of streams that are open at once are mixed as they come.
    assert_eq!(through.len(), expected.len());
    let seen = origin.seen("exchange connection").unwrap();
    let of_exchanges = seen.iter().filter(|line| line["kind"] == "exchange");
    let seen = of_exchanges.map(nodetap_tests::seen::Seen::by_server).collect::<anyhow::Result<Vec<_>>>().unwrap();
    assert_eq!(seen.len(), 5);
    nodetap_tests::matrix::recorded(&proxy.records().unwrap(), "reverse", origin.port(), seen).unwrap();
}

#[test]
fn h2load_has_no_failure_and_every_request_is_recorded() {
    let origin = Origin::start().unwrap();
    let mut proxy = Proxy::before(([127, 0, 0, 1], origin.port()).into()).unwrap();
    let mut h2load = Command::new("h2load");
    h2load.args(["-n", "2000", "-c", "4", "-m", "16", &format!("http://{}/fixed", proxy.address())]);
    let finished = Process::start(&mut h2load).unwrap().finish().unwrap();
    assert!(finished.text().contains("2000 succeeded, 0 failed"), "{finished:?}");
    let records = proxy.records().unwrap();
    let whole = |record: &&serde_json::Value| {
        (&record["protocol"], &record["outcome"], &record["response"]["body"]["text"])
            == (&"h2".into(), &"complete".into(), &"the fixed answer\n".into())
    };
    assert_eq!(records.iter().filter(whole).count(), 2000, "of {}", records.len());
}
