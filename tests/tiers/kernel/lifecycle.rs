//! Start, end and everything around them: exit codes, signals, standard input and output, what is left behind, and two
//! runs beside each other.

use std::os::unix::fs::PermissionsExt;

use nodetap_tests::folder::Folder;
use nodetap_tests::peers::{self, Peer};
use nodetap_tests::process::{Process, Stream};
use nodetap_tests::run::Run;
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, leftovers, machine, nodetap};
use rustix::process::Signal;

use crate::support::{program, python, serving, under_run};

#[test]
fn exit_codes_are_those_of_the_command() {
    let _machine = machine::shared();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
        let (finished, _run) = under_run(&program("sh", &["-c", script]), b"");
        assert_eq!(finished.code(), code, "{script}: {finished:?}");
    }
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_that_cannot_be_run_is_126() {
    let _machine = machine::shared();
    let (finished, _run) = under_run(&program("no-such-program-anywhere", &[]), b"");
    assert_eq!(finished.code(), 127, "{finished:?}");
    assert!(finished.err.contains("no-such-program-anywhere"), "{finished:?}");
    let folder = Folder::new().unwrap();
    let file = folder.join("plain.txt");
    std::fs::write(&file, "no program").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (finished, _run) = under_run(&program(file.to_str().unwrap(), &[]), b"");
    assert_eq!(finished.code(), 126, "{finished:?}");
    assert!(finished.err.contains("plain.txt"), "{finished:?}");
}

#[test]
fn without_the_capabilities_it_says_what_grants_them_with_exit_code_77() {
    let _machine = machine::shared();
    let folder = Folder::new().unwrap();
    // Where the tests are built, a user who is nobody may not look.
    let copy = folder.join("nodetap");
    // By another process: what this one has open for writing is open in each child that another test starts meanwhile,
    // and cannot be executed as long (ETXTBSY).
    let copied = program("cp", &[]).arg(nodetap::binary()).arg(&copy).status().unwrap();
    assert!(copied.success(), "{copied}");
    let mut command = program("setpriv", &["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(&copy).args(["run", "--out", "/tmp/nobody-records-here", "--", "true"]).current_dir("/");
    let finished = Process::start(&mut command).unwrap().finish().unwrap();
    assert_eq!(finished.code(), 77, "{finished:?}");
    assert_eq!(finished.err.trim_end().lines().count(), 1, "{finished:?}");
    assert!(finished.err.contains("sudo"), "{finished:?}");
}

#[test]
fn standard_input_and_output_belong_to_the_command() {
    let _machine = machine::shared();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|index| index.to_le_bytes()[index as usize % 3]).collect();
    let mut run = Run::start(&program("cat", &[])).unwrap();
    for piece in bytes.chunks(10_000) {
        run.process.write(piece).unwrap();
    }
    let finished = run.finish().unwrap();
    assert!(finished.out == bytes, "{} bytes of {}", finished.out.len(), bytes.len());
}

#[test]
fn a_signal_reaches_the_command_and_its_answer_is_the_exit_code() {
    let _machine = machine::shared();
    let script = "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut run = Run::start(&program("sh", &["-c", script])).unwrap();
    run.process.line(Stream::Out, "ready", |line| (line == "ready").then_some(())).unwrap();
    let finished = run.stop().unwrap();
    assert_eq!((finished.code(), finished.text().as_str()), (3, "ready\ngot it\n"), "{finished:?}");
}

#[test]
fn control_c_on_a_terminal_reaches_the_command_once() {
    let _machine = machine::shared();
    let folder = Folder::new().unwrap();
    let counter = folder.join("counter.py");
    // A second one would come at once: the command waits half a second for it before it counts.
    let text = "import signal, time\ncount = 0\n\
        def seen(*_):\n    global count\n    count += 1\n\
        signal.signal(signal.SIGINT, seen)\nprint('ready', flush=True)\n\
        while not count: time.sleep(0.01)\n\
        end = time.monotonic() + 0.5\n\
        while time.monotonic() < end: time.sleep(0.01)\n\
        print('interrupted', count, 'times', flush=True)\nraise SystemExit(5)\n";
    std::fs::write(&counter, text).unwrap();
    let out = folder.join("out");
    // `exec`: a shell that waits (dash does) would get the terminal's signal as well and answer 130 in nodetap's place.
    let line = format!(
        "exec {} run --quiet --out {} -- /usr/bin/python3 {}",
        nodetap::binary().display(),
        out.display(),
        counter.display()
    );
    let mut terminal = Process::start(&mut program("script", &["-qec", &line, "/dev/null"])).unwrap();
    terminal.line(Stream::Out, "ready", |line| line.contains("ready").then_some(())).unwrap();
    terminal.write(b"\x03").unwrap();
    let heard =
        terminal.line(Stream::Out, "a count", |line| line.contains("interrupted").then(|| line.to_owned())).unwrap();
    assert!(heard.contains("interrupted 1 times"), "{heard}");
    assert_eq!(terminal.finish().unwrap().code(), 5);
}

#[test]
fn nothing_is_left_behind_at_the_end() {
    let _machine = machine::shared();
    let (mut run, address) = serving(Peer::C, "127.0.0.1", "127.0.0.1");
    let cgroup = run.cgroup().unwrap();
    assert!(cgroup.is_dir());
    http::get(address, "/").unwrap();
    run.stop().unwrap();
    assert!(!cgroup.exists(), "{}", cgroup.display());
    assert!(nodetap_tests::client::connect(address).is_err());
}

#[test]
fn what_a_killed_run_has_left_is_removed_by_a_later_one() {
    let _machine = machine::shared();
    let mut run = Run::start(&program("sleep", &["1000"])).unwrap();
    let command = run.command_pid().unwrap();
    let cgroup = run.cgroup().unwrap();
    run.process.signal(Signal::KILL).unwrap();
    eventually(DEADLINE, "the end of nodetap", || run.process.has_ended().then_some(())).unwrap();
    // A later run must leave a cgroup alone in which somebody still lives.
    under_run(&program("true", &[]), b"");
    assert!(cgroup.is_dir(), "{}", cgroup.display());
    nodetap_tests::process::send(command, Signal::KILL).unwrap();
    let empty = || std::fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|list| list.is_empty()).then_some(());
    eventually(DEADLINE, "an empty cgroup", empty).unwrap();
    under_run(&program("true", &[]), b"");
    assert!(!cgroup.exists(), "{}", cgroup.display());
}

#[test]
fn two_runs_with_servers_on_one_port_of_two_addresses_record_each_their_own() {
    let _machine = machine::shared();
    let (mut one, first) = serving(Peer::Python, "127.0.0.1", "127.0.0.1");
    let port = first.port().to_string();
    let mut other = Run::start(&Peer::Python.command(&["serve", "127.0.0.2", &port]).unwrap()).unwrap();
    other.command_pid().unwrap();
    let second = std::net::SocketAddr::from(([127, 0, 0, 2], peers::port(&other.process).unwrap()));
    assert_eq!(first.port(), second.port());
    for _ in 0..5 {
        http::get(first, "/one").unwrap();
        http::get(second, "/other").unwrap();
    }
    one.stop().unwrap();
    // The other one goes on as it was.
    http::get(second, "/other").unwrap();
    other.stop().unwrap();
    for (run, path, count) in [(&one, "/one", 5), (&other, "/other", 6)] {
        let exchanges = run.exchanges().unwrap();
        assert_eq!(exchanges.len(), count, "{exchanges:?}");
        assert!(
            exchanges.iter().all(|record| record["request"]["url"].as_str().unwrap().ends_with(path)),
            "{exchanges:?}"
        );
    }
}

#[test]
fn nodetap_listens_nowhere_that_another_machine_could_reach() {
    let _machine = machine::shared();
    let (mut run, _) = serving(Peer::C, "127.0.0.1", "127.0.0.1");
    for listener in leftovers::listeners(run.process.pid()) {
        let (address, _) = listener.split_once(':').unwrap();
        // 127.x.y.z as the kernel prints it on a little-endian machine, and ::1.
        let loopback = address.ends_with("7F") || address == "00000000000000000000000001000000";
        assert!(loopback, "{listener}");
    }
    run.stop().unwrap();
}

#[test]
fn three_capabilities_are_enough() {
    let _machine = machine::shared();
    let folder = Folder::new().unwrap();
    // The fourth is for the control group alone, whose folder may be somebody else's.
    let mut lessened = program("setpriv", &["--bounding-set=-all,+bpf,+perfmon,+net_admin,+dac_override"]);
    lessened.arg(nodetap::binary()).args(["run", "--quiet", "--out"]).arg(folder.join("out")).args(["--", "true"]);
    let finished = Process::start(&mut lessened).unwrap().finish().unwrap();
    assert_eq!(finished.code(), 0, "{finished:?}");
    // Without one of them it says which ones it wants.
    let mut lacking = program("setpriv", &["--bounding-set=-all,+bpf,+net_admin,+dac_override"]);
    lacking.arg(nodetap::binary()).args(["run", "--quiet", "--out"]).arg(folder.join("out")).args(["--", "true"]);
    let finished = Process::start(&mut lacking).unwrap().finish().unwrap();
    assert_eq!(finished.code(), 77, "{finished:?}");
    assert!(finished.err.contains("cap_bpf,cap_perfmon,cap_net_admin"), "{finished:?}");
}

#[test]
fn a_command_run_for_another_user_is_that_user() {
    let _machine = machine::shared();
    let folder = Folder::new().unwrap();
    let mut run = nodetap_tests::run::Options::default()
        .option("--user")
        .option("nobody")
        .out(&folder.join("out"))
        .start(&python("import os; print(os.getuid(), os.geteuid(), os.getgroups())", &[]))
        .unwrap();
    let finished = run.finish().unwrap();
    assert_eq!(finished.text(), "65534 65534 [65534]\n", "{finished:?}");
}
