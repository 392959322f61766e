//! The module `netns` with real namespaces: whoever goes in comes back, and what is made inside stays inside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

#[path = "../place/mod.rs"]
mod place;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nodetap::netns::{Hosts, Id, Netns};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use socket2::Domain;

use self::place::Namespace;

fn here() -> Id {
    Id::of(Path::new("/proc/thread-self/ns/net")).unwrap()
}

#[test]
fn a_thread_is_home_again_after_every_visit_however_it_ended() {
    let (one, other) = (Namespace::new(), Namespace::new());
    let (one, other) = (Netns::open(one.file()).unwrap(), Netns::open(other.file()).unwrap());
    let home = here();
    assert_eq!(one.enter(|| Ok(here())).unwrap(), one.id());
    assert_eq!(here(), home);
    let failed: io::Result<()> = one.enter(|| Err(io::Error::other("of the closure")));
    assert_eq!((failed.unwrap_err().to_string().as_str(), here()), ("of the closure", home));
    let panicked = catch_unwind(AssertUnwindSafe(|| one.enter(|| -> io::Result<()> { panic!("of the closure") })));
    assert!(panicked.is_err());
    assert_eq!(here(), home);
    let within = one.enter(|| Ok((other.enter(|| Ok(here()))?, here()))).unwrap();
    assert_eq!((within, here()), ((other.id(), one.id()), home));
    std::thread::spawn(move || assert_eq!(here(), home)).join().unwrap();
}

#[test]
fn a_namespace_is_told_from_others_by_inode_and_by_cookie() {
    let made = Namespace::new();
    let (one, again) = (Netns::open(made.file()).unwrap(), Netns::open(made.file()).unwrap());
    let home = Netns::current().unwrap();
    assert_eq!(one, again);
    assert_ne!(one, home);
    assert_ne!(one.cookie(), home.cookie());
    assert_eq!(home.id(), here());
    let hosts = Hosts::of(Path::new("/proc")).unwrap();
    assert!(hosts.has(home.id()) && !hosts.has(one.id()));
}

#[test]
fn what_is_no_namespace_is_refused() {
    assert!(Netns::open("/nonexistent").unwrap_err().is_gone());
    let error = Netns::open("/proc/self/ns/uts").unwrap_err();
    assert!(!error.is_gone() && error.to_string().contains("cannot enter"), "{error}");
    assert!(Netns::open("/etc/hostname").is_err());
}

#[test]
fn its_addresses_are_those_of_all_its_devices_but_loopback() {
    assert_eq!(Netns::open(Namespace::new().file()).unwrap().addresses().unwrap(), [] as [IpAddr; 0]);
    let made = Namespace::with("10.7.0.1/24");
    made.ip(&["addr", "add", "fd77::1/64", "dev", "eth0", "nodad"]);
    made.ip(&["addr", "add", "10.7.1.1", "peer", "10.7.0.2/32", "dev", "peer"]);
    let found = Netns::open(made.file()).unwrap().addresses().unwrap();
    for address in ["10.7.0.1", "fd77::1", "10.7.1.1"] {
        assert!(found.contains(&address.parse().unwrap()), "{address} in {found:?}");
    }
    assert!(!found.contains(&"10.7.0.2".parse().unwrap()));
}

#[test]
fn sockets_made_inside_speak_there_and_nowhere_else() {
    let made = Namespace::new();
    let netns = Netns::open(made.file()).unwrap();
    for address in ["127.0.0.1:4140", "[::1]:4140", "0.0.0.0:4141", "[::]:4141"] {
        let address: SocketAddr = address.parse().unwrap();
        let listener = netns.listener(address, 16).unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        let taken = netns.listener(address, 16).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let target: IpAddr = if address.is_ipv4() { "127.0.0.1".parse().unwrap() } else { "::1".parse().unwrap() };
        let target = SocketAddr::new(target, address.port());
        netns.socket(Domain::for_address(target)).unwrap().connect(&target.into()).unwrap();
        assert!(TcpStream::connect(target).is_err(), "{target} answers outside");
    }
    // Both families on one port: IPv6 does not take IPv4's.
    let _both = (netns.listener("0.0.0.0:4142".parse().unwrap(), 1), netns.listener("[::]:4142".parse().unwrap(), 1));
    assert!(_both.0.is_ok() && _both.1.is_ok());
}

#[test]
fn a_namespace_that_is_held_outlives_its_name() {
    let made = Namespace::new();
    let netns = Netns::open(made.file()).unwrap();
    drop(made);
    let listener = netns.listener("127.0.0.1:4140".parse().unwrap(), 1).unwrap();
    let address = listener.local_addr().unwrap();
    netns.enter(|| TcpStream::connect(address)).unwrap();
}

/// Much more than it takes: some microseconds.
const VISIT: Duration = Duration::from_micros(200);

#[test]
fn a_visit_costs_microseconds() {
    let made = Namespace::new();
    let netns = Netns::open(made.file()).unwrap();
    const VISITS: u32 = 10_000;
    let begun = Instant::now();
    for _ in 0..VISITS {
        netns.enter(|| Ok(())).unwrap();
    }
    let each = begun.elapsed() / VISITS;
    println!("a visit takes {each:?}");
    bar(each < VISIT, &format!("a visit takes {each:?}"));
}

/// Says to the test below that it is the process that must not survive, and where to go.
const BARRED: &str = "NODETAP_TEST_BARRED";

#[test]
fn a_thread_that_cannot_come_back_ends_the_process() {
    const NAME: &str = "a_thread_that_cannot_come_back_ends_the_process";
    if let Some(file) = std::env::var_os(BARRED) {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        let _away = Netns::open(file).unwrap().enter(|| Ok(set_capabilities(None, sets)?));
        // Not reached. A test that fails would end with another status.
        std::process::exit(0);
    }
    let made = Namespace::new();
    let mut itself = Command::new(std::env::current_exe().unwrap());
    let ended = itself.args(["--exact", NAME, "--nocapture"]).env(BARRED, made.file()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.signal(), Some(rustix::process::Signal::ABORT.as_raw()), "{said}");
    assert!(said.contains("cannot come back from a network namespace"), "{said}");
}

/// A bar that is a time or a share of a processor: it is told always, and held against the clock only where the machine
/// has nothing else to do and `NODETAP_BARS` says so (`cargo xtask soak` does).
pub(crate) fn bar(met: bool, what: &str) {
    eprintln!("bar {}met: {what}", if met { "" } else { "not " });
    assert!(met || std::env::var_os("NODETAP_BARS").is_none(), "{what}");
}
