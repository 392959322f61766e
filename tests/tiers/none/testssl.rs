//! What testssl.sh finds of the TLS that nodetap ends itself: protocols, ciphers, and vulnerabilities by their names.

use std::process::Command;
use std::time::Duration;

use nodetap_tests::folder::Folder;
use nodetap_tests::process::Process;
use nodetap_tests::proxy::Proxy;
use nodetap_tests::server::{Server, answer};
use serde_json::Value;

/// testssl's words for what it finds, from harmless on; WARN is about what it could not try.
const HARMLESS: [&str; 5] = ["OK", "INFO", "LOW", "WARN", "DEBUG"];

#[test]
fn testssl_finds_nothing_worse_than_low_in_tls_that_ends_here() {
    let folder = Folder::new().unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (certificate, key, found) = (file("certificate.pem"), file("key.pem"), file("found.json"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    let made = Process::start(openssl.args(["-keyout", &key, "-out", &certificate])).unwrap().finish().unwrap();
    assert_eq!(made.code(), 0, "{made:?}");

    let server = Server::answering("127.0.0.1:0", answer("hello")).unwrap();
    let proxy = Proxy::with(server.address(), &["--tls-cert", &certificate, "--tls-key", &key]).unwrap();
    let mut testssl = Command::new("testssl");
    testssl.args(["--protocols", "--std", "--vulnerable", "--nodns", "none", "--quiet", "--warnings", "off"]);
    testssl.args(["--color", "0", "--jsonfile", &found, &proxy.address().to_string()]);
    let mut running = Process::start(&mut testssl).unwrap();
    // It is a shell script that starts hundreds of programs.
    let finished = running.finish_within(Duration::from_secs(300)).unwrap();

    let text = std::fs::read_to_string(&found).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let findings: Vec<Value> = serde_json::from_str(&text).unwrap();
    let is = |id: &str, words: &str| {
        findings.iter().any(|one| one["id"] == id && one["finding"].as_str().is_some_and(|text| text.contains(words)))
    };
    assert!(is("TLS1_2", "offered") && is("TLS1_3", "offered") && is("heartbleed", "not vulnerable"), "{text}");
    let bad: Vec<&Value> =
        findings.iter().filter(|one| !HARMLESS.contains(&one["severity"].as_str().unwrap_or_default())).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
