//! Bad input to the forward proxy: each is answered as its protocol answers it, leaves a record that says what was wrong,
//! and no descriptor.

use std::io::Write;
use std::net::Shutdown;

use nodetap_tests::client::{Ending, connect, drain};
use nodetap_tests::proxy::Proxy;
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::Value;

/// What is answered before the proxy closes, and the one record of it.
fn said(input: &[u8]) -> (Vec<u8>, Value) {
    let (said, mut records) = all_said(input);
    assert_eq!(records.len(), 1, "{input:?}: {records:?}");
    (said, records.remove(0))
}

fn all_said(input: &[u8]) -> (Vec<u8>, Vec<Value>) {
    let mut proxy = Proxy::forward(&[]).unwrap();
    let mut stream = connect(proxy.address()).unwrap();
    stream.write_all(input).unwrap();
    let (said, ending) = drain(&mut stream).unwrap();
    assert_eq!(ending, Ending::Closed, "{input:?} {said:?}");
    (said, proxy.records().unwrap())
}

fn is_malformed(record: &Value) {
    assert_eq!(record["outcome"], "malformed", "{record}");
    assert!(record["detail"].as_str().is_some_and(|detail| detail.ends_with('.')), "{record}");
}

#[test]
fn a_connect_to_a_bad_authority_is_400() {
    for authority in ["", "nowhere", "a:0", "a:99999", "a b:1", "[::1:80", "[fe80::1%25eth0]:80", "u@a:80", "127.1:80"]
    {
        let (said, record) = said(format!("CONNECT {authority} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        assert!(said.starts_with(b"HTTP/1.1 400 Bad Request\r\n"), "{authority}: {}", String::from_utf8_lossy(&said));
        is_malformed(&record);
        assert_eq!(record["via"], "forward-connect");
    }
}

#[test]
fn a_connect_with_an_endless_head_is_431() {
    let (said, record) = said(format!("CONNECT a:1 HTTP/1.1\r\nX: {}", "y".repeat(70_000)).as_bytes());
    assert!(said.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&said));
    is_too_long(&record);
}

/// Nothing is wrong with it but that it is long.
fn is_too_long(record: &Value) {
    assert_eq!(record["outcome"], "refused", "{record}");
    let detail = record["detail"].as_str().unwrap();
    assert!(detail.contains("longer than"), "{detail}");
}

#[test]
fn a_request_with_an_endless_head_is_431_and_so_is_one_with_an_endless_first_line() {
    for request in
        [format!("GET http://a/ HTTP/1.1\r\nX: {}", "y".repeat(70_000)), format!("GET http://a/{}", "y".repeat(70_000))]
    {
        let (said, record) = said(request.as_bytes());
        assert!(said.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&said));
        assert_eq!(record["response"]["status"], 431, "{record}");
        is_too_long(&record);
    }
}

#[test]
fn socks_messages_that_cannot_be_served_are_refused_by_their_codes() {
    let cases: [(&[u8], &[u8]); 8] = [
        // A version that there is none of.
        (b"\x06\x01\x00", b"\x05\xff"),
        // BIND and UDP ASSOCIATE.
        (b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x07\x00\x01\0\0\0\0\0\0"),
        (b"\x05\x01\x00\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x07\x00\x01\0\0\0\0\0\0"),
        (b"\x05\x01\x00\x05\x01\x00\x09", b"\x05\x00\x05\x08\x00\x01\0\0\0\0\0\0"),
        (b"\x05\x01\x00\x04\x01\x00\x01", b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0"),
        (b"\x05\x01\x80", b"\x05\xff"),
        (b"\x05\x01\x02\x05", b"\x05\x02\x01\x01"),
        (b"\x04\x02\x00\x50\x7f\x00\x00\x01\x00", b"\x00\x5b\0\0\0\0\0\0"),
    ];
    for (input, answer) in cases {
        let (said, record) = said(input);
        assert_eq!(said, answer, "{input:?}");
        is_malformed(&record);
        assert!(record["via"].as_str().unwrap().starts_with("forward-socks"), "{record}");
    }
}

#[test]
fn tls_to_the_proxy_itself_is_refused_with_an_alert() {
    let (said, record) = said(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00");
    assert_eq!(said[0], 0x15, "{said:?}");
    assert_eq!(record["outcome"], "refused", "{record}");
    assert!(record["detail"].as_str().unwrap().contains("TLS"), "{record}");
}

#[test]
fn http_2_that_is_none_is_refused() {
    let (_, record) = said(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense nonsense nonsense nonsense");
    is_malformed(&record);
}

#[test]
fn nonsense_is_answered_as_http() {
    for input in [&b"\0\0\0\0\r\n\r\n"[..], b"nonsense\r\n\r\n", b"\xff\xfe\r\n\r\n"] {
        let (said, records) = all_said(input);
        assert!(said.starts_with(b"HTTP/1.1 400 "), "{input:?}: {}", String::from_utf8_lossy(&said));
        // The exchange with its answer, and the connection, which cannot be followed any further.
        let [connection, exchange] = &records[..] else { panic!("{records:?}") };
        records.iter().for_each(is_malformed);
        assert_eq!((&exchange["response"]["status"], &connection["kind"]), (&400.into(), &"connection".into()));
    }
}

#[test]
fn a_client_that_ends_anywhere_leaves_a_record_that_says_so() {
    let whole: [&[u8]; 4] = [
        b"CONNECT a:1 HTTP/1.1\r\n\r",
        b"\x04\x01\x00\x50\x00\x00\x00\x01\x00a",
        b"\x05\x01\x00\x05\x01\x00\x03\x05abc",
        b"PRI * HTTP/2.0\r\n",
    ];
    let mut proxy = Proxy::forward(&[]).unwrap();
    let mut count = 0;
    for input in whole {
        for length in 0..input.len() {
            let mut stream = connect(proxy.address()).unwrap();
            stream.write_all(&input[..length]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            drain(&mut stream).unwrap();
            count += 1;
        }
    }
    let records = proxy.records().unwrap();
    assert_eq!(records.len(), count, "{records:?}");
    assert!(records.iter().all(|record| record["outcome"] == "client_aborted"), "{records:?}");
}

#[test]
fn a_head_that_does_not_come_in_time_is_a_timeout() {
    let begun: [(&[u8], &[u8]); 4] = [
        (b"CONNECT a:1 HTTP/1.1\r\nHost:", b"HTTP/1.1 408 Request Timeout\r\n"),
        (b"GET http://a/ HTTP/1.1\r\nHost:", b"HTTP/1.1 408 Request Timeout\r\n"),
        (b"\x05\x01\x00\x05\x01\x00", b"\x05\x00"),
        (b"\x04\x01\x00\x50", b""),
    ];
    let mut proxy = Proxy::forward(&[]).unwrap();
    let mut waiting: Vec<_> = begun.iter().map(|_| connect(proxy.address()).unwrap()).collect();
    for (stream, (begin, _)) in waiting.iter_mut().zip(begun) {
        stream.write_all(begin).unwrap();
    }
    for (stream, (begin, answer)) in waiting.iter_mut().zip(begun) {
        let (said, ending) = drain(stream).unwrap();
        assert!(said.starts_with(answer) && said.is_empty() == answer.is_empty(), "{begin:?}: {said:?}");
        assert_eq!(ending, Ending::Closed);
    }
    let records = proxy.records().unwrap();
    assert_eq!(records.len(), begun.len(), "{records:?}");
    assert!(records.iter().all(|record| record["outcome"] == "timeout"), "{records:?}");
    let answered = records.iter().filter(|record| record["response"]["status"] == 408).count();
    assert_eq!(answered, 1, "{records:?}");
}

fn connect_and_end(proxy: &Proxy) -> std::net::TcpStream {
    let stream = connect(proxy.address()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream
}

#[test]
fn no_input_leaves_a_descriptor_behind_or_ends_the_proxy() {
    let mut proxy = Proxy::forward(&["--no-record"]).unwrap();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", proxy.process.pid())).unwrap().count();
    let inputs: Vec<Vec<u8>> = vec![
        b"CONNECT :: HTTP/1.1\r\n\r\n".to_vec(),
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n".to_vec(),
        b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x01".to_vec(),
        b"\x04\x01\x00\x01\x7f\x00\x00\x01\x00".to_vec(),
        b"\x16\x03\x01".to_vec(),
        b"\x06".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"POST http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz".to_vec(),
        vec![0xff; 100_000],
    ];
    // Once it has answered, everything that it keeps open is open.
    drop(drain(&mut connect_and_end(&proxy)));
    let before = open();
    for round in 0..5 {
        for input in &inputs {
            let mut stream = connect(proxy.address()).unwrap();
            // It may have been refused before all of it was taken.
            drop(stream.write_all(input));
            match round % 2 {
                0 => {
                    drop(stream.shutdown(Shutdown::Write));
                    drop(drain(&mut stream));
                }
                _ => nodetap_tests::server::reset(stream),
            }
        }
    }
    eventually(DEADLINE, "no descriptor left", || (open() <= before).then_some(())).unwrap();
    assert!(!proxy.process.has_ended());
    assert_eq!(proxy.stop().unwrap().code(), 0);
}
