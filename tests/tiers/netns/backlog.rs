//! A client that reads slowly: what it does not take waits with its sender, and hardly any of it in our sockets.

use nodetap_tests::folder::Folder;
use nodetap_tests::netns::Namespace;
use nodetap_tests::process::{Process, Stream};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{machine, nodetap, origin, peers, proxy};

const UPSTREAM: &str = "10.7.0.1";
/// More than the kernel would let wait anywhere.
const BYTES: &str = "100000000";
/// What the client takes before it stops: less and more than one read of a program's.
const SIPS: [&str; 2] = ["1000", "70000"];
/// What may wait in our socket: twice the buffer that it is given. The kernel lets it become 2 to 5 MB.
const WAITING: u64 = 512 << 10;
/// Of so many connections one is bounded: a busy machine may make a server look far.
const TRIES: usize = 5;
/// Looks after one another that find the same.
const SETTLED: u32 = 40;

/// Bytes that a process has not read from its connection to this port, in its network namespace.
fn unread(pid: u32, port: u16) -> Option<u64> {
    let sockets = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    let to = format!("0100070A:{port:04X}");
    // Established: those that have ended are listed for a while.
    let open = |line: &&str| line.split_whitespace().skip(2).take(2).eq([to.as_str(), "01"]);
    let line = sockets.lines().find(open)?;
    let (_, waiting) = line.split_whitespace().nth(4)?.split_once(':')?;
    u64::from_str_radix(waiting, 16).ok()
}

/// What waits when nothing moves any more.
fn waiting(pid: u32, port: u16) -> u64 {
    let (mut last, mut same) = (0, 0);
    eventually(DEADLINE, "that nothing moves", || {
        let now = unread(pid, port)?;
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        (same >= SETTLED).then_some(now)
    })
    .unwrap()
}

#[test]
fn what_a_slow_client_does_not_take_waits_with_its_sender() {
    let _machine = machine::shared();
    let (far, near, folder) = (Namespace::new().unwrap(), Namespace::new().unwrap(), Folder::new().unwrap());
    far.join("10.7.0.1/24", &near, "10.7.0.2/24").unwrap();
    let server = Process::start(&mut far.enter(origin::python("far.py").unwrap().args(["serve", UPSTREAM, BYTES])));
    let server = server.unwrap();
    let port = peers::port(&server).unwrap();
    let mut command = nodetap::command(&["proxy", "--reverse", &format!("127.0.0.1:0={UPSTREAM}:{port}"), "--out"]);
    let running = Process::start(&mut near.enter(command.arg(folder.join("out")))).unwrap();
    let ours = proxy::address(&running).unwrap().port().to_string();
    for sip in SIPS {
        let bounded = || {
            let mut sip = near.enter(origin::python("far.py").unwrap().args(["sip", "127.0.0.1", &ours, sip]));
            let mut client = Process::start(&mut sip).unwrap();
            client.line(Stream::Out, "that it waits", |line| (line == "waits").then_some(())).unwrap();
            let waiting = waiting(running.pid(), port);
            println!("{waiting} bytes wait in our socket");
            client.write(b"\n").unwrap();
            let done = client.finish().unwrap();
            assert!(done.text().ends_with(&format!("{BYTES}\n")), "{done:?}");
            waiting < WAITING
        };
        assert!((0..TRIES).any(|_| bounded()), "a client that took {sip} bytes");
    }
}
