//! A name with an IPv6 address that no route leads to, beside an IPv4 one that is there: programs fall back as they do
//! without us, at the first try. In a network namespace, whose only device is loopback.

use std::process::Command;

use nodetap_tests::folder::Folder;
use nodetap_tests::machine;
use nodetap_tests::netns::Namespace;
use nodetap_tests::peers::{self, Peer};
use nodetap_tests::process::{Finished, Process};
use nodetap_tests::run::Options;

use crate::support::{program, python, without_ports};

const NAME: &str = "both.test";
const IPV4: &str = "10.9.0.1";
/// Documentation addresses: no route here, and none on the machine either.
const IPV6: &str = "2001:db8::1";

/// A namespace with a server at [`IPV4`], and a hosts file that gives [`NAME`] both addresses.
struct Place {
    namespace: Namespace,
    folder: Folder,
    port: String,
    _server: Process,
}

impl Place {
    fn new() -> Self {
        let namespace = Namespace::new().unwrap();
        namespace.ip(&["addr", "add", &format!("{IPV4}/32"), "dev", "lo"]).unwrap();
        let serve = Peer::Go.command(&["serve", IPV4]).unwrap();
        let server = Process::start(&mut namespace.enter(&serve)).unwrap();
        let port = peers::port(&server).unwrap().to_string();
        let folder = Folder::new().unwrap();
        let hosts = format!("127.0.0.1 localhost\n{IPV6} {NAME}\n{IPV4} {NAME}\n");
        std::fs::write(folder.join("hosts"), hosts).unwrap();
        Self { namespace, folder, port, _server: server }
    }

    /// The command with the hosts file in the place of the machine's, in a mount namespace of its own.
    fn with_hosts(&self, command: &Command) -> Command {
        let hosts = self.folder.join("hosts");
        let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
        let mut wrapped = program("unshare", &["-m", "sh", "-c", &script, "sh"]);
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped
    }

    fn both(&self, command: &Command) -> (Finished, Finished) {
        let command = self.with_hosts(command);
        let plain = Process::start(&mut self.namespace.enter(&command)).unwrap().finish().unwrap();
        let mut run = Options::default().in_namespace(&self.namespace.file()).start(&command).unwrap();
        let finished = run.finish().unwrap();
        if plain.code() == 0 {
            let exchanges = run.exchanges().unwrap();
            assert_eq!(exchanges.len(), 1, "{exchanges:?}");
            assert_eq!(exchanges[0]["server"]["address"], IPV4, "{exchanges:?}");
        }
        (plain, finished)
    }
}

fn reaches_the_name_as_without_us(command: &impl Fn(&Place) -> Command) {
    let _machine = machine::shared();
    let place = Place::new();
    let (plain, finished) = place.both(&command(&place));
    assert_eq!(plain.code(), 0, "{plain:?}");
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert_eq!(without_ports(&finished.text(), &[]), without_ports(&plain.text(), &[]));
}

#[test]
fn curl_reaches_a_name_whose_ipv6_address_has_no_route() {
    reaches_the_name_as_without_us(&|place| {
        program("curl", &["-sS", "-o", "/dev/null", &format!("http://{NAME}:{}/", place.port)])
    });
}

#[test]
fn python_reaches_a_name_whose_ipv6_address_has_no_route() {
    reaches_the_name_as_without_us(&|place| Peer::Python.command(&["connect", NAME, &place.port]).unwrap());
}

#[test]
fn go_reaches_a_name_whose_ipv6_address_has_no_route() {
    reaches_the_name_as_without_us(&|place| Peer::Go.command(&["connect", NAME, &place.port]).unwrap());
}

#[test]
fn java_reaches_a_name_whose_ipv6_address_has_no_route() {
    reaches_the_name_as_without_us(&|place| Peer::Java.command(&["connect", NAME, &place.port]).unwrap());
}

#[test]
fn a_program_that_tries_ipv6_first_gets_the_kernels_own_error_for_it() {
    let _machine = machine::shared();
    let place = Place::new();
    let text = "import socket, sys\n\
        for family, host in ((socket.AF_INET6, sys.argv[1]), (socket.AF_INET, sys.argv[2])):\n\
        \x20   s = socket.socket(family)\n\
        \x20   try: s.connect((host, int(sys.argv[3])))\n\
        \x20   except OSError as error: print(error.strerror); continue\n\
        \x20   s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'); print(s.recv(15))\n";
    let (plain, finished) = place.both(&python(text, &[IPV6, IPV4, &place.port]));
    assert!(plain.text().starts_with("Network is unreachable\n"), "{plain:?}");
    assert_eq!(finished.text(), plain.text(), "{finished:?}");
}
