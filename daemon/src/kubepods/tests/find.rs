//! The search, among processes that exist on paper. No namespace is entered here: a file is none.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{id, make, uid};
use crate::kubepods::{Finder, PodUid, Proc, Why};
use crate::netns;

/// A `/proc` in which process 1 is the node's.
struct Made {
    root: TempDir,
}

impl Made {
    fn new() -> Self {
        let made = Self { root: TempDir::new().unwrap() };
        fs::write(made.root.path().join("node-net"), "").unwrap();
        made.process(1, 1, "0::/init.scope\n", "node-net");
        made
    }

    fn process(&self, pid: u32, started: u64, groups: &str, network: &str) {
        let folder = make(self.root.path(), &format!("proc/{pid}/ns"));
        let network = self.root.path().join(network);
        if !network.exists() {
            fs::write(&network, "").unwrap();
        }
        symlink(network, folder.join("net")).unwrap();
        let folder = folder.parent().unwrap();
        fs::write(folder.join("cgroup"), groups).unwrap();
        let fields = "0 ".repeat(18);
        fs::write(folder.join("stat"), format!("{pid} (name) S {fields}{started} 0 0\n")).unwrap();
    }

    fn group(&self, path: &str, pids: &[u32]) -> PathBuf {
        let folder = make(self.root.path(), path);
        let lines: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        fs::write(folder.join("cgroup.procs"), lines).unwrap();
        folder
    }

    fn find(&self, pod: u32, addresses: &[&str], folders: &[PathBuf]) -> Why {
        let proc = Proc::made_up(&self.root.path().join("proc"));
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let pod = PodUid::parse(&uid(pod)).unwrap();
        Finder::new(proc).unwrap().find(&pod, &addresses, folders).unwrap_err()
    }
}

fn line(pod: u32) -> String {
    format!("0::/kubepods/pod{}/{}\n", uid(pod), id(pod))
}

/// The file that was to be entered: the search got as far as that.
fn tried(why: &Why) -> &Path {
    match why {
        Why::Namespace(netns::Error::Enter { path, .. }) => path,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_without_an_address_waits() {
    let made = Made::new();
    made.process(7, 5, &line(1), "pod-net");
    let why = made.find(1, &[], &[]);
    assert!(matches!(why, Why::NoAddress) && why.is_passing());
}

#[test]
fn a_pod_without_a_process_here_is_said_to_have_none() {
    let made = Made::new();
    made.process(7, 5, &line(2), "pod-net");
    let empty = made.group("kubepods/empty", &[]);
    let why = made.find(1, &["10.0.0.1"], &[empty]);
    assert!(matches!(why, Why::NoProcess) && why.is_passing());
}

#[test]
fn a_pod_in_the_nodes_network_is_never_entered() {
    let made = Made::new();
    made.process(7, 5, &line(1), "node-net");
    let folder = made.group("kubepods/pod", &[7]);
    for folders in [vec![folder], vec![]] {
        let why = made.find(1, &["10.0.0.1"], &folders);
        assert!(matches!(why, Why::HostNetwork), "{why:?}");
    }
}

#[test]
fn the_oldest_process_of_the_pods_own_groups_is_tried_first() {
    let made = Made::new();
    made.process(9, 50, &line(1), "late-net");
    made.process(8, 20, &line(1), "early-net");
    made.process(7, 90, &line(1), "node-net");
    let outer = made.group("kubepods/pod", &[]);
    made.group("kubepods/pod/a", &[9, 7, 0]);
    made.group("kubepods/pod/b/sub", &[8]);
    assert!(tried(&made.find(1, &["10.0.0.1"], &[outer])).ends_with("8/ns/net"));
}

#[test]
fn a_process_that_moved_on_is_not_the_pods_whatever_the_group_says() {
    let made = Made::new();
    made.process(8, 20, &line(2), "other-net");
    let folder = made.group("kubepods/pod", &[8]);
    assert!(matches!(made.find(1, &["10.0.0.1"], &[folder]), Why::NoProcess));
}

#[test]
fn where_a_namespace_hides_the_path_the_group_is_believed() {
    let made = Made::new();
    made.process(8, 20, "0::/../crio-x.scope\n", "pod-net");
    let folder = made.group("kubepods/pod", &[8]);
    assert!(tried(&made.find(1, &["10.0.0.1"], &[folder])).ends_with("8/ns/net"));
}

#[test]
fn without_groups_to_look_into_every_process_is_looked_at() {
    let made = Made::new();
    made.process(8, 20, &line(1), "pod-net");
    made.process(9, 10, &line(2), "other-net");
    assert!(tried(&made.find(1, &["10.0.0.1"], &[])).ends_with("8/ns/net"));
}

#[test]
fn a_process_that_is_gone_is_passed_over() {
    let made = Made::new();
    made.process(8, 20, &line(1), "pod-net");
    fs::remove_file(made.root.path().join("proc/8/ns/net")).unwrap();
    let folder = made.group("kubepods/pod", &[8, 9999]);
    assert!(matches!(made.find(1, &["10.0.0.1"], &[folder]), Why::NoProcess));
}

#[test]
fn a_proc_without_process_1_is_refused() {
    let root = TempDir::new().unwrap();
    assert!(Finder::new(Proc::made_up(root.path())).is_err());
}
