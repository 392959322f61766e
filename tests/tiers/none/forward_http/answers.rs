//! What the proxy answers by itself, and what is written down of it: why, and where the request was to go.

use std::io::{Read, Write};

use nodetap_tests::client::{Ending, connect, drain};
use nodetap_tests::hearing::{Hearing, ask};
use nodetap_tests::http::read_head;
use nodetap_tests::proxy::Proxy;
use nodetap_tests::server::Server;
use serde_json::Value;

use super::{OK, get, held, refused};

fn outcomes(records: &[Value]) -> Vec<&str> {
    records.iter().filter_map(|record| record["outcome"].as_str()).collect()
}

#[test]
fn a_user_and_password_in_a_url_reach_no_record() {
    let user = "us3r:s3cret";
    for request in [
        format!("GET http://{user}@ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\nConnection: close\r\n\r\n"),
        format!("GET https://{user}@ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\nConnection: close\r\n\r\n"),
        format!("CONNECT {user}@ORIGIN HTTP/1.1\r\n\r\n"),
    ] {
        let held = refused(&request);
        assert_eq!(held.status(), "400", "{request}");
        let records = serde_json::to_string(&held.records).unwrap();
        assert!(!held.records.is_empty() && !records.contains("s3cr") && !records.contains("us3r"), "{records}");
    }
}

#[test]
fn what_follows_a_connect_that_is_refused_is_no_request_to_the_proxy() {
    let origin = Hearing::answering(OK).unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let to = origin.address();
    let get = |path: &str| format!("GET http://{to}/{path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    // Sent at once, so that the CONNECT is read before the response to the first request is over.
    let piped = format!("{}CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n{}", get("first"), get("inner"));
    let (answered, ending) = ask(proxy.address(), piped.as_bytes()).unwrap();
    assert!(origin.heard().unwrap().starts_with("GET /first "));
    assert!(answered.contains("HTTP/1.1 400 Bad Request\r\n"), "{answered}");
    assert_eq!((ending, origin.heard_nothing()), (Ending::Closed, true), "{answered}");
    let records = proxy.records().unwrap();
    assert_eq!(outcomes(&records), ["complete", "refused", "refused"], "{records:?}");
    assert!(records[2]["detail"].as_str().unwrap().contains("ended the connection before it came to"), "{records:?}");
}

#[test]
fn a_request_that_goes_nowhere_says_so_and_not_where_the_one_before_went() {
    let origin = Hearing::answering(OK).unwrap();
    let to = origin.address();
    let requests = format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\n\r\nGET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut proxy = Proxy::forward(&[]).unwrap();
    let (answered, _) = ask(proxy.address(), requests.as_bytes()).unwrap();
    assert!(answered.contains("The scheme https is not forwarded"), "{answered}");
    let records = proxy.records().unwrap();
    assert_eq!(outcomes(&records), ["complete", "refused"], "{records:?}");
    assert_eq!(records[1]["server"]["port"], 0, "{records:?}");
    assert!(records[1]["timing"]["connected"].is_null(), "{records:?}");
}

#[test]
fn a_request_at_fault_to_a_server_that_is_not_there_says_both() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let odd = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let request = format!("POST http://{closed}/ HTTP/1.1\r\nHost: {closed}\r\n{odd}");
    ask(proxy.address(), request.as_bytes()).unwrap();
    let records = proxy.records().unwrap();
    let said = records.iter().find_map(|one| one["detail"].as_str().filter(|_| one["kind"] == "exchange")).unwrap();
    assert!(said.contains("both Content-Length and") && said.contains("Connection refused"), "{records:?}");
}

#[test]
fn of_requests_in_a_row_the_one_at_fault_says_so() {
    let origin = Hearing::answering(OK).unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let to = origin.address();
    let get = |fields: &str| format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\n{fields}\r\n");
    let requests = [get(""), get("Host: other\r\n"), get(""), get("X: a\r\n folded\r\n")].concat();
    let (answered, _) = ask(proxy.address(), requests.as_bytes()).unwrap();
    assert_eq!(answered.matches("HTTP/1.1 400 ").count(), 2, "{answered}");
    let records = proxy.records().unwrap();
    assert_eq!(outcomes(&records), ["complete", "malformed", "complete", "malformed"], "{records:?}");
    assert!(records[1]["detail"].as_str().unwrap().contains("one Host field"), "{records:?}");
    assert!(records[3]["detail"].as_str().unwrap().contains("cannot be forwarded"), "{records:?}");
}

#[test]
fn a_server_that_closes_instead_of_answering_again_has_the_client_try_again() {
    // Each connection serves once, and closes when the next request comes.
    let server = Server::start("127.0.0.1:0", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(OK.as_bytes());
        read_head(&mut stream);
    })
    .unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", server.address());
    let mut client = connect(proxy.address()).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    read_head(&mut client).unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    let (answered, ending) = drain(&mut client).unwrap();
    assert_eq!((&answered[..], ending), (&b""[..], Ending::Closed));
    let records = proxy.records().unwrap();
    assert_eq!(records[1]["outcome"], "server_aborted", "{records:?}");
}

#[test]
fn a_client_that_ends_within_a_head_is_not_reset() {
    for head in ["GE", "GET http://a/ HTTP/1.1\r\nHost: a\r\n"] {
        let mut proxy = Proxy::forward(&[]).unwrap();
        let (answered, ending) = ask(proxy.address(), head.as_bytes()).unwrap();
        assert_eq!((&*answered, ending), ("", Ending::Closed), "{head}");
        let records = proxy.records().unwrap();
        assert!(!records[0]["detail"].to_string().contains("server reset"), "{records:?}");
    }
}

#[test]
fn a_request_that_comes_back_is_508() {
    let mut proxy = Proxy::forward(&[]).unwrap();
    let own = proxy.address();
    let (answered, _) = ask(own, format!("GET http://{own}/ HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    assert!(answered.starts_with("HTTP/1.1 508 Loop Detected\r\n"), "{answered}");
    let records = proxy.records().unwrap();
    assert_eq!(outcomes(&records), ["refused"], "{records:?}");
    assert_eq!(records[0]["response"]["status"], 508, "{records:?}");
}

#[test]
fn a_request_that_was_sent_round_by_others_is_508() {
    // A server that sends back to the proxy what it got, as it got it.
    let proxy = Proxy::forward(&[]).unwrap();
    let own = proxy.address();
    let server = Server::start("127.0.0.1:0", move |mut stream| {
        let head = String::from_utf8(read_head(&mut stream).unwrap()).unwrap();
        let to = stream.local_addr().unwrap();
        let again = head.replacen("GET /", &format!("GET http://{to}/"), 1);
        let (answered, _) = ask(own, again.as_bytes()).unwrap();
        stream.write_all(answered.as_bytes()).unwrap();
    })
    .unwrap();
    let to = server.address();
    let (answered, _) = ask(own, format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).unwrap();
    assert!(answered.starts_with("HTTP/1.1 508 "), "{answered}");
}

#[test]
fn a_request_to_the_proxy_itself_is_told_what_this_is() {
    let held = refused("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(held.status(), "400");
    assert!(held.answered.contains("This is a proxy"), "{}", held.answered);
    assert_eq!(held.records.len(), 1, "{:?}", held.records);
    assert_eq!(refused("GET https://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n\r\n").status(), "400");
}

#[test]
fn a_server_that_is_not_there_is_502_with_the_reason_and_a_record_of_it() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let request = format!("GET http://{closed}/ HTTP/1.1\r\nHost: {closed}\r\n\r\n");
    // The connection goes on: two requests, two answers.
    let (answered, _) = ask(proxy.address(), request.repeat(2).as_bytes()).unwrap();
    assert_eq!(answered.matches("HTTP/1.1 502 Bad Gateway").count(), 2, "{answered}");
    assert!(answered.contains("Connection refused"), "{answered}");
    let records = proxy.records().unwrap();
    assert_eq!(outcomes(&records), ["refused", "refused"], "{records:?}");
    assert_eq!(records[0]["server"]["port"], closed.port());
    assert!(records[0]["detail"].as_str().unwrap().contains("Connection refused"), "{records:?}");
}

#[test]
fn a_response_that_is_none_is_502_with_a_reason() {
    for answer in
        ["HTTP/1.1 200 OK\r\nX y z: q\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "SSH-2.0-x\r\n", ""]
    {
        let held = held(&get(""), answer);
        assert_eq!(held.status(), "502", "{answer}: {}", held.answered);
        assert!(held.answered.contains("gave no valid answer"), "{}", held.answered);
        let [record] = &held.records[..] else { panic!("{:?}", held.records) };
        let outcome = if answer.is_empty() { "server_aborted" } else { "malformed" };
        assert_eq!((&record["outcome"], &record["response"]["status"]), (&outcome.into(), &502.into()), "{record}");
    }
}

#[test]
fn two_hundred_fields_are_not_too_many_and_three_hundred_are_431() {
    let fields = |count: usize| (0..count).map(|index| format!("X-{index}: y\r\n")).collect::<String>();
    assert_eq!(held(&get(&fields(200)), OK).fields().len(), 200);
    assert_eq!(refused(&get(&fields(300))).status(), "431");
}
