//! Real programs through the forward proxy: they get what they get directly, and it is recorded.

use std::process::Command;

use nodetap_tests::folder::Folder;
use nodetap_tests::process::{Finished, Process};
use nodetap_tests::proxy::Proxy;
use nodetap_tests::server::{Server, answer};
use nodetap_tests::{hearing::Hearing, nodetap};

fn curl(arguments: &[&str]) -> Finished {
    let mut command = Command::new("curl");
    for variable in ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
        command.env_remove(variable);
    }
    Process::start(command.args(["-sS", "--max-time", "30"]).args(arguments)).unwrap().finish().unwrap()
}

#[test]
fn curl_reaches_its_server_by_every_kind_of_proxy_it_knows() {
    let server = Server::answering("127.0.0.1:0", answer("hello curl")).unwrap();
    let url = format!("http://localhost:{}/path?q", server.address().port());
    let kinds: [(&[&str], &str); 10] = [
        (&["-x", "http://PROXY"], "forward-http"),
        (&["--proxy1.0", "PROXY"], "forward-http"),
        (&["-p", "-x", "http://PROXY"], "forward-connect"),
        (&["--proxytunnel", "--proxy1.0", "PROXY"], "forward-connect"),
        (&["-x", "http://user:s3cret@PROXY"], "forward-http"),
        (&["--socks4", "PROXY", "-4"], "forward-socks4"),
        (&["--socks4a", "PROXY"], "forward-socks4"),
        (&["--socks5", "PROXY", "-4"], "forward-socks5"),
        (&["--socks5-hostname", "PROXY"], "forward-socks5"),
        (&["-x", "socks5h://user:s3cret@PROXY"], "forward-socks5"),
    ];
    let mut proxy = Proxy::forward(&[]).unwrap();
    let address = proxy.address().to_string();
    for (kind, _) in kinds {
        let kind: Vec<String> = kind.iter().map(|word| word.replace("PROXY", &address)).collect();
        let kind: Vec<&str> = kind.iter().map(String::as_str).collect();
        let finished = curl(&[&kind[..], &["-H", "X-Kind: curl", &url]].concat());
        assert_eq!((finished.code(), finished.text().as_str()), (0, "hello curl"), "{kind:?}: {finished:?}");
    }
    let records = proxy.records().unwrap();
    let vias: Vec<_> = records.iter().map(|record| record["via"].as_str().unwrap()).collect();
    assert_eq!(vias, kinds.map(|(_, via)| via), "{records:?}");
    for record in &records {
        assert_eq!((&record["kind"], &record["outcome"]), (&"exchange".into(), &"complete".into()), "{record}");
        assert_eq!(record["response"]["body"]["text"], "hello curl", "{record}");
        assert_eq!(record["server"]["port"], server.address().port(), "{record}");
        assert!(!record.to_string().contains("s3cret"), "{record}");
    }
}

#[test]
fn curl_says_what_the_proxy_said() {
    let proxy = Proxy::forward(&[]).unwrap();
    let address = proxy.address().to_string();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/");
    let tunnel = curl(&["-p", "-x", &address, &url]);
    assert!(tunnel.err.contains("502"), "{tunnel:?}");
    let socks = curl(&["--socks5", &address, &url]);
    // CURLE_PROXY: "connection refused" is code 5.
    assert_eq!(socks.code(), 97, "{socks:?}");
    assert!(socks.err.contains("(5)") || socks.err.to_lowercase().contains("refused"), "{socks:?}");
}

#[test]
fn curl_uploads_when_the_server_says_continue_and_when_it_does_not() {
    let origin = Hearing::answering(answer("taken")).unwrap();
    let proxy = Proxy::forward(&[]).unwrap();
    let address = proxy.address().to_string();
    let url = format!("http://{}/", origin.address());
    for more in [&["-H", "Expect: 100-continue"][..], &["-H", "Transfer-Encoding: chunked"], &[]] {
        let finished = curl(&[&["-x", &address, "--data-binary", "body of it"], more, &[&url]].concat());
        assert_eq!(finished.text(), "taken", "{more:?}: {finished:?}");
        assert!(origin.heard().unwrap().contains("body of it"));
    }
}

#[test]
fn git_clones_through_http_and_socks() {
    let folder = Folder::new().unwrap();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(&*folder).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", &*folder);
        for name in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
            command.env(name, "test");
        }
        let finished = Process::start(&mut command).unwrap().finish().unwrap();
        assert_eq!(finished.code(), 0, "{arguments:?}: {finished:?}");
    };
    git(&["init", "-q", "origin"]);
    std::fs::write(folder.join("origin/file"), "content\n".repeat(10_000)).unwrap();
    git(&["-C", "origin", "add", "file"]);
    git(&["-C", "origin", "commit", "-q", "-m", "one"]);
    git(&["clone", "-q", "--bare", "origin", "bare.git"]);
    git(&["-C", "bare.git", "update-server-info"]);
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]).current_dir(&*folder);
    let server = Process::start(&mut python).unwrap();
    let port: u16 = server
        .line(nodetap_tests::process::Stream::Out, "its port", |line| {
            line.split_once(" port ")?.1.split_whitespace().next()?.parse().ok()
        })
        .unwrap();
    let mut proxy = Proxy::forward(&[]).unwrap();
    for (index, scheme) in ["http", "socks4a", "socks5h"].into_iter().enumerate() {
        let through = format!("http.proxy={scheme}://{}", proxy.address());
        git(&["-c", &through, "clone", "-q", &format!("http://127.0.0.1:{port}/bare.git"), &format!("clone-{index}")]);
        let cloned = std::fs::read(folder.join(format!("clone-{index}/file"))).unwrap();
        assert_eq!(cloned, std::fs::read(folder.join("origin/file")).unwrap());
    }
    let records = proxy.records().unwrap();
    for via in ["forward-http", "forward-socks4", "forward-socks5"] {
        let of_it: Vec<_> = records.iter().filter(|record| record["via"] == via).collect();
        assert!(of_it.len() >= 3 && of_it.iter().all(|record| record["kind"] == "exchange"), "{via}: {of_it:?}");
    }
}

#[test]
fn the_proxy_says_where_it_listens_and_warns_when_it_is_open_to_all() {
    let mut open = Proxy::start(&["--forward", "0.0.0.0:0"], &[]).unwrap();
    let said = open.stop().unwrap().err;
    assert!(said.contains("a forward proxy for HTTP, CONNECT and SOCKS") && said.contains("warning"), "{said}");
    let mut local = Proxy::forward(&["--proxy-protocol", "socks"]).unwrap();
    assert!(!local.stop().unwrap().err.contains("warning"));
    let wrong =
        nodetap::command(&["proxy", "--forward", "127.0.0.1:0", "--proxy-protocol", "tcp:http"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&wrong.stderr).lines().count(), 1, "{wrong:?}");
}
