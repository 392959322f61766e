//! An upstream that is far away: as much has to be on its way to us as would be to the client.

use nodetap_tests::folder::Folder;
use nodetap_tests::netns::Namespace;
use nodetap_tests::process::{Process, Stream};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{machine, nodetap, origin, peers, proxy};

/// One way, in milliseconds.
const FAR: &str = "25";
/// What is fetched. A window that grew to what the kernel allows (some megabytes) is filled several times.
const BYTES: &str = "30000000";
const UPSTREAM: &str = "10.8.0.1";

/// The most bytes that are on their way at a time while a client in `near` fetches from there.
fn on_their_way(wire: &mut Process, asked: &mut usize, near: &Namespace, address: &str, port: &str) -> u64 {
    let mut most = || {
        wire.write(b"?\n").unwrap();
        *asked += 1;
        let answered = |text: &str| text.lines().nth(*asked).and_then(|line| line.parse::<u64>().ok());
        eventually(DEADLINE, "a number", || answered(&wire.so_far(Stream::Out))).unwrap()
    };
    most();
    let mut fetch = near.enter(origin::python("far.py").unwrap().args(["fetch", address, port]));
    let fetched = Process::start(&mut fetch).unwrap().finish().unwrap();
    assert_eq!(fetched.text().trim(), BYTES, "{}", fetched.err);
    most()
}

#[test]
fn of_an_upstream_that_is_far_away_as_much_is_on_its_way_as_without_us() {
    let _machine = machine::shared();
    let (far, near, folder) = (Namespace::new().unwrap(), Namespace::new().unwrap(), Folder::new().unwrap());
    let ends = [far.name(), "10.8.0.1/24", near.name(), "10.8.0.2/24"];
    let mut wire = Process::start(origin::python("far.py").unwrap().arg("wire").args(ends).arg(FAR)).unwrap();
    wire.line(Stream::Out, "a wire", |line| (line == "ready").then_some(())).unwrap();
    let serve = far.enter(origin::python("far.py").unwrap().args(["serve", UPSTREAM, BYTES]));
    let server = Process::start(&mut { serve }).unwrap();
    let port = peers::port(&server).unwrap().to_string();
    let mut command = nodetap::command(&["proxy", "--reverse", &format!("127.0.0.1:0={UPSTREAM}:{port}"), "--out"]);
    let running = Process::start(&mut near.enter(command.arg(folder.join("out")))).unwrap();
    let ours = proxy::address(&running).unwrap().port().to_string();
    let mut asked = 0;
    // What is told of a program's sockets is remembered for its next ones: the first is for nothing.
    on_their_way(&mut wire, &mut asked, &near, UPSTREAM, &port);
    let direct = on_their_way(&mut wire, &mut asked, &near, UPSTREAM, &port);
    let through = on_their_way(&mut wire, &mut asked, &near, "127.0.0.1", &ours);
    println!("{direct} bytes on their way to the client, {through} to us");
    assert!(through >= direct / 4, "{direct} bytes on their way to the client, {through} to us");
}
