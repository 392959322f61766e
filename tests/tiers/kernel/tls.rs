//! `nodetap run --tls`: real programs trust what they trusted before and us, so that what they say over TLS is recorded,
//! and nothing is left of it afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;

use nodetap_tests::folder::Folder;
use nodetap_tests::https::{Https, VARIABLES};
use nodetap_tests::peers::{Peer, fetch};
use nodetap_tests::process::{Finished, Process, Stream};
use nodetap_tests::run::{Options, Run};
use nodetap_tests::{machine, nodetap, records};
use rustix::process::Signal;

use crate::support::{program, python};

/// Of a user who has set no variable about roots.
fn plain() -> Options {
    VARIABLES.iter().fold(Options::default().option("--tls"), |options, name| options.without(name))
}

/// Of one who trusts the server by SSL_CERT_FILE, and by nothing else.
fn trusting(server: &Https) -> Options {
    plain().with("SSL_CERT_FILE", server.roots())
}

fn finish(options: Options, command: &Command) -> (Finished, Run) {
    let mut run = options.start(command).unwrap();
    let finished = run.finish().unwrap();
    (finished, run)
}

/// The one exchange of the run, which was seen in plain text.
fn is_opened(run: &Run, path: &str) {
    let exchanges = run.exchanges().unwrap();
    assert_eq!(exchanges.len(), 1, "{exchanges:?}");
    assert_eq!(exchanges[0]["tls"]["opened"], true, "{exchanges:?}");
    assert_eq!(exchanges[0]["tls"]["sni"], "localhost", "{exchanges:?}");
    let url = exchanges[0]["request"]["url"].as_str().unwrap();
    assert!(url.starts_with("https://localhost:") && url.ends_with(path), "{url}");
    assert_eq!(exchanges[0]["response"]["body"]["text"], format!("{path}\n"));
}

fn opened_for(client: impl FnOnce(&str) -> Command) {
    let _machine = machine::shared();
    let server = Https::start().unwrap();
    let (finished, run) = finish(trusting(&server), &client(&server.url("/a/path")));
    assert_eq!((finished.code(), finished.text().as_str()), (0, "/a/path\n"), "{finished:?}");
    is_opened(&run, "/a/path");
}

#[test]
fn curl_is_opened() {
    opened_for(|url| program("curl", &["-sS", url]));
}

#[test]
fn python_is_opened() {
    opened_for(|url| {
        python("import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode(), end='')", &[url])
    });
}

#[test]
fn node_is_opened() {
    opened_for(|url| {
        program("node", &["-e", "fetch(process.argv[1]).then(r => r.text()).then(t => process.stdout.write(t))", url])
    });
}

#[test]
fn go_is_opened() {
    opened_for(|url| fetch(Peer::Go, url).unwrap());
}

#[test]
fn java_is_opened() {
    opened_for(|url| fetch(Peer::Java, url).unwrap());
}

#[test]
fn java_keeps_the_trust_store_that_its_user_gave_it() {
    let _machine = machine::shared();
    let server = Https::start().unwrap();
    let folder = Folder::new().unwrap();
    let store = folder.join("its own.p12");
    let mut keytool =
        program("keytool", &["-importcert", "-noprompt", "-alias", "own", "-storepass", "geheim1", "-file"]);
    keytool.arg(server.roots()).arg("-keystore").arg(&store);
    let made = Process::start(&mut keytool).unwrap().finish().unwrap();
    assert_eq!(made.code(), 0, "{made:?}");
    let own = format!("'-Djavax.net.ssl.trustStore={}' -Djavax.net.ssl.trustStorePassword=geheim1", store.display());
    let (finished, run) =
        finish(plain().with("JAVA_TOOL_OPTIONS", own), &fetch(Peer::Java, &server.url("/java")).unwrap());
    assert_eq!((finished.code(), finished.text().as_str()), (0, "/java\n"), "{finished:?}");
    is_opened(&run, "/java");
}

#[test]
fn what_is_to_be_left_alone_and_what_does_not_verify_works_as_ever() {
    let _machine = machine::shared();
    let server = Https::start().unwrap();
    let curl = program("curl", &["-sS", &server.url("/a")]);
    let (finished, run) = finish(trusting(&server).option("--ignore-tls-host").option("local*"), &curl);
    assert_eq!((finished.code(), finished.text().as_str()), (0, "/a\n"), "{finished:?}");
    let summaries = records::records(run.out()).unwrap();
    assert_eq!(summaries[0]["tls"]["passthrough"], "asked", "{summaries:?}");
    // Only curl is told whom to trust here.
    let roots = server.roots();
    let curl = program("curl", &["-sS", "--cacert", roots.to_str().unwrap(), &server.url("/b")]);
    let (finished, run) = finish(plain(), &curl);
    assert_eq!((finished.code(), finished.text().as_str()), (0, "/b\n"), "{finished:?}");
    let summaries = records::records(run.out()).unwrap();
    assert_eq!(summaries[0]["tls"]["passthrough"], "upstream_unverified", "{summaries:?}");
}

#[test]
fn another_user_can_read_the_bundles_which_hold_no_key_and_go_at_the_end() {
    let _machine = machine::shared();
    let server = Https::start().unwrap();
    let script = "curl -sS $0 && echo $SSL_CERT_FILE && id -un && ! grep -rl 'PRIVATE' $(dirname $SSL_CERT_FILE)";
    let options = trusting(&server).option("--user").option("nobody");
    let (finished, run) = finish(options, &program("sh", &["-c", script, &server.url("/nobody")]));
    assert_eq!(finished.code(), 0, "{finished:?}");
    let text = finished.text();
    let lines: Vec<_> = text.lines().collect();
    assert!(matches!(lines[..], ["/nobody", _, "nobody"]), "{finished:?}");
    assert!(!Path::new(lines[1]).exists() && !Path::new(lines[1]).parent().unwrap().exists());
    is_opened(&run, "/nobody");
}

#[test]
fn what_a_killed_run_leaves_is_swept_by_the_next_one() {
    let _machine = machine::shared();
    let mut run = plain().start(&program("sh", &["-c", "echo at $SSL_CERT_FILE; exec sleep 60"])).unwrap();
    let bundle: PathBuf =
        run.process.line(Stream::Out, "the bundle", |line| line.strip_prefix("at ").map(PathBuf::from)).unwrap();
    run.command_pid().unwrap();
    run.process.signal(Signal::KILL).unwrap();
    run.finish().unwrap();
    assert!(bundle.exists(), "its command still runs, and reads it");
    finish(plain(), &program("true", &[]));
    assert!(bundle.exists(), "its command still runs, and reads it");
    // Its end takes the command's group with it.
    drop(run);
    finish(plain(), &program("true", &[]));
    assert!(!bundle.exists());
}

#[test]
fn without_tls_the_environment_is_what_it_was() {
    let _machine = machine::shared();
    let options = VARIABLES.iter().fold(Options::default(), |options, name| options.with(name, format!("of-{name}")));
    let (finished, _run) = finish(options, &program("env", &[]));
    for name in VARIABLES {
        assert!(finished.text().contains(&format!("{name}=of-{name}\n")), "{name}: {finished:?}");
    }
}

#[test]
fn ones_own_authority_signs_what_the_target_sees() {
    let _machine = machine::shared();
    let server = Https::start().unwrap();
    let folder = Folder::new().unwrap();
    let ca = folder.join("ca");
    let ca = ca.to_str().unwrap();
    let made = Process::start(&mut nodetap::command(&["ca", "init", "--dir", ca, "--name", "Mine"])).unwrap();
    assert_eq!({ made }.finish().unwrap().code(), 0);
    let script = "openssl s_client -connect $0 -servername localhost -verify_hostname localhost -verify_return_error \
                  -CAfile $1 </dev/null | openssl x509 -noout -issuer -ext subjectAltName,authorityKeyIdentifier";
    let address = format!("localhost:{}", server.port());
    let command = program("sh", &["-c", script, &address, &format!("{ca}/ca.crt")]);
    let (finished, _run) = finish(trusting(&server).option("--ca").option(ca), &command);
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(finished.text().contains("issuer=CN = Mine") && finished.text().contains("DNS:localhost"), "{finished:?}");
}

#[test]
fn an_authority_that_cannot_be_used_is_named_in_one_line() {
    let _machine = machine::shared();
    let (finished, _run) = finish(plain().option("--ca").option("/nowhere/at/all"), &program("true", &[]));
    assert_eq!(finished.code(), 2, "{finished:?}");
    assert_eq!(finished.err.trim_end().lines().count(), 1, "{finished:?}");
    assert!(finished.err.contains("/nowhere/at/all"), "{finished:?}");
}
