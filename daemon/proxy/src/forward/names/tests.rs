//! Against a name server in the test's own process, and files beneath a folder of the test's own.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::mpsc;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tempfile::TempDir;

use super::*;

/// Answers for the names that it knows, and tells what it was asked for.
struct Server {
    port: u16,
    asked: mpsc::Receiver<String>,
}

impl Server {
    fn knowing(known: &'static [(&'static str, [u8; 4])]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let (asked_tx, asked) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let question = query.queries[0].clone();
                let name = question.name().to_string();
                let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
                answer.add_query(question.clone());
                let address = known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, ip)| *ip);
                match (address, question.query_type()) {
                    (Some(address), RecordType::A) => {
                        answer.add_answer(Record::from_rdata(question.name().clone(), 60, RData::A(A(address.into()))));
                    }
                    (Some(_), RecordType::AAAA) if name.starts_with("both.") => {
                        let address = AAAA(Ipv6Addr::LOCALHOST);
                        answer.add_answer(Record::from_rdata(question.name().clone(), 60, RData::AAAA(address)));
                    }
                    (Some(_), RecordType::AAAA) if name == "half-silent." => continue,
                    (Some(_), _) => {}
                    (None, _) if name.ends_with("silent.") => continue,
                    (None, RecordType::AAAA) if name.contains("half-silent-") => continue,
                    (None, RecordType::AAAA) if name.ends_with("half-failing.") => {}
                    (None, _) if name.ends_with("failing.") => answer.metadata.response_code = ResponseCode::ServFail,
                    (None, _) => answer.metadata.response_code = ResponseCode::NXDomain,
                }
                socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
                if question.query_type() == RecordType::A && asked_tx.send(name).is_err() {
                    return;
                }
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.try_iter().collect()
    }
}

fn root(resolv_conf: &str, hosts: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/resolv.conf"), resolv_conf).unwrap();
    fs::write(root.path().join("etc/hosts"), hosts).unwrap();
    root
}

fn names(root: &Path, server: &Server) -> Names {
    Names::beneath(root).on_port(server.port)
}

fn lookup(names: &Names, name: &str) -> Result<Vec<IpAddr>, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(names.lookup(name))
}

fn v4(octets: [u8; 4]) -> Vec<IpAddr> {
    vec![octets.into()]
}

#[test]
fn the_search_list_is_gone_through_as_ndots_says() {
    let server = Server::knowing(&[("web.ns.svc.", [10, 0, 0, 1]), ("a.b.c.", [10, 0, 0, 2])]);
    let root = root("nameserver 127.0.0.1\nsearch ns.svc svc\noptions ndots:2\n", "");
    let names = names(root.path(), &server);
    assert_eq!(lookup(&names, "web").unwrap(), v4([10, 0, 0, 1]));
    assert_eq!(server.asked(), ["web.ns.svc."]);
    // Two dots are enough to be asked for as it is first.
    assert_eq!(lookup(&names, "a.b.c").unwrap(), v4([10, 0, 0, 2]));
    assert_eq!(server.asked(), ["a.b.c."]);
    // One is not.
    assert!(matches!(lookup(&names, "b.c"), Err(Error::NoAddress)));
    assert_eq!(server.asked(), ["b.c.ns.svc.", "b.c.svc.", "b.c."]);
    // Whoever ends a name with a dot means it.
    assert!(matches!(lookup(&names, "web."), Err(Error::NoAddress)));
    assert_eq!(server.asked(), ["web."]);
}

/// Is somebody's failure told, and not that there is no such host?
fn is_failure(found: Result<Vec<IpAddr>, Error>) {
    assert!(matches!(&found, Err(Error::Failed(why)) if why.contains("the name server answered")), "{found:?}");
}

#[test]
fn a_server_that_fails_for_one_name_of_the_search_list_is_asked_for_the_others_and_its_failure_is_told() {
    let server = Server::knowing(&[("web.", [10, 0, 0, 1])]);
    let root = root("nameserver 127.0.0.1\nsearch failing svc\n", "");
    let names = names(root.path(), &server);
    assert_eq!(lookup(&names, "web").unwrap(), v4([10, 0, 0, 1]));
    is_failure(lookup(&names, "other"));
}

#[test]
fn a_failure_for_one_family_is_told_when_the_other_has_nothing() {
    let server = Server::knowing(&[]);
    let root = root("nameserver 127.0.0.1\noptions attempts:1\n", "");
    let names = names(root.path(), &server);
    is_failure(lookup(&names, "a.half-failing"));
}

#[test]
fn a_server_that_fails_or_is_silent_or_not_there_is_followed_by_the_next() {
    let server = Server::knowing(&[("web.", [10, 0, 0, 1])]);
    let failing = UdpSocket::bind(("127.0.0.2", server.port)).unwrap();
    let _silent = UdpSocket::bind(("127.0.0.3", server.port)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = failing.recv_from(&mut buffer) {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            answer.add_query(query.queries[0].clone());
            answer.metadata.response_code = ResponseCode::Refused;
            failing.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    });
    // One that says that it will not is not waited for.
    for (first, patience) in [("127.0.0.2", 30), ("127.0.0.3", 1), ("127.0.0.4", 1)] {
        let root = root(&format!("nameserver {first}\nnameserver 127.0.0.1\noptions rotate timeout:{patience}\n"), "");
        let names = names(root.path(), &server);
        for _ in 0..2 {
            assert_eq!(lookup(&names, "web").unwrap(), v4([10, 0, 0, 1]), "{first}");
        }
    }
}

#[test]
fn addresses_of_one_family_do_not_wait_for_the_others_server_to_speak() {
    let server = Server::knowing(&[("half-silent.", [127, 0, 0, 5])]);
    // Six tries of half a minute each.
    let root = root("nameserver 127.0.0.1\nnameserver 127.0.0.1\nnameserver 127.0.0.1\noptions timeout:30\n", "");
    assert_eq!(lookup(&names(root.path(), &server), "half-silent").unwrap(), v4([127, 0, 0, 5]));
}

#[test]
fn a_silent_server_is_asked_for_the_name_itself_and_not_for_the_rest_of_the_search_list() {
    let server = Server::knowing(&[("web.", [10, 0, 0, 1]), ("web.last.", [10, 0, 0, 2])]);
    let root = root("nameserver 127.0.0.1\nsearch silent last\noptions timeout:1 attempts:1\n", "");
    assert_eq!(lookup(&names(root.path(), &server), "web").unwrap(), v4([10, 0, 0, 1]));
    // The name itself may be what nobody answers for.
    let root = self::root("nameserver 127.0.0.1\nsearch failing known\noptions timeout:1 attempts:1\n", "");
    let server = Server::knowing(&[("a.silent.known.", [10, 0, 0, 3])]);
    assert_eq!(lookup(&names(root.path(), &server), "a.silent").unwrap(), v4([10, 0, 0, 3]));
}

#[test]
fn a_server_that_knows_nothing_of_one_family_and_no_such_name_of_the_other_is_asked_for_the_next_name() {
    // Half a minute for each name of the list otherwise.
    let server = Server::knowing(&[("web.last.", [10, 0, 0, 1])]);
    let root = root("nameserver 127.0.0.1\nsearch half-silent-a half-silent-b last\noptions timeout:30\n", "");
    assert_eq!(lookup(&names(root.path(), &server), "web").unwrap(), v4([10, 0, 0, 1]));
}

#[test]
fn names_that_no_host_may_have_are_asked_for_where_dns_has_them() {
    let server = Server::knowing(&[("my_app_1.ns.svc.", [10, 0, 0, 1])]);
    let root = root("nameserver 127.0.0.1\nsearch ns.svc\n", "");
    let names = names(root.path(), &server);
    assert_eq!(lookup(&names, "my_app_1").unwrap(), v4([10, 0, 0, 1]));
    assert!(matches!(lookup(&names, "a..b"), Err(Error::NoAddress)));
}

#[test]
fn the_hosts_file_comes_first_and_localhost_is_known_without_one() {
    let server = Server::knowing(&[("web.", [10, 0, 0, 1])]);
    let root = root("nameserver 127.0.0.1\n", "10.9.9.9 web\n");
    let names = names(root.path(), &server);
    assert_eq!(lookup(&names, "WEB").unwrap(), v4([10, 9, 9, 9]));
    let local = lookup(&names, "LocalHost").unwrap();
    assert!(local.len() == 2 && local.iter().all(IpAddr::is_loopback), "{local:?}");
    assert_eq!(server.asked(), Vec::<String>::new());
}

#[test]
fn files_that_change_are_read_again() {
    let server = Server::knowing(&[("web.one.", [10, 0, 0, 1]), ("web.two.", [10, 0, 0, 2])]);
    let root = root("nameserver 127.0.0.1\nsearch one\n", "");
    let names = names(root.path(), &server);
    assert_eq!(lookup(&names, "web").unwrap(), v4([10, 0, 0, 1]));
    fs::write(root.path().join("etc/resolv.conf"), "nameserver 127.0.0.1\nsearch two two\n").unwrap();
    assert_eq!(lookup(&names, "web").unwrap(), v4([10, 0, 0, 2]));
    fs::write(root.path().join("etc/hosts"), "10.0.0.3 web\n").unwrap();
    assert_eq!(lookup(&names, "web").unwrap(), v4([10, 0, 0, 3]));
    fs::remove_file(root.path().join("etc/hosts")).unwrap();
    assert_eq!(lookup(&names, "web").unwrap(), v4([10, 0, 0, 2]));
}

#[test]
fn no_link_leads_out_of_the_root_and_nothing_but_a_file_is_opened() {
    let server = Server::knowing(&[("web.", [10, 0, 0, 1])]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("hosts"), "10.6.6.6 web\n").unwrap();
    let root = root("nameserver 127.0.0.1\n", "");
    let hosts = root.path().join("etc/hosts");
    let names = names(root.path(), &server);
    let up = format!("../../../../../../../../..{}", outside.path().join("hosts").display());
    for link in [outside.path().join("hosts"), up.into(), "/proc/self/root/etc/hosts".into()] {
        fs::remove_file(&hosts).unwrap();
        std::os::unix::fs::symlink(&link, &hosts).unwrap();
        assert_eq!(lookup(&names, "web").unwrap(), v4([10, 0, 0, 1]), "{}", link.display());
    }
    // A link that means something beneath the root is followed there.
    fs::remove_file(&hosts).unwrap();
    fs::write(root.path().join("real"), "10.7.7.7 web\n").unwrap();
    std::os::unix::fs::symlink("/real", &hosts).unwrap();
    assert_eq!(lookup(&names, "web").unwrap(), v4([10, 7, 7, 7]));
    // A pipe would be waited for.
    fs::remove_file(&hosts).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &hosts, Mode::RUSR).unwrap();
    assert_eq!(lookup(&names, "web").unwrap(), v4([10, 0, 0, 1]));
}

#[test]
fn both_families_are_asked_for() {
    let server = Server::knowing(&[("both.example.", [127, 0, 0, 5])]);
    let root = root("nameserver 127.0.0.1\n", "");
    let found = lookup(&names(root.path(), &server), "both.example").unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_server_that_is_silent_is_waited_for_as_long_as_the_file_says() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let root = root("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", "");
    let names = Names::beneath(root.path()).on_port(silent.local_addr().unwrap().port());
    let failed = lookup(&names, "web.example.");
    assert!(matches!(failed, Err(Error::TimedOut)), "{failed:?}");
}

#[test]
fn families_take_turns_and_nothing_comes_twice() {
    let a = |text: &str| text.parse::<IpAddr>().unwrap();
    let found = vec![a("127.0.0.1"), a("127.0.0.2"), a("127.0.0.1"), a("::1"), a("127.0.0.3")];
    let turn = Names::beneath("/").in_turn(found);
    assert_eq!(turn.len(), 4, "{turn:?}");
    assert_eq!(turn.iter().filter(|address| address.is_ipv6()).count(), 1);
    assert!(turn[..2].contains(&a("::1")), "{turn:?}");
}
