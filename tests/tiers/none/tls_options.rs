//! `nodetap proxy` with TLS: opened on the way out with our authority, ended on the way in with the user's certificate.

use std::process::Command;

use nodetap_tests::folder::Folder;
use nodetap_tests::https::{Https, issue};
use nodetap_tests::nodetap;
use nodetap_tests::process::{Finished, Process};
use nodetap_tests::proxy::Proxy;
use nodetap_tests::server::{Server, answer};
use nodetap_tests::wait::{DEADLINE, eventually};

fn curl(arguments: &[&str]) -> Finished {
    Process::start(Command::new("curl").arg("-sS").args(arguments)).unwrap().finish().unwrap()
}

#[test]
fn a_forward_proxy_opens_tls_for_clients_that_trust_the_users_authority() {
    let server = Https::start().unwrap();
    let folder = Folder::new().unwrap();
    let (ca, roots) = (folder.join("ca"), server.roots());
    let (ca, roots) = (ca.to_str().unwrap(), roots.to_str().unwrap());
    let made = Process::start(&mut nodetap::command(&["ca", "init", "--dir", ca])).unwrap().finish().unwrap();
    assert_eq!(made.code(), 0, "{made:?}");
    let mut proxy = Proxy::forward(&["--tls-out", "--ca", ca, "--tls-roots", roots]).unwrap();
    let certificate = format!("{ca}/ca.crt");
    for scheme in ["http", "socks5h"] {
        let through = format!("{scheme}://{}", proxy.address());
        let fetched = curl(&["-x", &through, "--cacert", &certificate, &server.url(&format!("/{scheme}"))]);
        assert_eq!(fetched.text(), format!("/{scheme}\n"), "{fetched:?}");
    }
    let records = proxy.records().unwrap();
    let exchanges: Vec<_> = records.iter().filter(|record| record["kind"] == "exchange").collect();
    assert_eq!(exchanges.len(), 2, "{records:?}");
    assert!(exchanges.iter().all(|exchange| exchange["tls"]["opened"] == true), "{records:?}");
}

#[test]
fn what_is_found_out_about_one_port_of_a_host_is_not_said_of_another() {
    let (trusted, unknown) = (Https::start().unwrap(), Https::start().unwrap());
    let folder = Folder::new().unwrap();
    let (ca, roots) = (folder.join("ca"), trusted.roots());
    let (ca, roots) = (ca.to_str().unwrap(), roots.to_str().unwrap());
    let made = Process::start(&mut nodetap::command(&["ca", "init", "--dir", ca])).unwrap().finish().unwrap();
    assert_eq!(made.code(), 0, "{made:?}");
    let mut proxy = Proxy::forward(&["--tls-out", "--ca", ca, "--tls-roots", roots]).unwrap();
    let through = format!("http://{}", proxy.address());
    let (own, certificate) = (unknown.roots(), format!("{ca}/ca.crt"));
    for (server, roots) in [(&unknown, own.to_str().unwrap()), (&trusted, &*certificate)] {
        let fetched = curl(&["-x", &through, "--cacert", roots, &server.url("/x")]);
        assert_eq!(fetched.text(), "/x\n", "{fetched:?}");
    }
    let records = proxy.records().unwrap();
    let of = |server: &Https| records.iter().find(|record| record["server"]["port"] == server.port()).unwrap();
    assert_eq!(of(&unknown)["tls"]["passthrough"], "upstream_unverified", "{records:?}");
    assert_eq!(of(&trusted)["tls"]["opened"], true, "{records:?}");
}

#[test]
fn a_reverse_proxy_ends_tls_with_the_users_pair_and_with_its_successor() {
    let server = Server::answering("127.0.0.1:0", answer("plain\n")).unwrap();
    let folder = Folder::new().unwrap();
    issue(&folder).unwrap();
    let place = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (certificate, key, roots) = (place("leaf.pem"), place("leaf.key"), place("roots.pem"));
    let mut proxy = Proxy::with(server.address(), &["--tls-cert", &certificate, "--tls-key", &key]).unwrap();
    let url = format!("https://localhost:{}/", proxy.address().port());
    let fetched = curl(&["--cacert", &roots, &url]);
    assert_eq!(fetched.text(), "plain\n", "{fetched:?}");
    // Of another authority: the old one is good for it no longer.
    issue(&folder).unwrap();
    let renewed = eventually(DEADLINE, "the renewed pair", || {
        Some(curl(&["--cacert", &roots, &url])).filter(|fetched| fetched.text() == "plain\n")
    });
    assert!(renewed.is_ok(), "{renewed:?}");
    let records = proxy.records().unwrap();
    assert!(
        records.iter().any(|record| record["kind"] == "exchange" && record["direction"] == "inbound"),
        "{records:?}"
    );
}

#[test]
fn what_cannot_be_used_is_named_in_one_line() {
    let home = Folder::new().unwrap();
    let nothing = home.join("nothing.pem");
    std::fs::write(&nothing, "nothing").unwrap();
    let nothing = nothing.to_str().unwrap();
    for (options, named) in [
        (&["--tls-out"][..], "nodetap ca init"),
        (&["--tls-out", "--ca", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["--tls-cert", nothing, "--tls-key", nothing], nothing),
        (&["--tls-cert", nothing], "--tls-key"),
    ] {
        let mut command = nodetap::command(&["proxy", "--reverse", "127.0.0.1:0=127.0.0.1:1"]);
        let finished = Process::start(command.args(options).env("XDG_CONFIG_HOME", &*home)).unwrap().finish().unwrap();
        assert_eq!(finished.code(), 2, "{options:?}: {finished:?}");
        assert_eq!(finished.err.trim_end().lines().count(), 1, "{options:?}: {finished:?}");
        assert!(finished.err.contains(named), "{options:?}: {finished:?}");
    }
}
