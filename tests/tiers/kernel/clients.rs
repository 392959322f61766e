//! Real clients under a run, steered and tunnelled: every byte is the same, and the records hold all of it.

use nodetap_tests::clients::Client;
use nodetap_tests::machine;
use nodetap_tests::matrix::{self, Asked};
use nodetap_tests::origin::Origin;
use nodetap_tests::run::Options;
use nodetap_tests::{process::Process, records};

/// Asks directly and under a run.
fn under_a_run(client: Client) {
    let _machine = machine::shared();
    let mut origin = Origin::start().unwrap();
    let mut command = client.command(&origin.base(), None).unwrap();
    let finished = Process::start(&mut command).unwrap().finish().unwrap();
    let expected = Asked::of(&finished, &mut origin, true).unwrap();
    let mut run = Options::default().option("--max-body").option("4MiB").start(&command).unwrap();
    let finished = run.finish().unwrap();
    let asked = Asked::of(&finished, &mut origin, true).unwrap();
    let records = records::records(run.out()).unwrap();
    matrix::recorded(&records, "transparent", origin.port(), asked.seen().unwrap()).unwrap();
    let comparable = |asked: Asked| if client == Client::Git { asked.without_answers() } else { asked };
    assert_eq!(comparable(expected).differences(&comparable(asked)), Vec::<String>::new(), "{client:?}");
}

#[test]
fn curl_is_served_and_recorded() {
    under_a_run(Client::Curl);
}

#[test]
fn curl_with_http2_at_once_is_served_and_recorded() {
    under_a_run(Client::CurlPriorKnowledge);
}

#[test]
fn curl_that_upgrades_to_http2_is_served_and_recorded() {
    under_a_run(Client::CurlUpgrade);
}

#[test]
fn wget_is_served_and_recorded() {
    under_a_run(Client::Wget);
}

#[test]
fn requests_of_python_is_served_and_recorded() {
    under_a_run(Client::Requests);
}

#[test]
fn httpx_is_served_and_recorded() {
    under_a_run(Client::Httpx);
}

#[test]
fn httpx_with_http2_is_served_and_recorded() {
    under_a_run(Client::HttpxH2);
}

#[test]
fn aiohttp_is_served_and_recorded() {
    under_a_run(Client::Aiohttp);
}

#[test]
fn fetch_of_node_is_served_and_recorded() {
    under_a_run(Client::Fetch);
}

#[test]
fn undici_is_served_and_recorded() {
    under_a_run(Client::Undici);
}

#[test]
fn net_http_of_go_is_served_and_recorded() {
    under_a_run(Client::GoNetHttp);
}

#[test]
fn httpclient_of_java_is_served_and_recorded() {
    under_a_run(Client::JavaHttpClient);
}

#[test]
fn httpclient_of_java_that_upgrades_to_http2_is_served_and_recorded() {
    under_a_run(Client::JavaUpgrading);
}

#[test]
fn git_clones_and_is_recorded() {
    under_a_run(Client::Git);
}
