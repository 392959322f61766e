//! A server under `nodetap run`, called from outside: it is recorded, and it cannot tell the difference.

use std::net::SocketAddr;

use nodetap_tests::peers::{self, Peer};
use nodetap_tests::process::Process;
use nodetap_tests::records::eventually_of_kind;
use nodetap_tests::{client, http, machine};
use serde_json::Value;

use crate::support::{serving, without_ports};

/// Calls `address` and returns what the server said of the call, and the address it was called from.
fn called(address: SocketAddr) -> (String, SocketAddr) {
    let stream = client::connect(address).unwrap();
    let own = stream.local_addr().unwrap();
    let body = String::from_utf8(http::get_over(stream, "/who").unwrap()).unwrap();
    (without_ports(&body, &[(own.port(), "CLIENT"), (address.port(), "SERVER")]), own)
}

/// What a server of this language says under a run must be what it says without one.
fn names_are_the_same(peer: Peer, place: &str, call: &str) {
    let _machine = machine::shared();
    let plain = Process::start(&mut peer.command(&["serve", place]).unwrap()).unwrap();
    let (expected, _) = called(SocketAddr::new(call.parse().unwrap(), peers::port(&plain).unwrap()));
    assert!(expected.contains("CLIENT") && expected.contains("SERVER"), "{expected}");

    let (mut run, address) = serving(peer, place, call);
    let (heard, own) = called(address);
    assert_eq!(heard, expected, "{peer:?} at {place} called at {call}");
    let record = eventually_of_kind(run.out(), "exchange", 1).unwrap().remove(0);
    is_inbound(&record, own, address);
    run.stop().unwrap();
}

fn is_inbound(record: &Value, client: SocketAddr, server: SocketAddr) {
    assert_eq!((&record["direction"], &record["via"]), (&"inbound".into(), &"transparent".into()), "{record}");
    assert_eq!(record["client"]["address"], client.ip().to_string(), "{record}");
    assert_eq!(record["client"]["port"], client.port(), "{record}");
    assert_eq!(record["server"]["address"], server.ip().to_string(), "{record}");
    assert_eq!(record["server"]["port"], server.port(), "{record}");
    assert_eq!(record["outcome"], "complete", "{record}");
}

macro_rules! each_family {
    ($($name:ident: $place:literal called at $call:literal;)*) => { $(
        mod $name {
            use super::{Peer, names_are_the_same};

            #[test]
            fn a_c_server_learns_the_names_that_it_learns_without_us() {
                names_are_the_same(Peer::C, $place, $call);
            }

            #[test]
            fn a_go_server_learns_the_names_that_it_learns_without_us() {
                names_are_the_same(Peer::Go, $place, $call);
            }

            #[test]
            fn a_node_server_learns_the_names_that_it_learns_without_us() {
                names_are_the_same(Peer::Node, $place, $call);
            }

            #[test]
            fn a_python_server_learns_the_names_that_it_learns_without_us() {
                names_are_the_same(Peer::Python, $place, $call);
            }
        }
    )* };
}

each_family! {
    ipv4: "127.0.0.1" called at "127.0.0.1";
    ipv6: "::1" called at "::1";
    dual_stack_over_ipv6: "dual" called at "::1";
    dual_stack_over_ipv4: "dual" called at "127.0.0.1";
}

#[test]
fn once_the_server_has_closed_its_listener_connections_are_refused() {
    let _machine = machine::shared();
    for peer in peers::SERVERS {
        let (mut run, address) = serving(peer, "127.0.0.1", "127.0.0.1");
        http::get(address, "/close-listener").unwrap();
        let error = client::connect(address).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{peer:?}: {error}");
        assert!(!run.process.has_ended(), "{peer:?}");
        run.stop().unwrap();
    }
}

#[test]
fn a_client_on_another_loopback_address_keeps_it() {
    let _machine = machine::shared();
    let (mut run, address) = serving(Peer::C, "127.0.0.1", "127.0.0.1");
    let stream = client::connect_from("127.0.0.9:0".parse().unwrap(), address).unwrap();
    let own = stream.local_addr().unwrap();
    let body = String::from_utf8(http::get_over(stream, "/").unwrap()).unwrap();
    assert_eq!(body.matches(&format!("[127.0.0.9]:{}/", own.port())).count(), 2, "{body}");
    run.stop().unwrap();
}

#[test]
fn what_is_called_before_and_after_each_other_is_all_recorded() {
    let _machine = machine::shared();
    let (mut run, address) = serving(Peer::Go, "127.0.0.1", "127.0.0.1");
    for number in 0..50 {
        http::get(address, &format!("/{number}")).unwrap();
    }
    run.stop().unwrap();
    let exchanges = run.exchanges().unwrap();
    let mut urls: Vec<&str> = exchanges.iter().map(|record| record["request"]["url"].as_str().unwrap()).collect();
    urls.sort_unstable();
    urls.dedup();
    assert_eq!((exchanges.len(), urls.len()), (50, 50));
}
