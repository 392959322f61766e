//! The peers are themselves believed: without nodetap they say what the kernel said.

use nodetap_tests::process::Process;
use nodetap_tests::{client, http, peers};

#[test]
fn each_serving_peer_names_the_client_that_called_it() {
    for peer in peers::SERVERS {
        let server = Process::start(&mut peer.command(&["serve", "127.0.0.1"]).unwrap()).unwrap();
        let port = peers::port(&server).unwrap();
        let stream = client::connect(([127, 0, 0, 1], port).into()).unwrap();
        let own = stream.local_addr().unwrap().port();
        let body = String::from_utf8(http::get_over(stream, "/").unwrap()).unwrap();
        assert!(body.contains(&format!(":{own}")) && body.contains(&format!(":{port}")), "{peer:?}: {body}");
    }
}

#[test]
fn each_serving_peer_goes_on_without_its_listener() {
    for peer in peers::SERVERS {
        let mut server = Process::start(&mut peer.command(&["serve", "dual"]).unwrap()).unwrap();
        let address = ([127, 0, 0, 1], peers::port(&server).unwrap()).into();
        http::get(address, "/close-listener").unwrap();
        assert!(client::connect(address).is_err(), "{peer:?}");
        assert!(!server.has_ended(), "{peer:?}");
    }
}
