//! Real clients through the forward proxy, by every way that each of them knows: the same answers, the same requests at
//! the server, and records of all of it. Where the proxy is a tunnel, every byte is the same.

use nodetap_tests::clients::Client;
use nodetap_tests::matrix::{self, Asked};
use nodetap_tests::origin::Origin;
use nodetap_tests::process::Process;
use nodetap_tests::proxy::Proxy;
use nodetap_tests::seen::Seen;

/// What a client is told about its proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Requests in absolute form.
    Http,
    /// A tunnel for plain HTTP.
    Connect,
    Socks4,
    Socks4a,
    Socks5,
    /// The proxy is given the name.
    Socks5h,
}

impl Way {
    fn proxy(self, proxy: &Proxy) -> String {
        let scheme = match self {
            Self::Http => "http",
            Self::Connect => "connect",
            Self::Socks4 => "socks4",
            Self::Socks4a => "socks4a",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        };
        format!("{scheme}://{}", proxy.address())
    }

    fn via(self) -> &'static str {
        match self {
            Self::Http => "forward-http",
            Self::Connect => "forward-connect",
            Self::Socks4 | Self::Socks4a => "forward-socks4",
            Self::Socks5 | Self::Socks5h => "forward-socks5",
        }
    }
}

fn asks(client: Client, origin: &mut Origin, proxy: Option<&str>, tunnelled: bool) -> Asked {
    let mut command = client.command(&origin.base(), proxy).unwrap();
    let finished = Process::start(&mut command).unwrap().finish().unwrap();
    Asked::of(&finished, origin, tunnelled).unwrap()
}

/// Asks directly and by every way.
fn through(client: Client, ways: &[Way]) {
    let mut origin = Origin::start().unwrap();
    let mut proxy = Proxy::forward(&["--max-body", "4MiB"]).unwrap();
    let expected = asks(client, &mut origin, None, true);
    let mut sent: Vec<(&str, Vec<Seen>)> = Vec::new();
    for way in ways {
        let tunnelled = *way != Way::Http;
        let asked = asks(client, &mut origin, Some(&way.proxy(&proxy)), tunnelled);
        let seen = asked.seen().unwrap();
        match sent.iter_mut().find(|(via, _)| *via == way.via()) {
            Some((_, before)) => before.extend(seen),
            None => sent.push((way.via(), seen)),
        }
        let comparable = |asked: Asked| match (client, tunnelled) {
            (Client::Git, _) => asked.without_answers(),
            (_, true) => asked,
            (_, false) => asked.by_messages(),
        };
        let differences = comparable(expected.clone()).differences(&comparable(asked));
        assert_eq!(differences, Vec::<String>::new(), "{client:?} {way:?}");
    }
    let records = proxy.records().unwrap();
    for (via, seen) in sent {
        matrix::recorded(&records, via, origin.port(), seen).unwrap();
    }
}

#[test]
fn curl_is_served_by_every_way_that_there_is() {
    through(Client::Curl, &[Way::Http, Way::Connect, Way::Socks4, Way::Socks4a, Way::Socks5, Way::Socks5h]);
}

#[test]
fn curl_is_served_as_to_http2_in_tunnels() {
    through(Client::CurlPriorKnowledge, &[Way::Connect, Way::Socks5]);
}

#[test]
fn curl_upgrades_to_http2_in_tunnels() {
    through(Client::CurlUpgrade, &[Way::Connect, Way::Socks5]);
}

#[test]
fn wget_is_served_as_without_the_proxy() {
    through(Client::Wget, &[Way::Http]);
}

#[test]
fn requests_of_python_is_served_as_without_the_proxy() {
    through(Client::Requests, &[Way::Http, Way::Socks4, Way::Socks5h]);
}

#[test]
fn httpx_is_served_as_without_the_proxy() {
    through(Client::Httpx, &[Way::Http, Way::Socks5]);
}

#[test]
fn aiohttp_is_served_as_without_the_proxy() {
    through(Client::Aiohttp, &[Way::Http, Way::Socks5]);
}

#[test]
fn undici_is_served_as_without_the_proxy() {
    through(Client::Undici, &[Way::Connect]);
}

#[test]
fn http_of_node_is_served_as_without_the_proxy() {
    through(Client::NodeHttp, &[Way::Socks5, Way::Socks5h]);
}

#[test]
fn net_http_of_go_is_served_as_without_the_proxy() {
    through(Client::GoNetHttp, &[Way::Http, Way::Socks5]);
}

#[test]
fn httpclient_of_java_is_served_as_without_the_proxy() {
    through(Client::JavaHttpClient, &[Way::Http]);
}

#[test]
fn urlconnection_of_java_is_served_as_without_the_proxy() {
    through(Client::JavaUrlConnection, &[Way::Http, Way::Socks5]);
}

#[test]
fn git_clones_as_without_the_proxy() {
    through(Client::Git, &[Way::Http, Way::Socks5h]);
}
