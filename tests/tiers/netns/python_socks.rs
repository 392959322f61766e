//! The tests that python-socks' authors wrote for their client and proxies of their own, with nodetap in the place of
//! those proxies. They need fixed ports and names: a network namespace and a hosts file of their own.

use std::process::Command;
use std::time::Duration;

use nodetap_tests::folder::{Folder, files};
use nodetap_tests::process::Process;
use nodetap_tests::{installed, machine, nodetap, records};

/// What the suite calls its servers, and resolves in its own process only.
const HOSTS: &str = "127.0.0.1 localhost ip4.target.example.com ip4.proxy.example.com\n\
    ::1 localhost ip6.target.example.com ip6.proxy.example.com\n";
const INSIDE: &str = "ip link set lo up && mount --bind \"$1\" /etc/hosts && cd \"$2\" && shift 2 && exec \"$@\"";

#[test]
fn the_tests_of_python_socks_pass_with_nodetap_in_the_place_of_their_proxies() {
    let _machine = machine::shared();
    let (folder, suite) = (Folder::new().unwrap(), installed::python_socks().unwrap());
    let hosts = folder.join("hosts");
    std::fs::write(&hosts, HOSTS).unwrap();
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--net", "--", "sh", "-c", INSIDE, "sh"]).arg(&hosts).arg(&suite);
    inside.arg(installed::python().unwrap()).args(["-B", "-m", "pytest", "-q", "-p", "nodetap_plugin"]);
    inside.args(["-p", "no:cacheprovider", "-W", "ignore", "--tb=short"]);
    let out = folder.join("out");
    let plugin = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/python_socks");
    inside.env("NODETAP_BIN", nodetap::binary()).env("NODETAP_OUT", &out).env("PYTHONPATH", plugin);
    // The suite's own package, not one that may be installed.
    let finished = Process::start(&mut inside).unwrap().finish_within(Duration::from_secs(120)).unwrap();
    let text = finished.text();
    assert_eq!(finished.code(), 0, "{text}\n{}", finished.err);
    let passed = text.lines().last().and_then(|line| line.split(' ').next()?.parse::<u32>().ok());
    assert!(passed.is_some_and(|passed| passed > 150), "{text}");
    assert!(!files(&out).unwrap().is_empty());
    let socks = records::exchanges(&out.join("4")).unwrap();
    assert!(socks.iter().any(|record| record["via"] == "forward-socks5"), "{socks:?}");
}
