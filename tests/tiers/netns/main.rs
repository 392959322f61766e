//! What needs network namespaces and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

mod backlog;
mod far;
mod python_socks;

use nodetap_tests::machine;
use nodetap_tests::netns::Namespace;
use nodetap_tests::peers::{self, Peer};
use nodetap_tests::process::Process;

#[test]
fn a_namespace_of_a_test_reaches_itself_and_nothing_else() {
    let _machine = machine::shared();
    let namespace = Namespace::new().unwrap();
    let mut command = namespace.enter(&Peer::Python.command(&["serve", "127.0.0.1"]).unwrap());
    let server = Process::start(&mut command).unwrap();
    let port = peers::port(&server).unwrap().to_string();
    let call = Peer::Python.command(&["connect", "127.0.0.1", &port]).unwrap();
    let inside = Process::start(&mut namespace.enter(&call)).unwrap().finish().unwrap();
    assert_eq!(inside.code(), 0, "{inside:?}");
    let mut outside = Process::start(&mut Peer::Python.command(&["connect", "127.0.0.1", &port]).unwrap()).unwrap();
    assert_ne!(outside.finish().unwrap().code(), 0);
}
