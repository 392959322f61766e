//! What stands in the records of conversations through the proxy, and what never does.

use std::io::Write;
use std::path::Path;

use nodetap_tests::client::{connect, drain};
use nodetap_tests::folder::{Folder, files};
use nodetap_tests::proxy::Proxy;
use nodetap_tests::server::{Server, answer};
use nodetap_tests::{http, nodetap, process::Process, records};

#[test]
fn an_exchange_is_recorded_with_its_heads_bodies_and_peers() {
    let server = Server::answering("127.0.0.1:0", answer("the answer")).unwrap();
    let mut proxy = Proxy::before(server.address()).unwrap();
    assert_eq!(http::get(proxy.address(), "/a/path?q=1").unwrap(), b"the answer");
    let records = proxy.records().unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!(record["kind"], "exchange");
    assert_eq!(record["direction"], "inbound");
    assert_eq!(record["via"], "reverse");
    assert_eq!(record["protocol"], "http/1.1");
    assert_eq!(record["outcome"], "complete");
    assert_eq!(record["request"]["method"], "GET");
    assert!(record["request"]["url"].as_str().unwrap().ends_with("/a/path?q=1"), "{record}");
    assert_eq!(record["request"]["headers"][0], serde_json::json!(["Host", "test"]));
    assert_eq!(record["response"]["status"], 200);
    assert_eq!(record["response"]["body"]["text"], "the answer");
    assert_eq!(record["server"]["port"], server.address().port());
}

#[test]
fn a_body_beyond_the_cap_is_cut_in_the_record_and_whole_on_the_wire() {
    let body = "x".repeat(100_000);
    let server = Server::answering("127.0.0.1:0", answer(&body)).unwrap();
    let mut proxy = Proxy::with(server.address(), &["--max-body", "1KiB"]).unwrap();
    assert_eq!(http::get(proxy.address(), "/").unwrap(), body.as_bytes());
    let kept = proxy.records().unwrap()[0]["response"]["body"].clone();
    assert_eq!(
        (&kept["size"], &kept["kept"], &kept["truncated"]),
        (&100_000.into(), &1024.into(), &true.into()),
        "{kept}"
    );
}

#[test]
fn what_is_not_http_is_recorded_as_one_connection() {
    let server = Server::start("127.0.0.1:0", |mut stream| drop(stream.write_all(b"+OK POP3 ready\r\n"))).unwrap();
    let mut proxy = Proxy::before(server.address()).unwrap();
    drain(&mut connect(proxy.address()).unwrap()).unwrap();
    let records = proxy.records().unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((&records[0]["kind"], &records[0]["protocol"]), (&"connection".into(), &"tcp".into()));
    assert_eq!(records[0]["bytes"]["sent"], 16, "{records:?}");
}

#[test]
fn without_recording_nothing_is_written() {
    let server = Server::answering("127.0.0.1:0", answer("ok")).unwrap();
    let mut proxy = Proxy::with(server.address(), &["--no-record"]).unwrap();
    assert_eq!(http::get(proxy.address(), "/").unwrap(), b"ok");
    proxy.stop().unwrap();
    assert_eq!(files(proxy.out()).unwrap_or_default(), Vec::<std::path::PathBuf>::new());
}

const SECRETS: [&str; 4] = ["Basic-s3cr3t-one", "Bearer-s3cr3t-two", "session=s3cr3t-three", "sid=s3cr3t-four"];

#[test]
fn planted_secrets_stand_in_no_file() {
    let folder = Folder::new().unwrap();
    let [one, two, three, four] = SECRETS;
    let response = format!("HTTP/1.1 200 OK\r\nset-Cookie: {four}; HttpOnly\r\nContent-Length: 2\r\n\r\nok");
    let server = Server::answering("127.0.0.1:0", response.clone()).unwrap();
    let (json, har) = (folder.join("live.jsonl"), folder.join("all.har"));
    let options = ["--json", json.to_str().unwrap(), "--har", har.to_str().unwrap()];
    let mut proxy = Proxy::with(server.address(), &options).unwrap();
    let mut stream = connect(proxy.address()).unwrap();
    let request = format!(
        "GET /private HTTP/1.1\r\nHost: test\r\nAuthorization: {one}\r\nproxy-authorization: {two}\r\nCOOKIE: {three}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answered = vec![0; response.len()];
    std::io::Read::read_exact(&mut stream, &mut answered).unwrap();
    // The traffic itself keeps them.
    assert_eq!(String::from_utf8(answered).unwrap(), response);
    drop(stream);
    proxy.stop().unwrap();
    // Segments may be compressed: what can be read back out of them counts too.
    for arguments in [["ls", "-o", "json"], ["export", "--format", "jsonl"], ["export", "--format", "har"]] {
        let mut command = nodetap::command(&arguments);
        let finished = Process::start(command.arg("--from").arg(proxy.out())).unwrap().finish().unwrap();
        assert!(finished.text().contains("/private"), "{arguments:?}: {finished:?}");
        assert_eq!(secret_in(&finished.out), None, "{arguments:?}: {}", finished.text());
    }
    let written: Vec<_> = [files(proxy.out()).unwrap(), files(&folder).unwrap()].concat();
    assert!(written.len() >= 3, "{written:?}");
    for file in written {
        assert_eq!(secret_in(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
}

fn secret_in(bytes: &[u8]) -> Option<&'static str> {
    SECRETS.into_iter().find(|secret| {
        let rare = secret.split_once("s3cr3t").map_or(*secret, |_| "s3cr3t");
        bytes.windows(rare.len()).any(|window| window == rare.as_bytes())
    })
}

#[test]
fn files_of_records_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::answering("127.0.0.1:0", answer("ok")).unwrap();
    let mut proxy = Proxy::before(server.address()).unwrap();
    http::get(proxy.address(), "/").unwrap();
    proxy.stop().unwrap();
    let others = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o077;
    for file in files(proxy.out()).unwrap() {
        assert_eq!(others(&file), 0, "{}", file.display());
    }
    assert_eq!(others(proxy.out()), 0);
    assert_eq!(records::records(proxy.out()).unwrap().len(), 1);
}
