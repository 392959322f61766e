//! The watching, on folders like those of a cgroup2 mount.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{id, make, uid};
use crate::kubepods::{Counts, Event, Limits, PodUid, Tree};

const SOON: Duration = Duration::from_secs(5);

fn watch(root: &TempDir) -> Tree {
    Tree::watch(root.path(), Limits::default()).unwrap()
}

/// `+ID` and `-ID`, by the last four digits, in order.
fn told(tree: &mut Tree) -> Vec<String> {
    let sign = |event: &Event| match event {
        Event::Appeared(container) => format!("+{}", &container.id.as_str()[60..]),
        Event::Gone(container) => format!("-{}", &container.id.as_str()[60..]),
    };
    tree.events().iter().map(sign).collect()
}

fn known(tree: &mut Tree) -> BTreeSet<String> {
    told(tree).into_iter().collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn what_is_there_is_told_first_for_both_drivers_and_every_class() {
    let root = TempDir::new().unwrap();
    let unit = |number| uid(number).replace('-', "_");
    make(root.path(), &format!("kubepods/pod{}/{}", uid(1), id(1)));
    make(root.path(), &format!("kubepods/burstable/pod{}/{}/container", uid(2), id(2)));
    make(root.path(), &format!("kubepods.slice/kubepods-pod{}.slice/crio-{}.scope/container", unit(3), id(3)));
    make(root.path(), &format!("kubepods.slice/kubepods-pod{}.slice/crio-conmon-{}.scope", unit(3), id(3)));
    let class = "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort";
    make(root.path(), &format!("{class}-pod{}.slice/cri-containerd-{}.scope", unit(4), id(4)));
    make(root.path(), &format!("kubepods-pod{}.slice:cri-containerd:{}", unit(5), id(5)));
    make(root.path(), &format!("user.slice/pod{}/{}", uid(6), id(6)));
    let mut tree = watch(&root);
    assert_eq!(known(&mut tree), set(&["+0001", "+0002", "+0003", "+0004", "+0005"]));
    assert_eq!(tree.folders(&PodUid::parse(&uid(4)).unwrap()).len(), 1);
    assert_eq!(tree.folders(&PodUid::parse(&uid(6)).unwrap()).len(), 0);
    tree.look();
    assert_eq!(known(&mut tree), set(&[]), "nothing is told twice");
}

#[test]
fn a_node_within_a_container_is_found_however_deep() {
    let root = TempDir::new().unwrap();
    let node = format!("system.slice/docker-{}.scope/kubelet.slice/kubelet-kubepods.slice", id(9));
    let unit = uid(1).replace('-', "_");
    make(root.path(), &format!("{node}/kubelet-kubepods-pod{unit}.slice/cri-containerd-{}.scope", id(1)));
    let mut tree = watch(&root);
    assert_eq!(told(&mut tree), ["+0001"]);
    make(root.path(), &format!("{node}/kubelet-kubepods-pod{unit}.slice/cri-containerd-{}.scope", id(2)));
    assert!(tree.wait(SOON));
    assert_eq!(told(&mut tree), ["+0002"]);
    tree.look();
    assert_eq!(told(&mut tree), [] as [String; 0]);
}

#[test]
fn what_appears_and_goes_is_told_in_order() {
    let root = TempDir::new().unwrap();
    let mut tree = watch(&root);
    assert!(!tree.wait(Duration::ZERO));
    // Everything from the uppermost folder on appears at once, as when the kubelet starts.
    let folder = make(root.path(), &format!("kubepods/burstable/pod{}/{}", uid(1), id(1)));
    assert!(tree.wait(SOON));
    assert_eq!(told(&mut tree), ["+0001"]);
    let second = make(root.path(), &format!("kubepods/burstable/pod{}/{}", uid(1), id(2)));
    fs::remove_dir(&folder).unwrap();
    assert_eq!(told(&mut tree), ["+0002", "-0001"]);
    fs::remove_dir(&second).unwrap();
    fs::remove_dir(second.parent().unwrap()).unwrap();
    assert_eq!(told(&mut tree), ["-0002"]);
    assert_eq!(tree.folders(&PodUid::parse(&uid(1)).unwrap()).len(), 0);
    make(root.path(), &format!("kubepods/burstable/pod{}/{}", uid(1), id(3)));
    assert_eq!(told(&mut tree), ["+0003"]);
}

#[test]
fn a_group_of_the_same_name_made_anew_is_another() {
    let root = TempDir::new().unwrap();
    let folder = make(root.path(), &format!("kubepods/pod{}/{}", uid(1), id(1)));
    let mut tree = watch(&root);
    assert_eq!(told(&mut tree), ["+0001"]);
    fs::remove_dir(&folder).unwrap();
    make(root.path(), "between");
    fs::create_dir(&folder).unwrap();
    let told = told(&mut tree);
    assert_eq!(told.last().map(String::as_str), Some("+0001"), "{told:?}");
    assert_eq!(told.first().map(String::as_str), Some("-0001"), "{told:?}");
}

#[test]
fn a_tree_that_vanishes_and_comes_back_is_followed() {
    let root = TempDir::new().unwrap();
    make(root.path(), &format!("kubepods/pod{}/{}", uid(1), id(1)));
    let mut tree = watch(&root);
    assert_eq!(told(&mut tree), ["+0001"]);
    fs::remove_dir_all(root.path().join("kubepods")).unwrap();
    assert_eq!(told(&mut tree), ["-0001"]);
    make(root.path(), &format!("kubepods/pod{}/{}", uid(2), id(2)));
    assert_eq!(told(&mut tree), ["+0002"]);
}

#[test]
fn what_the_kernel_could_not_tell_a_look_does() {
    let root = TempDir::new().unwrap();
    make(root.path(), &format!("kubepods/pod{}/{}", uid(1), id(1)));
    let limits = Limits { watches: 1, ..Limits::default() };
    let mut tree = Tree::watch(root.path(), limits).unwrap();
    assert_eq!(told(&mut tree), ["+0001"], "a folder without a watch is looked into nevertheless");
    assert!(tree.counts().watches_refused > 0);
    make(root.path(), &format!("kubepods/pod{}/{}", uid(2), id(2)));
    fs::remove_dir_all(root.path().join(format!("kubepods/pod{}", uid(1)))).unwrap();
    assert_eq!(told(&mut tree), [] as [String; 0]);
    tree.look();
    assert_eq!(known(&mut tree), set(&["+0002", "-0001"]));
}

#[test]
fn more_changes_than_the_kernel_keeps_are_found_all_the_same() {
    // Thousands of folders: in memory where there is such a place.
    let root = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let mut tree = watch(&root);
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let noise = queue.trim().parse::<u32>().unwrap() / 2 + 1;
    // Two events each; not the same one twice in turn, which the kernel would merge.
    for number in 0..noise {
        let folder = root.path().join(format!("noise{}", number % 7));
        fs::create_dir(&folder).unwrap();
        fs::remove_dir(&folder).unwrap();
    }
    make(root.path(), &format!("kubepods/pod{}/{}", uid(1), id(1)));
    assert_eq!(told(&mut tree), ["+0001"]);
    assert_eq!(tree.counts().overflows, 1);
}

#[test]
fn limits_hold_and_what_they_refused_is_counted() {
    let root = TempDir::new().unwrap();
    for number in 0..5 {
        make(root.path(), &format!("kubepods/pod{}/{}", uid(number), id(number)));
    }
    let mut tree = Tree::watch(root.path(), Limits { pods: 3, containers: 2, watches: 64 }).unwrap();
    assert_eq!(told(&mut tree).len(), 2);
    let counts = tree.counts();
    assert_eq!((counts.pods_refused, counts.containers_refused, counts.watches_refused), (2, 1, 0));
}

#[test]
fn where_nothing_is_mounted_nothing_is_watched() {
    assert!(Tree::watch(Path::new("/nonexistent"), Limits::default()).is_err());
}

#[test]
fn after_much_coming_and_going_no_watch_is_left() {
    let root = TempDir::new().unwrap();
    let mut tree = watch(&root);
    make(root.path(), "kubepods/burstable");
    told(&mut tree);
    let before = tree.watched();
    let (mut appeared, mut gone) = (0, 0);
    for number in 0..500 {
        let pod = make(root.path(), &format!("kubepods/burstable/pod{}", uid(number)));
        fs::create_dir(pod.join(id(number))).unwrap();
        if number % 3 == 0 {
            let told = told(&mut tree);
            appeared += told.iter().filter(|word| word.starts_with('+')).count();
            gone += told.iter().filter(|word| word.starts_with('-')).count();
        }
        fs::remove_dir_all(pod).unwrap();
    }
    let begun = Instant::now();
    for word in told(&mut tree) {
        if word.starts_with('+') { appeared += 1 } else { gone += 1 }
    }
    assert!(begun.elapsed() < SOON);
    assert_eq!(appeared, gone);
    assert!(appeared >= 167, "{appeared}");
    assert_eq!(tree.watched(), before);
}

/// Coming and going, at random but the same every time; enough of it that every order of two changes occurs.
const CHANGES: u32 = 20_000;

#[test]
fn what_was_told_is_what_there_is_whatever_came_and_went() {
    let root = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let mut tree = watch(&root);
    let mut known = BTreeSet::new();
    let mut state = 1u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    for _ in 0..CHANGES {
        let class = ["kubepods", "kubepods/burstable", "kubepods/besteffort"][random(3) as usize];
        let pod = root.path().join(format!("{class}/pod{}", uid(random(3))));
        let container = pod.join(id(random(3)));
        match random(20) {
            0 => drop(fs::remove_dir_all(root.path().join("kubepods"))),
            1 => tree.look(),
            2..5 => drop(fs::remove_dir_all(pod)),
            5..10 => drop(fs::remove_dir(container)),
            _ => drop(fs::create_dir_all(container)),
        }
        if random(4) == 0 {
            follow(&mut tree, &mut known);
        }
    }
    follow(&mut tree, &mut known);
    let mut there = BTreeSet::new();
    for pods in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
        for pod in fs::read_dir(root.path().join(pods)).into_iter().flatten().flatten() {
            let name = pod.file_name();
            let containers = fs::read_dir(pod.path()).into_iter().flatten().flatten();
            there.extend(containers.filter(|_| name.to_str().unwrap().starts_with("pod")).map(|entry| entry.path()));
        }
    }
    assert_eq!(known, there);
    assert_eq!(tree.counts(), Counts::default());
}

/// Nothing appears twice, and nothing goes that had not appeared.
fn follow(tree: &mut Tree, known: &mut BTreeSet<PathBuf>) {
    for event in tree.events() {
        match event {
            Event::Appeared(container) => assert!(known.insert(container.path.clone()), "{container:?}"),
            Event::Gone(container) => assert!(known.remove(&container.path), "{container:?}"),
        }
    }
}
