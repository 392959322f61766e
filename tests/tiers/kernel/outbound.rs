//! A client under `nodetap run`: what it prints and learns is what it prints and learns without, and what it sent is
//! recorded.

use nodetap_tests::machine;
use nodetap_tests::peers::Peer;
use nodetap_tests::server::{Server, answer};
use serde_json::Value;

use crate::support::{direct, program, under_run, without_ports};

#[test]
fn curl_prints_the_same_bytes_and_its_one_exchange_is_recorded() {
    let _machine = machine::shared();
    let server = Server::answering("127.0.0.1:0", answer("some text\n\0\u{1}and more")).unwrap();
    let url = format!("http://{}/a/path?q=%2f", server.address());
    let curl = program("curl", &["-s", "-A", "the agent", &url]);
    let expected = direct(&curl, b"");
    let (finished, run) = under_run(&curl, b"");
    assert_eq!((finished.code(), &finished.out), (0, &expected.out), "{finished:?}");
    let exchanges = run.exchanges().unwrap();
    assert_eq!(exchanges.len(), 1, "{exchanges:?}");
    let record = &exchanges[0];
    assert_eq!(record["direction"], "outbound");
    assert_eq!(record["via"], "transparent");
    assert_eq!(record["process"]["name"], "curl");
    assert_eq!(record["request"]["url"], url);
    assert_eq!(record["server"]["address"], "127.0.0.1");
    assert_eq!(record["server"]["port"], server.address().port());
    assert_eq!(record["response"]["status"], 200);
}

#[test]
fn one_line_for_each_exchange_goes_to_standard_error_and_none_to_standard_output() {
    let _machine = machine::shared();
    let server = Server::answering("127.0.0.1:0", answer("ok")).unwrap();
    let base = format!("http://{}", server.address());
    let (one, two) = (format!("{base}/the-first"), format!("{base}/the-second"));
    let (finished, _run) = under_run(&program("curl", &["-s", &one, &two]), b"");
    assert_eq!(finished.text(), "okok");
    assert_eq!(finished.err.lines().filter(|line| line.contains("/the-first")).count(), 1, "{}", finished.err);
    assert_eq!(finished.err.lines().filter(|line| line.contains("/the-second")).count(), 1, "{}", finished.err);
    assert!(!finished.err.contains('\u{1b}'), "colours without a terminal: {}", finished.err);
}

#[test]
fn the_exit_code_of_a_client_that_failed_is_passed_on() {
    let _machine = machine::shared();
    let server = Server::answering("127.0.0.1:0", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
    let curl = program("curl", &["-sf", &format!("http://{}/", server.address())]);
    let (finished, run) = under_run(&curl, b"");
    assert_eq!(finished.code(), direct(&curl, b"").code(), "{finished:?}");
    assert_eq!(run.exchanges().unwrap()[0]["response"]["status"], 404);
}

/// What a client of this language says under a run must be what it says without one.
fn names_are_the_same(peer: Peer, place: &str, host: &str) {
    let _machine = machine::shared();
    let server = Server::answering(place, answer("body\n")).unwrap();
    let port = server.address().port();
    let call = peer.command(&["connect", host, &port.to_string()]).unwrap();
    let known = [(port, "SERVER")];
    let expected = without_ports(&direct(&call, b"").text(), &known);
    assert!(expected.contains("SERVER") && expected.ends_with("body\n"), "{expected}");
    let (finished, run) = under_run(&call, b"");
    assert_eq!(without_ports(&finished.text(), &known), expected, "{peer:?}: {finished:?}");
    let exchanges: Vec<Value> = run.exchanges().unwrap();
    assert_eq!(exchanges.len(), 1, "{exchanges:?}");
    assert_eq!(exchanges[0]["server"]["address"], server.address().ip().to_string());
    assert_eq!(exchanges[0]["server"]["port"], port);
}

macro_rules! each_language {
    ($($name:ident: $place:literal called as $host:literal;)*) => { $(
        mod $name {
            use super::{Peer, names_are_the_same};

            #[test]
            fn a_c_client_learns_the_names_that_it_learns_without_us() {
                names_are_the_same(Peer::C, $place, $host);
            }

            #[test]
            fn a_go_client_learns_the_names_that_it_learns_without_us() {
                names_are_the_same(Peer::Go, $place, $host);
            }

            #[test]
            fn a_java_client_learns_the_names_that_it_learns_without_us() {
                names_are_the_same(Peer::Java, $place, $host);
            }

            #[test]
            fn a_node_client_learns_the_names_that_it_learns_without_us() {
                names_are_the_same(Peer::Node, $place, $host);
            }

            #[test]
            fn a_python_client_learns_the_names_that_it_learns_without_us() {
                names_are_the_same(Peer::Python, $place, $host);
            }
        }
    )* };
}

each_language! {
    ipv4: "127.0.0.1:0" called as "127.0.0.1";
    ipv6: "[::1]:0" called as "::1";
}

#[test]
fn an_ipv6_socket_that_calls_an_ipv4_address_learns_the_mapped_names() {
    names_are_the_same(Peer::C, "127.0.0.1:0", "::ffff:127.0.0.1");
    names_are_the_same(Peer::Python, "127.0.0.1:0", "::ffff:127.0.0.1");
}

#[test]
fn a_program_that_calls_itself_makes_two_records_of_one_connection() {
    let _machine = machine::shared();
    let text = "import http.server, threading, urllib.request\n\
                class Handler(http.server.BaseHTTPRequestHandler):\n\
                \x20   def do_GET(self):\n\
                \x20       self.send_response(204); self.end_headers()\n\
                \x20   def log_message(self, *_): pass\n\
                server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)\n\
                threading.Thread(target=server.serve_forever, daemon=True).start()\n\
                print(urllib.request.urlopen(f'http://127.0.0.1:{server.server_port}/self').status)\n";
    let (finished, run) = under_run(&crate::support::python(text, &[]), b"");
    assert_eq!(finished.text(), "204\n", "{finished:?}");
    let exchanges = run.exchanges().unwrap();
    let mut directions: Vec<&str> = exchanges.iter().map(|record| record["direction"].as_str().unwrap()).collect();
    directions.sort_unstable();
    assert_eq!(directions, ["inbound", "outbound"], "{exchanges:?}");
}

#[test]
fn what_is_to_be_ignored_is_not_recorded() {
    let _machine = machine::shared();
    let server = Server::answering("127.0.0.1:0", answer("ok")).unwrap();
    let port = server.address().port().to_string();
    let curl = program("curl", &["-s", &format!("http://127.0.0.1:{port}/")]);
    for option in [vec!["--ignore-port", port.as_str()], vec!["--ignore-host", "127.0.0.1"], vec!["--no-outbound"]] {
        let options =
            option.iter().fold(nodetap_tests::run::Options::default(), |options, option| options.option(option));
        let mut run = options.start(&curl).unwrap();
        let finished = run.finish().unwrap();
        assert_eq!((finished.code(), finished.text().as_str()), (0, "ok"), "{option:?}: {finished:?}");
        assert_eq!(run.exchanges().unwrap(), Vec::<Value>::new(), "{option:?}");
    }
}
