//! Requests in absolute form by raw socket: what the server hears and what the client is answered, one rule a test
//! (RFC 9110 §7.6, RFC 9112 §3.2).

mod answers;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::mpsc;

use nodetap_tests::client::{Ending, connect, drain};
use nodetap_tests::hearing::{Hearing, ask};
use nodetap_tests::http::read_head;
use nodetap_tests::proxy::Proxy;
use nodetap_tests::server::{Server, answer};
use serde_json::Value;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What the server heard, what the client was answered, and what was written down.
struct Held {
    heard: String,
    answered: String,
    ending: Ending,
    records: Vec<Value>,
}

impl Held {
    fn status(&self) -> &str {
        self.answered.get(9..12).unwrap_or(&self.answered)
    }

    /// The field lines that the server heard, without those of every request.
    fn fields(&self) -> Vec<&str> {
        let head = self.heard.split("\r\n\r\n").next().unwrap();
        head.split("\r\n").skip(1).filter(|line| !line.starts_with("Host:") && !line.starts_with("via:")).collect()
    }
}

/// Holds one conversation through a proxy of its own; `ORIGIN` stands for the server's address.
fn held(request: &str, answer: &str) -> Held {
    let origin = Hearing::answering(answer).unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let request = request.replace("ORIGIN", &origin.address().to_string());
    let (answered, ending) = ask(proxy.address(), request.as_bytes()).unwrap();
    let records = proxy.records().unwrap();
    Held { heard: origin.heard().unwrap_or_default(), answered, ending, records }
}

/// As [`held`], for a request that must not reach the server.
fn refused(request: &str) -> Held {
    let origin = Hearing::answering(OK).unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let request = request.replace("ORIGIN", &origin.address().to_string());
    let (answered, ending) = ask(proxy.address(), request.as_bytes()).unwrap();
    let records = proxy.records().unwrap();
    assert!(origin.heard_nothing(), "the server heard of it");
    Held { heard: String::new(), answered, ending, records }
}

fn get(fields: &str) -> String {
    format!("GET http://ORIGIN/a HTTP/1.1\r\nHost: ORIGIN\r\n{fields}\r\n")
}

#[test]
fn a_request_is_forwarded_in_origin_form_and_recorded_with_its_server() {
    let held = held(&get("X-Mixed-Case: Kept\r\n"), OK);
    assert!(held.heard.starts_with("GET /a HTTP/1.1\r\nHost: 127.0.0.1:"), "{}", held.heard);
    assert_eq!(held.fields(), ["X-Mixed-Case: Kept"]);
    assert!(held.heard.contains("via: 1.1 nodetap ("), "{}", held.heard);
    assert!(
        held.answered.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nvia: 1.1 nodetap ("),
        "{}",
        held.answered
    );
    assert_eq!(held.ending, Ending::Closed);
    let [record] = &held.records[..] else { panic!("{:?}", held.records) };
    assert_eq!((&record["via"], &record["kind"]), (&"forward-http".into(), &"exchange".into()), "{record}");
    assert_eq!(record["server"]["address"], "127.0.0.1", "{record}");
    assert_eq!((&record["direction"], &record["outcome"]), (&"outbound".into(), &"complete".into()), "{record}");
    let url = record["request"]["url"].as_str().unwrap();
    assert_eq!(url, format!("http://127.0.0.1:{}/a", record["server"]["port"]), "{record}");
    assert!(record["timing"]["connected"].is_u64(), "{record}");
}

#[test]
fn a_coding_that_the_proxy_does_not_take_off_stays_named() {
    let request = "POST http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\nTransfer-Encoding: gzip, chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\n";
    let heard = held(request, OK).heard.to_ascii_lowercase();
    assert!(heard.contains("transfer-encoding: gzip, chunked\r\n") && heard.contains("\r\n3\r\nabc\r\n"), "{heard}");
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answered = held(&get(""), answer).answered.to_ascii_lowercase();
    assert!(
        answered.contains("transfer-encoding: gzip, chunked\r\n") && answered.contains("3\r\nabc\r\n"),
        "{answered}"
    );
}

#[test]
fn a_request_without_host_is_400() {
    assert_eq!(refused("GET http://ORIGIN/ HTTP/1.1\r\n\r\n").status(), "400");
}

#[test]
fn a_request_with_two_hosts_is_400() {
    assert_eq!(refused("GET http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\nHost: ORIGIN\r\n\r\n").status(), "400");
}

#[test]
fn a_request_with_an_invalid_host_is_400() {
    assert_eq!(refused("GET http://ORIGIN/ HTTP/1.1\r\nHost: a b\r\n\r\n").status(), "400");
}

#[test]
fn fields_for_one_hop_go_no_further() {
    let hop = "Connection: X-Foo, keep-alive\r\nX-Foo: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
               Proxy-Authorization: Basic s3cret\r\nUpgrade: foo\r\nTE: gzip\r\nAccept: */*\r\n";
    assert_eq!(held(&get(hop), OK).fields(), ["Accept: */*"]);
}

#[test]
fn fields_of_a_response_for_one_hop_go_no_further() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: X-Foo\r\nX-Foo: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n\
                  X-End: kept\r\nContent-Length: 0\r\n\r\n";
    let answered = held(&get(""), answer).answered;
    assert!(answered.contains("X-End: kept\r\n"), "{answered}");
    for gone in ["X-Foo", "Keep-Alive", "Upgrade"] {
        assert!(!answered.contains(gone), "{answered}");
    }
}

#[test]
fn a_length_beside_a_transfer_coding_goes_as_chunked_only() {
    for fields in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"]
    {
        let request = format!("POST http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n{fields}\r\n3\r\nabc\r\n0\r\n\r\n");
        let held = held(&request, OK);
        assert_eq!(held.status(), "200");
        let heard = held.heard.to_lowercase();
        assert!(heard.contains("transfer-encoding: chunked") && !heard.contains("content-length"), "{heard}");
        assert!(held.heard.ends_with("3\r\nabc\r\n0\r\n\r\n"), "{}", held.heard);
        // Whatever follows might be anything.
        assert!(held.answered.to_lowercase().contains("connection: close"), "{}", held.answered);
    }
}

#[test]
fn a_transfer_coding_that_does_not_end_in_chunked_is_400() {
    for fields in ["Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"] {
        let request = format!("POST http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n{fields}\r\n0\r\n\r\n");
        assert_eq!(refused(&request).status(), "400", "{fields}");
    }
}

#[test]
fn a_head_that_can_be_read_in_two_ways_is_400() {
    for fields in [
        "Content-Length: +4\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length : 4\r\n",
        "X: a\r\n folded\r\n",
        "X: a\rb\r\n",
    ] {
        let request = format!("POST http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n{fields}\r\nbody");
        let held = refused(&request);
        assert_eq!(held.status(), "400", "{fields}");
        let recorded = held.records.iter().any(|record| record["response"]["status"] == 400);
        assert!(recorded, "{fields}: {:?}", held.records);
    }
}

#[test]
fn a_line_feed_alone_ends_a_line_of_a_head() {
    let held = held("GET http://ORIGIN/a HTTP/1.1\nHost: ORIGIN\nX: y\n\n", OK);
    assert_eq!((held.status(), held.fields()), ("200", vec!["X: y"]));
}

#[test]
fn a_line_feed_alone_in_chunked_framing_is_400() {
    let head = "POST http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\nTransfer-Encoding: chunked\r\n\r\n";
    let held = held(&format!("{head}3\nabc\n0\n\n"), OK);
    assert_eq!(held.status(), "400", "{}", held.answered);
    assert_eq!(held.heard, "");
}

#[test]
fn a_bad_chunk_is_400_and_its_server_hears_no_end_of_it() {
    let (heard, hears) = mpsc::channel();
    let server = Server::start("127.0.0.1:0", move |mut stream| {
        let mut all = Vec::new();
        drop(stream.read_to_end(&mut all));
        heard.send(String::from_utf8_lossy(&all).into_owned()).unwrap();
    })
    .unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let to = server.address();
    let mut stream = connect(proxy.address()).unwrap();
    let head = format!("POST http://{to}/ HTTP/1.1\r\nHost: {to}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"nonsense\r\n").unwrap();
    let answered = read_head(&mut stream).unwrap();
    assert!(answered.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answered));
    let heard = hears.recv().unwrap();
    assert!(!heard.contains("\r\n0\r\n"), "{heard}");
    drop(stream);
    assert!(proxy.records().unwrap().iter().any(|record| record["outcome"] == "malformed"));
}

/// A server that answers an expectation with `interim` and then, once it has the body or at once, with `last`.
fn expectant(interim: &'static str, wants_body: bool, last: &'static str) -> (Server, mpsc::Receiver<String>) {
    let (heard, hears) = mpsc::channel();
    let server = Server::start("127.0.0.1:0", move |mut stream| {
        let mut request = read_head(&mut stream).unwrap();
        stream.write_all(interim.as_bytes()).unwrap();
        if wants_body {
            let mut body = [0; 4];
            stream.read_exact(&mut body).unwrap();
            request.extend(body);
        }
        stream.write_all(last.as_bytes()).unwrap();
        heard.send(String::from_utf8_lossy(&request).into_owned()).unwrap();
        drop(stream.read(&mut [0]));
    })
    .unwrap();
    (server, hears)
}

fn expecting(proxy: &Proxy, to: SocketAddr) -> std::net::TcpStream {
    let mut stream = connect(proxy.address()).unwrap();
    let head = format!("POST http://{to}/ HTTP/1.1\r\nHost: {to}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn continue_is_said_when_the_server_says_it() {
    let (server, hears) = expectant("HTTP/1.1 100 Continue\r\n\r\n", true, OK);
    let proxy = Proxy::forward(&[]).unwrap();
    let mut stream = expecting(&proxy, server.address());
    assert!(read_head(&mut stream).unwrap().starts_with(b"HTTP/1.1 100 "));
    stream.write_all(b"body").unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with(b"HTTP/1.1 200 "));
    let heard = hears.recv().unwrap();
    assert!(heard.contains("Expect: 100-continue\r\n") && heard.ends_with("\r\n\r\nbody"), "{heard}");
}

#[test]
fn a_server_that_refuses_an_expectation_is_heard_instead_of_continue() {
    let refusal = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    let (server, _hears) = expectant("", false, refusal);
    let proxy = Proxy::forward(&[]).unwrap();
    let mut stream = expecting(&proxy, server.address());
    let first = read_head(&mut stream).unwrap();
    assert!(first.starts_with(b"HTTP/1.1 417 "), "{}", String::from_utf8_lossy(&first));
}

#[test]
fn a_server_that_knows_no_continue_gets_the_body_after_a_while() {
    let (server, hears) = expectant("", true, OK);
    let proxy = Proxy::forward(&[]).unwrap();
    let mut stream = expecting(&proxy, server.address());
    assert!(read_head(&mut stream).unwrap().starts_with(b"HTTP/1.1 100 "));
    stream.write_all(b"body").unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with(b"HTTP/1.1 200 "));
    hears.recv().unwrap();
}

#[test]
fn early_hints_are_left_out_and_the_answer_comes() {
    let answer = format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{OK}");
    let held = held(&get(""), &answer);
    assert_eq!(held.status(), "200", "{}", held.answered);
}

#[test]
fn a_response_with_length_and_chunks_reaches_the_client() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let held = held(&get(""), answer);
    assert_eq!(held.status(), "200");
    assert!(!held.answered.to_lowercase().contains("content-length"), "{}", held.answered);
    assert!(held.answered.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{}", held.answered);
}

#[test]
fn a_blank_before_the_colon_of_a_response_is_taken_away() {
    let held = held(&get(""), "HTTP/1.1 200 OK\r\nX-Odd : y\r\nContent-Length: 0\r\n\r\n");
    assert!(held.answered.contains("X-Odd: y\r\n"), "{}", held.answered);
}

#[test]
fn no_date_is_added() {
    assert!(!held(&get(""), OK).answered.to_lowercase().contains("\r\ndate:"));
}

#[test]
fn names_of_fields_keep_their_case_and_the_reason_its_words() {
    let held =
        held(&get("x-LOWER: 1\r\nX-Upper: 2\r\n"), "HTTP/1.1 299 Very Well\r\nX-cAsE: y\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(held.fields(), ["x-LOWER: 1", "X-Upper: 2"]);
    assert!(held.answered.starts_with("HTTP/1.1 299 Very Well\r\nX-cAsE: y\r\n"), "{}", held.answered);
}

#[test]
fn trailers_reach_a_client_that_asked_for_them() {
    let answer =
        "HTTP/1.1 200 OK\r\nTrailer: X-End\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-End: yes\r\n\r\n";
    let asked = held(&get("Connection: TE\r\nTE: trailers\r\n"), answer);
    let mut heard = asked.fields().into_iter().map(str::to_lowercase).collect::<Vec<_>>();
    heard.sort();
    assert_eq!(heard, ["connection: te", "te: trailers"]);
    assert!(asked.answered.to_lowercase().ends_with("0\r\nx-end: yes\r\n\r\n"), "{}", asked.answered);
    assert!(held(&get(""), answer).answered.ends_with("0\r\n\r\n"));
}

#[test]
fn trailers_of_a_request_reach_its_server() {
    let request = "POST http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\nTrailer: X-End\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nok\r\n0\r\nX-End: yes\r\n\r\n";
    let heard = held(request, OK).heard.to_lowercase();
    assert!(heard.ends_with("2\r\nok\r\n0\r\nx-end: yes\r\n\r\n"), "{heard}");
}

#[test]
fn a_response_that_lasts_until_the_end_of_its_connection_is_chunked_for_the_client() {
    let held = held(&get(""), "HTTP/1.1 200 OK\r\n\r\nuntil the end");
    assert!(held.answered.to_lowercase().contains("transfer-encoding: chunked"), "{}", held.answered);
    assert!(held.answered.ends_with("D\r\nuntil the end\r\n0\r\n\r\n"), "{}", held.answered);
}

#[test]
fn a_body_that_is_short_is_no_whole_answer_and_recorded_as_aborted() {
    // The server closes in the middle: `Transfer-Encoding` keeps the test's server from waiting for more requests.
    let held = held(&get(""), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf");
    assert!(held.answered.contains("half") && !held.answered.ends_with("0\r\n\r\n"), "{}", held.answered);
    assert_eq!(held.records[0]["outcome"], "server_aborted", "{:?}", held.records);
}

#[test]
fn odd_bytes_pass_as_they_are() {
    let request = get("X-Latin: \u{e9}\r\n").replace("/a HTTP", "/a%2f//../|{}\"^?q=%20&'`\u{fc} HTTP");
    let held = held(&request, OK);
    assert!(held.heard.starts_with("GET /a%2f//../|{}\"^?q=%20&'`\u{fc} HTTP/1.1\r\n"), "{}", held.heard);
    assert_eq!(held.fields(), ["X-Latin: \u{e9}"]);
}

#[test]
fn requests_in_a_row_are_answered_in_a_row_over_one_connection() {
    let origin = Hearing::answering(OK).unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let one = |path: &str| {
        get("").replace("ORIGIN", &origin.address().to_string()).replace("/a HTTP", &format!("{path} HTTP"))
    };
    let (answered, _) = ask(proxy.address(), format!("{}{}{}", one("/1"), one("/2"), one("/3")).as_bytes()).unwrap();
    assert_eq!(answered.matches("HTTP/1.1 200 OK").count(), 3, "{answered}");
    for path in ["/1", "/2", "/3"] {
        assert!(origin.heard().unwrap().starts_with(&format!("GET {path} ")));
    }
    let records = proxy.records().unwrap();
    assert_eq!(records.len(), 3, "{records:?}");
    // Only the first had to connect.
    let connected: Vec<_> = records.iter().map(|record| record["timing"]["connected"].is_u64()).collect();
    assert_eq!(connected, [true, false, false], "{records:?}");
}

#[test]
fn requests_to_several_servers_on_one_connection_are_recorded_with_their_own() {
    let origins: Vec<_> = (0..3).map(|index| Hearing::answering(answer(&format!("of {index}"))).unwrap()).collect();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let all: String = origins.iter().map(|origin| get("").replace("ORIGIN", &origin.address().to_string())).collect();
    let (answered, _) = ask(proxy.address(), all.as_bytes()).unwrap();
    assert_eq!(answered.matches("200 OK").count(), 3, "{answered}");
    let records = proxy.records().unwrap();
    assert_eq!(records.len(), 3, "{records:?}");
    for (index, origin) in origins.iter().enumerate() {
        let record = &records[index];
        assert_eq!(record["server"]["port"], origin.address().port(), "{record}");
        assert_eq!(record["response"]["body"]["text"], format!("of {index}"), "{record}");
        assert_eq!(record["connection"], records[0]["connection"]);
    }
}

#[test]
fn a_get_with_a_body_keeps_it() {
    let held = held("GET http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\nContent-Length: 4\r\n\r\nbody", OK);
    assert!(held.heard.ends_with("\r\n\r\nbody"), "{}", held.heard);
}

#[test]
fn a_fragment_is_taken_away() {
    let request = get("").replace("/a HTTP", "/a#part HTTP");
    assert!(held(&request, OK).heard.starts_with("GET /a HTTP/1.1\r\n"));
}

#[test]
fn the_url_says_the_host_whatever_the_client_says() {
    let origin = held("GET http://ORIGIN/ HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n", OK);
    assert!(origin.heard.contains("Host: 127.0.0.1:") && !origin.heard.contains("elsewhere"), "{}", origin.heard);
}

#[test]
fn a_request_of_http_1_0_goes_out_as_1_1_and_its_answer_comes_back_unchunked() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let held = held("GET http://ORIGIN/a HTTP/1.0\r\n\r\n", answer);
    assert!(held.heard.starts_with("GET /a HTTP/1.1\r\n"), "{}", held.heard);
    assert!(held.heard.to_lowercase().contains("\r\nhost: 127.0.0.1:"), "{}", held.heard);
    assert!(
        held.answered.starts_with("HTTP/1.0 200 OK\r\n") && held.answered.ends_with("\r\n\r\nhello"),
        "{}",
        held.answered
    );
}

#[test]
fn no_content_has_none_and_a_head_keeps_its_length() {
    let head = "HEAD http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\n\r\n";
    let answered = held(head, "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n").answered;
    assert!(answered.contains("Content-Length: 12345\r\n") && answered.ends_with("\r\n\r\n"), "{answered}");
    let answered = held(&get(""), "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: x\r\n\r\n").answered;
    assert!(answered.starts_with("HTTP/1.1 304 ") && answered.contains("ETag: x\r\n"), "{answered}");
    assert!(answered.ends_with("\r\n\r\n"), "{answered}");
    let answered = held(&get(""), "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n").answered;
    assert!(answered.starts_with("HTTP/1.1 204 ") && !answered.to_lowercase().contains("chunked"), "{answered}");
}

#[test]
fn options_of_the_server_itself_and_forwards_that_are_used_up() {
    let heard = held("OPTIONS http://ORIGIN HTTP/1.1\r\nHost: ORIGIN\r\nMax-Forwards: 2\r\n\r\n", OK).heard;
    assert!(heard.starts_with("OPTIONS * HTTP/1.1\r\n") && heard.contains("Max-Forwards: 1\r\n"), "{heard}");
    let trace = refused("TRACE http://ORIGIN/ HTTP/1.1\r\nHost: ORIGIN\r\nMax-Forwards: 0\r\nX: y\r\n\r\n");
    assert_eq!(trace.status(), "200");
    assert!(trace.answered.contains("message/http") && trace.answered.contains("x: y"), "{}", trace.answered);
}

#[test]
fn a_websocket_in_absolute_form_goes_through() {
    let server = Server::start("127.0.0.1:0", |mut stream| {
        let head = String::from_utf8(read_head(&mut stream).unwrap()).unwrap().to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        let switched =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: y\r\n\r\nfirst";
        stream.write_all(switched.as_bytes()).unwrap();
        let mut echo = stream.try_clone().unwrap();
        drop(std::io::copy(&mut stream, &mut echo));
        drop(echo.shutdown(Shutdown::Write));
    })
    .unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let to = server.address();
    let mut stream = connect(proxy.address()).unwrap();
    let head =
        format!("GET http://{to}/ws HTTP/1.1\r\nHost: {to}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly");
    stream.write_all(head.as_bytes()).unwrap();
    let answered = String::from_utf8(read_head(&mut stream).unwrap()).unwrap();
    assert!(answered.starts_with("HTTP/1.1 101 ") && answered.contains("X: y\r\n"), "{answered}");
    let mut said = [0; 10];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"firstearly");
    stream.write_all(&[7; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(drain(&mut stream).unwrap(), (vec![7; 100_000], Ending::Closed));
    let records = proxy.records().unwrap();
    assert_eq!(records[0]["response"]["status"], 101, "{records:?}");
}

#[test]
fn a_connect_after_other_requests_becomes_a_tunnel_as_well() {
    let origin = Hearing::answering(OK).unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    let to = origin.address();
    let mut stream = connect(proxy.address()).unwrap();
    stream.write_all(get("").replace("ORIGIN", &to.to_string()).as_bytes()).unwrap();
    read_head(&mut stream).unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();
    stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with(b"HTTP/1.1 200 "));
    stream.write_all(b"GET /inside HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with(b"HTTP/1.1 200 "));
    drop(stream);
    let records = proxy.records().unwrap();
    let vias: Vec<_> = records.iter().map(|record| record["via"].as_str().unwrap()).collect();
    assert_eq!(vias, ["forward-http", "forward-connect"], "{records:?}");
    assert_ne!(records[0]["connection"], records[1]["connection"]);
}

#[test]
fn a_large_answer_comes_whole_however_slowly_it_is_read() {
    let body = "0123456789abcdef".repeat(256 * 1024);
    let held = held(&get(""), &answer(&body));
    assert!(held.answered.ends_with(&body), "{} bytes came", held.answered.len());
    assert_eq!(held.records[0]["response"]["body"]["size"], body.len(), "{:?}", held.records[0]["outcome"]);
}
